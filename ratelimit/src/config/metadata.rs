//! Free data of a descriptor, from YAML.

use envoy_types::pb::google::protobuf::{ListValue, NullValue, Struct, Value, value::Kind};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value as Json};

/// A map with anything in it; nothing for none.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Struct>, D::Error> {
    Ok(Option::<Map<String, Json>>::deserialize(deserializer)?.map(object))
}

fn object(map: Map<String, Json>) -> Struct {
    Struct { fields: map.into_iter().map(|(key, json)| (key, value(json))).collect() }
}

fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(NullValue::NullValue.into()),
        Json::Bool(bool) => Kind::BoolValue(bool),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(value).collect() }),
        Json::Object(map) => Kind::StructValue(object(map)),
    };
    Value { kind: Some(kind) }
}

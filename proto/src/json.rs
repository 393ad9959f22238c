//! Protobuf's JSON form, both ways, also for what is packed in an `Any` at any depth.
//!
//! Names are lowerCamelCase and defaults are left out, as protobuf's JSON mapping asks; reading takes `snake_case` names too.

use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use prost_reflect::{
    DescriptorError, DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage, SerializeOptions,
    Value as Field,
};
use serde_json::Value;

use crate::descriptors;

/// Why a message did not become JSON, or JSON no message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The embedded descriptor set is broken.
    #[error("reading the descriptor set")]
    Descriptors(#[from] &'static DescriptorError),
    /// No such message in the descriptor set.
    #[error("no message is named `{0}`")]
    UnknownType(String),
    /// The JSON does not fit the message, or an `Any` in the message has a type that nobody knows.
    #[error("converting `{name}` to or from JSON")]
    Json {
        /// Full name of the message.
        name: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The bytes are no such message.
    #[error("decoding `{name}`")]
    Decode {
        /// Full name of the message.
        name: String,
        /// What the decoder says.
        source: prost::DecodeError,
    },
    /// An `Any` in JSON has no `@type`.
    #[error("an object with `@type` is expected")]
    NoType,
}

/// A message as JSON.
pub fn to_json<M: Message + Name>(message: &M) -> Result<Value, Error> {
    encode(&M::full_name(), &message.encode_to_vec())
}

/// A message as JSON with the names of the fields as its `.proto` file has them, `snake_case`, which is how people write
/// Envoy's configuration and patches of it.
pub fn to_json_as_declared<M: Message + Name>(message: &M) -> Result<Value, Error> {
    let name = M::full_name();
    let message = DynamicMessage::decode(descriptor(&name)?, message.encode_to_vec().as_slice())
        .map_err(|source| Error::Decode { name: name.clone(), source })?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| Error::Json { name, source })
}

/// A message from JSON; unknown fields are errors.
pub fn from_json<M: Message + Name + Default>(json: Value) -> Result<M, Error> {
    let name = M::full_name();
    let bytes = decode(&name, json)?;
    M::decode(bytes.as_slice()).map_err(|source| Error::Decode { name, source })
}

/// What an `Any` packs, as JSON with its `@type`.
pub fn any_to_json(any: &Any) -> Result<Value, Error> {
    encode("google.protobuf.Any", &any.encode_to_vec())
}

/// An `Any` from a JSON object with `@type`.
pub fn any_from_json(json: Value) -> Result<Any, Error> {
    if json.get("@type").is_none() {
        return Err(Error::NoType);
    }
    from_json(json)
}

/// JSON of a message that is known by its full name only.
pub fn encode(name: &str, bytes: &[u8]) -> Result<Value, Error> {
    let mut message = DynamicMessage::decode(descriptor(name)?, bytes)
        .map_err(|source| Error::Decode { name: name.to_owned(), source })?;
    leave_out_empty_anys(&mut message);
    serde_json::to_value(&message).map_err(|source| Error::Json { name: name.to_owned(), source })
}

/// Encoded form of a message that is known by its full name only; unknown fields are errors.
pub fn decode(name: &str, json: Value) -> Result<Vec<u8>, Error> {
    let message = DynamicMessage::deserialize(descriptor(name)?, json)
        .map_err(|source| Error::Json { name: name.to_owned(), source })?;
    Ok(message.encode_to_vec())
}

fn descriptor(name: &str) -> Result<MessageDescriptor, Error> {
    descriptors::pool()?.get_message_by_name(name).ok_or_else(|| Error::UnknownType(name.to_owned()))
}

const ANY: &str = "google.protobuf.Any";

/// An `Any` that packs nothing has no JSON. Envoy knows it nevertheless, as a filter's configuration that only says "on".
///
/// Whether there was one is told to the caller, so that what is packed is only packed anew when it changed.
fn leave_out_empty_anys(message: &mut DynamicMessage) -> bool {
    let is_empty_any = |value: &Field| match value {
        Field::Message(inner) if inner.descriptor().full_name() == ANY => {
            inner.get_field_by_name("type_url").is_none_or(|url| url.as_str().is_none_or(str::is_empty))
        }
        _ => false,
    };
    let empty: Vec<FieldDescriptor> =
        message.fields().filter(|(_, value)| is_empty_any(value)).map(|(field, _)| field).collect();
    for field in &empty {
        message.clear_field(field);
    }
    let mut changed = !empty.is_empty();
    for (_, value) in message.fields_mut() {
        changed |= match value {
            Field::Message(inner) => inside(inner),
            Field::List(list) => {
                list.iter_mut().filter_map(Field::as_message_mut).fold(false, |any, one| inside(one) | any)
            }
            Field::Map(map) => {
                map.values_mut().filter_map(Field::as_message_mut).fold(false, |any, one| inside(one) | any)
            }
            _ => false,
        };
    }
    changed
}

/// The same in what an `Any` packs.
fn inside(message: &mut DynamicMessage) -> bool {
    if message.descriptor().full_name() != ANY {
        return leave_out_empty_anys(message);
    }
    let text = message.get_field_by_name("type_url").and_then(|url| url.as_str().map(ToOwned::to_owned));
    let bytes = message.get_field_by_name("value").and_then(|value| value.as_bytes().cloned());
    let packed = text.as_deref().and_then(|url| descriptor(url.rsplit('/').next()?).ok());
    let packed = packed.zip(bytes).and_then(|(packed, bytes)| DynamicMessage::decode(packed, bytes).ok());
    let Some(mut packed) = packed else { return false };
    let changed = leave_out_empty_anys(&mut packed);
    if changed {
        message.set_field_by_name("value", Field::Bytes(packed.encode_to_vec().into()));
    }
    changed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use envoy_types::pb::envoy::config::route::v3::{FilterConfig, Route};
    use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
        HttpConnectionManager, HttpFilter, http_connection_manager::CodecType, http_filter::ConfigType,
    };
    use envoy_types::pb::google::protobuf::Duration;
    use serde_json::json;

    use super::*;
    use crate::messages::{CelMatcher, TypedStruct, pack};

    fn connection_manager() -> HttpConnectionManager {
        let router = HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(ConfigType::TypedConfig(pack(&Router {
                suppress_envoy_headers: true,
                ..Router::default()
            }))),
            ..HttpFilter::default()
        };
        HttpConnectionManager {
            codec_type: CodecType::Http2.into(),
            stat_prefix: "http-80".to_owned(),
            stream_idle_timeout: Some(Duration { seconds: 1, nanos: 500_000_000 }),
            http_filters: vec![router],
            ..HttpConnectionManager::default()
        }
    }

    #[test]
    fn a_connection_manager_round_trips_with_its_nested_filter() {
        let json = to_json(&connection_manager()).unwrap();
        assert_eq!(
            json,
            json!({
                "codecType": "HTTP2",
                "statPrefix": "http-80",
                "streamIdleTimeout": "1.500s",
                "httpFilters": [{
                    "name": "envoy.filters.http.router",
                    "typedConfig": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                        "suppressEnvoyHeaders": true,
                    },
                }],
            })
        );
        assert_eq!(from_json::<HttpConnectionManager>(json).unwrap(), connection_manager());
    }

    #[test]
    fn an_any_in_an_any_round_trips() {
        let any = pack(&connection_manager());
        let json = any_to_json(&any).unwrap();
        assert_eq!(json["httpFilters"][0]["typedConfig"]["suppressEnvoyHeaders"], true);
        assert_eq!(any_from_json(json).unwrap(), any);
    }

    #[test]
    fn an_any_that_packs_nothing_is_left_out() {
        let on = FilterConfig { config: Some(Any::default()), ..FilterConfig::default() };
        let route = Route { typed_per_filter_config: [("x".to_owned(), pack(&on))].into(), ..Route::default() };
        let json = to_json(&route).unwrap();
        let filter_config = json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig"});
        assert_eq!(json, json!({"typedPerFilterConfig": {"x": filter_config}}));
    }

    #[test]
    fn snake_case_names_are_read_too() {
        let read: HttpConnectionManager = from_json(json!({"stat_prefix": "x"})).unwrap();
        assert_eq!(read.stat_prefix, "x");
    }

    #[test]
    fn our_own_messages_round_trip_in_an_any() {
        let value = from_json(json!({"a": [1.0, "b"]})).unwrap();
        let typed = TypedStruct { type_url: "type.googleapis.com/x.Y".to_owned(), value: Some(value) };
        let cel = CelMatcher { expr_match: None, description: "d".to_owned() };
        for any in [pack(&typed), pack(&cel)] {
            assert_eq!(any_from_json(any_to_json(&any).unwrap()).unwrap(), any);
        }
    }

    #[test]
    fn unknown_fields_and_types_are_errors_that_name_them() {
        let error = from_json::<HttpConnectionManager>(json!({"nonsense": 1})).unwrap_err();
        assert!(matches!(&error, Error::Json { source, .. } if source.to_string().contains("nonsense")), "{error:?}");
        assert!(any_from_json(json!({"@type": "type.googleapis.com/no.Such"})).is_err());
        assert!(matches!(any_from_json(json!({})), Err(Error::NoType)));
        assert!(matches!(encode("no.Such", &[]), Err(Error::UnknownType(name)) if name == "no.Such"));
    }
}

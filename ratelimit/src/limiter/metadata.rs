//! What Envoy is told in `dynamic_metadata`: the request, and what its rules carry.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::{
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::RateLimitOverride},
        service::ratelimit::v3::RateLimitRequest,
    },
    google::protobuf::{ListValue, Struct, Value, value::Kind},
};

use crate::config::{Rule, Unit};

/// `domain`, `descriptors`, `hitsAddend` as the request has them, and `metadata` of the rules; of two rules with one field,
/// the later descriptor's wins.
pub(super) fn of<'r>(request: &RateLimitRequest, passed: impl Iterator<Item = &'r Rule>) -> Struct {
    let mut metadata: HashMap<String, Value> = HashMap::new();
    for rule in passed.filter_map(|rule| rule.metadata.as_deref()) {
        metadata.extend(rule.fields.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let mut fields = vec![
        ("domain", text(request.domain.clone())),
        ("descriptors", list(request.descriptors.iter().map(descriptor))),
    ];
    if request.hits_addend != 0 {
        fields.push(("hitsAddend", number(request.hits_addend.into())));
    }
    if !metadata.is_empty() {
        fields.push(("metadata", value(Kind::StructValue(Struct { fields: metadata }))));
    }
    object(fields)
}

fn descriptor(descriptor: &RateLimitDescriptor) -> Value {
    let entries = descriptor.entries.iter().map(|entry| text(format!("{}={}", entry.key, entry.value)));
    let mut fields = vec![("entries", list(entries))];
    if let Some(limit) = &descriptor.limit {
        fields.push(("limit", text(limit_text(*limit))));
    }
    if let Some(hits) = &descriptor.hits_addend {
        #[expect(clippy::cast_precision_loss, reason = "a number in a Struct is a double")]
        fields.push(("hitsAddend", number(hits.value as f64)));
    }
    value(Kind::StructValue(object(fields)))
}

/// In protobuf's text format, where what is zero is left out.
fn limit_text(limit: RateLimitOverride) -> String {
    let requests = (limit.requests_per_unit != 0).then(|| format!("requests_per_unit:{}", limit.requests_per_unit));
    let unit = Unit::from_number(limit.unit).map(|unit| format!("unit:{unit}"));
    requests.into_iter().chain(unit).collect::<Vec<_>>().join(" ")
}

fn object(fields: Vec<(&str, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

fn list(values: impl Iterator<Item = Value>) -> Value {
    value(Kind::ListValue(ListValue { values: values.collect() }))
}

fn text(text: String) -> Value {
    value(Kind::StringValue(text))
}

fn number(number: f64) -> Value {
    value(Kind::NumberValue(number))
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

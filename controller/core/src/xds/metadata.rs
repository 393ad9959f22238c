//! Where a piece of configuration comes from, told to Envoy's access logs, stats and admin pages.

use std::collections::{BTreeMap, HashMap};

use envoy_types::pb::{
    envoy::config::core::v3::Metadata,
    google::protobuf::{ListValue, Struct, Value, value::Kind},
};

use super::name;
use crate::ir::{ObjectRef, Origin};

/// A text value.
pub(crate) fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

/// A structure of text values.
pub(crate) fn structure<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect() }
}

fn object(object: &ObjectRef, section: Option<&str>, annotations: &BTreeMap<String, String>) -> Value {
    let mut fields =
        structure([("kind", object.kind), ("namespace", object.namespace.as_str()), ("name", object.name.as_str())]);
    if let Some(section) = section {
        fields.fields.insert("sectionName".into(), text(section));
    }
    if !annotations.is_empty() {
        let annotations = structure(annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        fields.fields.insert("annotations".into(), Value { kind: Some(Kind::StructValue(annotations)) });
    }
    Value { kind: Some(Kind::StructValue(fields)) }
}

fn metadata(lists: impl IntoIterator<Item = (&'static str, Value)>) -> Metadata {
    let fields = lists
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value { kind: Some(Kind::ListValue(ListValue { values: vec![value] })) }))
        .collect();
    Metadata { filter_metadata: HashMap::from([(name::METADATA.to_owned(), Struct { fields })]), ..Default::default() }
}

/// What comes from one object, or a section of it.
pub(crate) fn of(resource: &ObjectRef, section: Option<&str>, annotations: &BTreeMap<String, String>) -> Metadata {
    metadata([("resources", object(resource, section, annotations))])
}

/// What comes from a backendRef.
pub(crate) fn origin(origin: &Origin) -> Metadata {
    of(&origin.object, origin.section.as_deref(), &BTreeMap::new())
}

/// What comes from a route's rule and the policy in force on it.
pub(crate) fn route(route: &crate::ir::HttpRoute) -> Metadata {
    let resource = object(&route.route, route.rule_name.as_deref(), &route.metadata);
    let policy = route.traffic.as_ref().map(|traffic| object(&traffic.policy, None, &BTreeMap::new()));
    metadata([("resources", resource)].into_iter().chain(policy.map(|policy| ("policies", policy))))
}

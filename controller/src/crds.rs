//! `controller crds`: what the API server has to know before it takes our own kinds.

use std::io::{self, Write};

use controller_api::{
    backend::Backend, backend_traffic_policy::BackendTrafficPolicy, envoy_proxy::EnvoyProxy,
    http_route_filter::HttpRouteFilter, security_policy::SecurityPolicy,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

/// The kinds of the group `gateway.envoyproxy.io` that the controller reads.
fn all() -> Vec<CustomResourceDefinition> {
    vec![Backend::crd(), BackendTrafficPolicy::crd(), EnvoyProxy::crd(), HttpRouteFilter::crd(), SecurityPolicy::crd()]
}

/// Writes them as YAML documents.
pub fn print(output: &mut impl Write) -> io::Result<()> {
    for crd in all() {
        let mut crd = serde_json::to_value(&crd)?;
        if let Some(Value::Array(versions)) = crd.pointer_mut("/spec/versions") {
            for version in versions {
                version.pointer_mut("/schema/openAPIV3Schema").into_iter().for_each(make_structural);
            }
        }
        let text = serde_saphyr::to_string(&crd).map_err(io::Error::other)?;
        write!(output, "---\n{text}")?;
    }
    Ok(())
}

/// Adds what the API server demands of a schema, and takes away what it would write into every object.
fn make_structural(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    // A field that may hold anything, which the translation looks at by itself.
    if !fields.contains_key("type") && !fields.contains_key("x-kubernetes-int-or-string") {
        fields.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
    }
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    if fields.get("default").is_some_and(is_empty) {
        fields.remove("default");
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(make_structural);
    }
    for inner in ["items", "additionalProperties"] {
        fields.get_mut(inner).into_iter().for_each(make_structural);
    }
}

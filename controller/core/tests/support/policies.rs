//! Two Gateways and a route, the policies of a test, and what became of them.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use controller_core::{Settings, Snapshot, Translation, ir::HttpRoute, translate};
use serde_json::{Value, json};

/// Two Gateways, the first with two listeners, and a route with two rules on all of them.
pub(crate) const BASE: &str = r"
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: eg},
 spec: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: gw, namespace: default},
 spec: {gatewayClassName: eg, listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 81, protocol: HTTP}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: other, namespace: default},
 spec: {gatewayClassName: eg, listeners: [{name: a, port: 80, protocol: HTTP}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: app, namespace: default, labels: {team: x}},
 spec: {parentRefs: [{name: gw}, {name: other}], rules: [
  {name: one, matches: [{path: {value: /one}}], backendRefs: [{name: svc, port: 80}]},
  {name: two, matches: [{path: {value: /two}}], backendRefs: [{name: svc, port: 80}]}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: plain, namespace: default},
 spec: {parentRefs: [{name: gw, sectionName: a}], rules: [
  {matches: [{path: {value: /plain}}], backendRefs: [{name: svc, port: 80}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: svc, namespace: default}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {name: svc, namespace: default, labels: {kubernetes.io/service-name: svc}},
 ports: [{name: http, port: 8080, protocol: TCP}], endpoints: [{addresses: [10.0.0.1]}]}
---
{apiVersion: v1, kind: Secret, metadata: {name: keys, namespace: default, annotations: {tollgate.dev/tier: gold}},
 stringData: {alice: secret-of-alice}}
";

pub(crate) fn objects(yaml: &str) -> Vec<Value> {
    let documents = yaml.split("\n---\n").filter(|document| !document.trim().is_empty());
    documents.map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

pub(crate) fn translated_with(settings: &Settings, policies: impl IntoIterator<Item = Value>) -> Translation {
    let mut snapshot = Snapshot::default();
    for object in objects(BASE).into_iter().chain(policies) {
        snapshot.insert(object).unwrap();
    }
    translate(&snapshot, settings)
}

pub(crate) fn translated(policies: impl IntoIterator<Item = Value>) -> Translation {
    translated_with(&Settings::default(), policies)
}

pub(crate) fn policy(kind: &str, name: &str, spec: &str) -> Value {
    json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": serde_saphyr::from_str::<Value>(&format!("{{{spec}}}")).unwrap(),
    })
}

pub(crate) fn traffic(name: &str, spec: &str) -> Value {
    policy("BackendTrafficPolicy", name, spec)
}

pub(crate) fn security(name: &str, spec: &str) -> Value {
    policy("SecurityPolicy", name, spec)
}

pub(crate) fn target(kind: &str, name: &str, section: &str) -> String {
    let section = if section.is_empty() { String::new() } else { format!(", sectionName: {section}") };
    format!("targetRefs: [{{group: gateway.networking.k8s.io, kind: {kind}, name: {name}{section}}}]")
}

pub(crate) fn routes(translation: &Translation) -> Vec<(String, &HttpRoute)> {
    let listeners = translation.proxies.values().flat_map(|proxy| &proxy.ir.http);
    listeners.flat_map(|listener| listener.routes.iter().map(|route| (listener.name.clone(), route))).collect()
}

pub(crate) fn route<'t>(translation: &'t Translation, listener: &str, name: &str) -> &'t HttpRoute {
    let found = routes(translation).into_iter().find(|(on, route)| on == listener && route.name.starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} on {listener}")).1
}

/// `section|type=status/reason: message` of each condition of a policy.
pub(crate) fn conditions(translation: &Translation, name: &str) -> Vec<String> {
    let status = translation.statuses.iter().find(|status| status.name == name).unwrap();
    let status = status.status.value();
    let ancestors = status["ancestors"].as_array().unwrap();
    let of = |ancestor: &Value| {
        let reference = &ancestor["ancestorRef"];
        let section = reference["sectionName"].as_str().map(|section| format!("/{section}")).unwrap_or_default();
        let gateway = format!("{}{section}", reference["name"].as_str().unwrap());
        let conditions = ancestor["conditions"].as_array().unwrap().iter();
        let text = |condition: &Value, field: &str| condition[field].as_str().unwrap().to_owned();
        let describe = |one: &Value| {
            let [kind, status, reason, message] = ["type", "status", "reason", "message"].map(|field| text(one, field));
            format!("{gateway}|{kind}={status}/{reason}: {message}")
        };
        conditions.map(describe).collect::<Vec<_>>()
    };
    ancestors.iter().flat_map(of).collect()
}

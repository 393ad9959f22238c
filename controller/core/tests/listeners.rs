//! What listeners make of the routes that they have, now and after changes.

#![allow(clippy::unwrap_used)]

use controller_core::{Memo, Settings, Snapshot, translate};
use serde_json::{Value, json};

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

fn route(name: &str, listener: &str) -> Value {
    json!({"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": {"name": name}, "spec": {
        "parentRefs": [{"name": "eg", "sectionName": listener}],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": format!("/{name}")}}]}]}})
}

fn tokens(name: &str) -> Value {
    let provider = json!({"name": name, "issuer": format!("https://{name}.example"),
        "remoteJWKS": {"uri": "https://issuer.example/jwks"}});
    let target = json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name});
    json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy", "metadata": {"name": name},
        "spec": {"targetRefs": [target], "jwt": {"providers": [provider]}}})
}

fn gateway(ports: [u16; 3]) -> Value {
    let listener =
        |(name, port)| json!({"name": name, "port": port, "protocol": "HTTP", "hostname": format!("{name}.example")});
    let listeners: Vec<Value> = ["a", "b", "c"].into_iter().zip(ports).map(listener).collect();
    json!({"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": {"name": "eg"},
        "spec": {"gatewayClassName": "eg", "listeners": listeners}})
}

#[test]
fn a_listener_verifies_the_tokens_of_routes_that_move_there() {
    let class = json!({"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": "eg"},
        "spec": {"controllerName": Settings::default().controller_name}});
    let routes = [route("r1", "a"), route("r2", "b"), route("r3", "b"), route("r4", "c")];
    let policies = ["r1", "r2", "r3", "r4"].map(tokens);
    let mut snapshot = Snapshot::default();
    for object in [class, gateway([80, 81, 81])].into_iter().chain(routes).chain(policies) {
        snapshot.insert(object).unwrap();
    }
    let (mut memo, settings) = (Memo::default(), Settings::default());
    memo.translate(&snapshot, &settings);
    // In the same order, a route is on another listener; then a listener is on another port.
    for change in [route("r2", "a"), gateway([80, 80, 81])] {
        snapshot.insert(change).unwrap();
        let (warm, cold) = (memo.translate(&snapshot, &settings), translate(&snapshot, &settings));
        assert!(!cold.decisions.is_empty());
        assert_eq!(warm.proxies["default/eg"].resources, cold.proxies["default/eg"].resources);
    }
}

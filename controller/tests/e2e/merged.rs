//! Gateways that share an Envoy.

use crate::standalone::{Manifests, Standalone};

const CONTROLLER: &str = "  controllerName: gateway.envoyproxy.io/gatewayclass-controller\n";
const PARAMETERS: &str =
    "  parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: shared, namespace: default}\n";
const SHARED: &str = r"
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {name: shared}
spec: {mergeGateways: true}
";
const SHOP: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: shop, creationTimestamp: '2026-11-22T00:00:00Z'}
spec:
  gatewayClassName: eg
  listeners:
  - {name: shop, protocol: HTTP, port: 80, hostname: shop.example.net}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: shop}]
  rules:
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-served-by, value: shop}]}}]
    backendRefs: [{name: backend, port: 3000}]
";
const OLDER: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: older}
spec:
  parentRefs: [{name: eg}]
  hostnames: [older.example.net, shop.example.net]
  rules: [{backendRefs: [{name: backend, port: 3000}]}]
";

#[tokio::test]
async fn gateways_that_share_an_envoy_share_its_ports() {
    let manifests = Manifests::of("quickstart");
    manifests.replace("gateway.yaml", CONTROLLER, &format!("{CONTROLLER}{PARAMETERS}"));
    for (name, text) in [("shared.yaml", SHARED), ("shop.yaml", SHOP), ("older.yaml", OLDER)] {
        manifests.write(name, text);
    }
    let gateways = Standalone::start(manifests).await;
    let ready = gateways.ready().unwrap();
    let fleets: Vec<&str> =
        ready["gateways"].as_array().unwrap().iter().map(|fleet| fleet["name"].as_str().unwrap()).collect();
    assert_eq!(fleets, ["eg"], "one Envoy, known by the class");

    // Each host is its own Gateway's, even where a route of another one names it.
    let shop = gateways.get("shop.example.net", "/", &[]).await;
    assert_eq!(shop.header("x-served-by"), "shop");
    let older = gateways.get("older.example.net", "/", &[]).await;
    assert_eq!((older.status, older.header("x-served-by")), (200, ""));

    // When one of them goes, the others stay, in the same Envoy, and have what it had.
    let envoy = gateways.envoy();
    gateways.manifests().remove("shop.yaml");
    crate::tool::eventually("the host is the other Gateway's", async || {
        let answer = gateways.try_get("shop.example.net", "/", &[]).await.ok()?;
        (answer.status == 200 && answer.header("x-served-by").is_empty()).then_some(())
    })
    .await;
    assert_eq!(gateways.envoy(), envoy);
}

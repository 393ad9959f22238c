//! A real Envoy in both variants of ADS.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::api_config_source::ApiType;

use crate::{
    api_server::{ApiServer, free_port},
    controller::{Controller, manifests, route},
    http::get,
    refusals::Envoy,
    tool::eventually,
};

/// A circuit breaker, which makes the cluster another one, and its endpoints no others.
fn connections(name: &str, most: u32) -> String {
    format!(
        r"
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {{name: app, namespace: {name}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: app}}]
  circuitBreaker: {{maxConnections: {most}}}
"
    )
}

/// Waits until Envoy says so of its clusters.
async fn until(admin: SocketAddr, line: &str, is_there: bool) {
    eventually(&format!("{line}: {is_there}"), async || {
        let answer = get(admin, "admin", "/clusters", &[]).await.ok()?;
        (answer.body.lines().any(|one| one.starts_with(line)) == is_there).then_some(())
    })
    .await;
}

async fn what_changes_arrives(name: &str, variant: ApiType) {
    let server = ApiServer::shared().await;
    server.apply(&manifests(name)).await;
    let controller = Controller::start(&server, name, &[]).await;
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _envoy = Envoy::start_with(controller.xds, &format!("{name}/{name}"), admin, variant);
    let line = |route: &str, what: &str| format!("httproute/{name}/{route}/rule/0::{what}");
    until(admin, &line("app", "192.0.2.1:8080::"), true).await;

    server.apply(&manifests(name).replace("[192.0.2.1]", "[192.0.2.2, 192.0.2.3]")).await;
    until(admin, &line("app", "192.0.2.3:8080::"), true).await;
    until(admin, &line("app", "192.0.2.1:8080::"), false).await;
    server.apply(&connections(name, 77)).await;
    until(admin, &line("app", "default_priority::max_connections::77"), true).await;
    until(admin, &line("app", "192.0.2.3:8080::"), true).await;

    server.apply(&route(name, "other", name)).await;
    until(admin, &line("other", "192.0.2.3:8080::"), true).await;
    server.delete(&route(name, "app", name)).await;
    until(admin, &line("app", ""), false).await;
    until(admin, &line("other", "192.0.2.3:8080::"), true).await;
    eventually("Envoy holds the latest", async || {
        let envoys = controller.debug("/debug/envoys").await;
        (envoys[0]["current"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_changes_arrives_by_deltas() {
    what_changes_arrives("by-deltas", ApiType::DeltaGrpc).await;
}

#[tokio::test]
async fn what_changes_arrives_as_the_state_of_the_world() {
    what_changes_arrives("by-state", ApiType::Grpc).await;
}

//! What stands in statuses, and who wrote it when.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    controller::{Controller, controller_name, manifests, route},
    xds::Envoy,
};

const ACCEPTED: [&str; 3] = ["Accepted", "True", "Accepted"];

#[tokio::test]
async fn c04_statuses_are_written_and_an_idle_cluster_sees_no_write() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("told")).await;
    let controller = Controller::start(&server, "told", &[]).await;
    let written = server.until_condition("HTTPRoute", "told", "app", ACCEPTED).await;
    let parent = &written["status"]["parents"][0];
    assert_eq!(parent["controllerName"], controller_name("told"));
    assert_eq!(parent["conditions"][0]["observedGeneration"], 1);
    // Its Envoys were asked for, and nobody runs them here.
    server.until_condition("Gateway", "told", "told", ["Programmed", "False", "AddressNotAssigned"]).await;
    server.until_condition("GatewayClass", "", "told", ACCEPTED).await;

    // Something else changes, so that everything is translated again; and once more from the beginning.
    let writes = server.status_writes("told").len();
    let mut envoy = Envoy::connect(controller.xds, "told/told").await;
    envoy.until("httproute/told/app/rule/0", true).await;
    server.apply(&route("told", "second", "told")).await;
    server.until_condition("HTTPRoute", "told", "second", ACCEPTED).await;
    drop(controller);
    let again = Controller::start(&server, "told", &["--identity", "again", "--lease-seconds", "2"]).await;
    server.delete(&route("told", "second", "told")).await;
    let mut envoy = Envoy::connect(again.xds, "told/told").await;
    envoy.until("httproute/told/app/rule/0", true).await;
    let after = server.find("HTTPRoute", "told", "app").await.unwrap();
    assert_eq!(after["metadata"]["resourceVersion"], written["metadata"]["resourceVersion"]);

    // The second route, and the Gateway that counts it.
    let later = server.status_writes("told").split_off(writes);
    let objects: Vec<&Value> = later.iter().map(|entry| &entry["objectRef"]["resource"]).collect();
    assert!(objects.iter().filter(|resource| ***resource == json!("httproutes")).count() <= 1, "{objects:?}");
    assert!(objects.len() <= 3, "{objects:?}");
    let writes = server.status_writes("told").len();
    assert!(envoy.is_left_alone(Duration::from_secs(3)).await);
    assert!(server.status_writes("told").len() <= writes + 1);
}

//! What goes on when the API server, the leader or the data is lost.

use std::time::Duration;

use serde_json::json;

use crate::{
    api_server::{ApiServer, has_condition},
    controller::{Controller, controller_name, manifests, route},
    tool::{eventually, signal},
    xds::Envoy,
};

const ACCEPTED: [&str; 3] = ["Accepted", "True", "Accepted"];

fn cluster(name: &str, route: &str) -> String {
    format!("httproute/{name}/{route}/rule/0")
}

#[tokio::test]
async fn c01_the_api_server_may_go_and_come_back() {
    let server = ApiServer::start().await;
    server.apply(&manifests("away")).await;
    let state = tempfile::tempdir().unwrap();
    let arguments = ["--state", state.path().to_str().unwrap()];
    let controller = Controller::start(&server, "away", &arguments).await;
    let mut envoy = Envoy::connect(controller.xds, "away/away").await;
    envoy.until(&cluster("away", "app"), true).await;
    server.until_condition("HTTPRoute", "away", "app", ACCEPTED).await;
    let file = state.path().join("controller.state");
    eventually("what is served is kept", async || file.exists().then_some(())).await;

    // Whoever connects while it is away is served, also by a controller that starts meanwhile.
    server.kill();
    Envoy::connect(controller.xds, "away/away").await.until(&cluster("away", "app"), true).await;
    let late = Controller::start(&server, "away", &[&arguments[..], &["--identity", "late"]].concat()).await;
    Envoy::connect(late.xds, "away/away").await.until(&cluster("away", "app"), true).await;
    let none = tempfile::tempdir().unwrap();
    let arguments = ["--identity", "empty", "--state", none.path().to_str().unwrap()];
    let empty = Controller::start(&server, "away", &arguments).await;
    assert!(!empty.is_ready().await);

    // What changes afterwards arrives at all of them, and nothing has been taken away in between.
    server.restart().await;
    server.apply(&route("away", "second", "away")).await;
    for replica in [&controller, &late, &empty] {
        let mut envoy = Envoy::connect(replica.xds, "away/away").await;
        envoy.until(&cluster("away", "second"), true).await;
        assert!(envoy.clusters.contains_key(&cluster("away", "app")));
    }
    envoy.until(&cluster("away", "second"), true).await;
    assert!(envoy.clusters.contains_key(&cluster("away", "app")));
    server.until_condition("HTTPRoute", "away", "second", ACCEPTED).await;
}

#[tokio::test]
async fn c02_an_api_server_that_has_lost_everything_is_not_believed_at_once() {
    let server = ApiServer::start().await;
    server.apply(&manifests("lost")).await;
    let controller = Controller::start(&server, "lost", &["--deletion-hold-seconds", "3600"]).await;
    let impatient = ["--deletion-hold-seconds", "1", "--identity", "impatient"];
    let impatient = Controller::start(&server, "lost", &impatient).await;
    let mut envoy = Envoy::connect(controller.xds, "lost/lost").await;
    envoy.until(&cluster("lost", "app"), true).await;
    Envoy::connect(impatient.xds, "lost/lost").await.until(&cluster("lost", "app"), true).await;

    server.kill();
    server.lose_everything();
    server.restart().await;
    eventually("the loss is noticed", async || (controller.metric("controller_held_objects").await >= 6).then_some(()))
        .await;
    // The one that does not hold shows that the others' objects are gone indeed.
    eventually("the hold ends", async || {
        let mut envoy = Envoy::connect(impatient.xds, "lost/lost").await;
        envoy.is_left_alone(Duration::from_millis(500)).await.then_some(())
    })
    .await;
    Envoy::connect(controller.xds, "lost/lost").await.until(&cluster("lost", "app"), true).await;
    // Its own fleet's Service is made anew, which it may hear of.
    while let Ok(heard) = tokio::time::timeout(Duration::from_secs(1), envoy.next()).await {
        heard.unwrap();
    }
    envoy.until(&cluster("lost", "app"), true).await;
}

#[tokio::test]
async fn c03_what_happens_while_it_hangs_is_made_up_for() {
    let server = ApiServer::start().await;
    server.apply(&manifests("hung")).await;
    server.apply(&route("hung", "other", "hung")).await;
    let controller = Controller::start(&server, "hung", &[]).await;
    let mut envoy = Envoy::connect(controller.xds, "hung/hung").await;
    envoy.until(&cluster("hung", "app"), true).await;
    envoy.until(&cluster("hung", "other"), true).await;

    // A new API server remembers no event from before its start: whoever asks for them is told that they are gone.
    assert!(signal("STOP", controller.pid()));
    server.kill();
    server.restart().await;
    server.delete(&route("hung", "app", "hung")).await;
    server.apply(&route("hung", "new", "hung")).await;
    assert!(signal("CONT", controller.pid()));
    envoy.until(&cluster("hung", "new"), true).await;
    envoy.until(&cluster("hung", "app"), false).await;
    let mut fresh = Envoy::connect(controller.xds, "hung/hung").await;
    fresh.until(&cluster("hung", "new"), true).await;
    assert_eq!(fresh.clusters, envoy.clusters);
}

#[tokio::test]
async fn c05_the_next_leader_writes_when_the_first_is_lost() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("led")).await;
    let short = ["--lease-seconds", "3", "--identity"];
    let first = Controller::start(&server, "led", &[&short[..], &["first"]].concat()).await;
    eventually("the first leads", async || (first.metric("controller_leader").await == 1).then_some(())).await;
    let second = Controller::start(&server, "led", &[&short[..], &["second"]].concat()).await;
    server.until_condition("HTTPRoute", "led", "app", ACCEPTED).await;
    // Both serve, one writes.
    for replica in [&first, &second] {
        Envoy::connect(replica.xds, "led/led").await.until(&cluster("led", "app"), true).await;
    }
    assert_eq!(second.metric("controller_leader").await, 0);

    // One that hangs is a leader no more when it wakes up.
    assert!(signal("STOP", first.pid()));
    server.apply(&route("led", "second", "led")).await;
    server.until_condition("HTTPRoute", "led", "second", ACCEPTED).await;
    assert_eq!(second.metric("controller_leader").await, 1);
    assert!(signal("CONT", first.pid()));
    eventually("the first knows", async || (first.metric("controller_leader").await == 0).then_some(())).await;

    // And one that ends lets go at once.
    assert!(signal("TERM", second.pid()));
    eventually("the first leads again", async || (first.metric("controller_leader").await == 1).then_some(())).await;
}

#[tokio::test]
async fn c04_what_others_write_stays_and_what_they_take_back_is_written_again() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("shared-status")).await;
    let name = "shared-status";
    let theirs = json!({"controllerName": "example.com/other", "parentRef": {"name": "elsewhere", "group":
        "gateway.networking.k8s.io", "kind": "Gateway"}, "conditions": [{"type": "Accepted", "status": "False",
        "reason": "Other", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z"}]});
    server.write_status("HTTPRoute", name, "app", &json!({"parents": [theirs]})).await;
    let _controller = Controller::start(&server, name, &[]).await;
    let parents = |object: &serde_json::Value| object["status"]["parents"].as_array().cloned().unwrap_or_default();
    let ours = controller_name(name);
    let both = async || {
        let route = server.find("HTTPRoute", name, "app").await?;
        let parents = parents(&route);
        let mine = parents.iter().find(|parent| parent["controllerName"] == ours)?;
        let accepted = json!({"status": {"parents": [mine]}});
        (parents.contains(&theirs) && has_condition(&accepted, ACCEPTED)).then_some(())
    };
    eventually("both stand there", both).await;
    server.write_status("HTTPRoute", name, "app", &json!({"parents": [theirs]})).await;
    eventually("ours is back", both).await;
}

#[tokio::test]
async fn c13_kinds_may_come_later() {
    let server = ApiServer::bare().await;
    let controller = Controller::start(&server, "later", &[]).await;
    eventually("it is ready without any of Gateway API", async || controller.is_ready().await.then_some(())).await;
    server.define_gateway_api().await;
    server.apply(&manifests("later")).await;
    Envoy::connect(controller.xds, "later/later").await.until(&cluster("later", "app"), true).await;
    server.until_condition("HTTPRoute", "later", "app", ACCEPTED).await;
}

//! What dies comes back by itself, and nothing panics meanwhile.

use std::process::Command;

use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::redis::Redis;
use crate::standalone::{Manifests, Standalone};
use crate::tool::{self, eventually};

const WWW: &str = "www.example.com";

#[tokio::test]
async fn an_envoy_that_is_killed_is_started_again() {
    let gateway = Standalone::start(Manifests::of("quickstart")).await;
    let first = gateway.envoy().unwrap();
    assert!(tool::signal("KILL", first));
    let second = eventually("another Envoy", async || gateway.envoy().filter(|envoy| *envoy != first)).await;
    gateway.answers(WWW, "/", 200).await;
    assert_eq!(gateway.envoy(), Some(second));
    gateway.stop().await;
}

#[tokio::test]
async fn a_controller_that_is_killed_leaves_no_envoy_behind() {
    let gateway = Standalone::start(Manifests::of("quickstart")).await;
    gateway.answers(WWW, "/", 200).await;
    gateway.kill().await;
}

#[tokio::test]
async fn a_request_in_flight_is_answered_when_the_controller_ends() {
    let manifests = Manifests::of("global-rate-limit");
    let backend = TcpListener::bind((manifests.address(), 0)).await.unwrap();
    let port = backend.local_addr().unwrap().port();
    manifests.replace("backend.yaml", "port: 3000\n    protocol", &format!("port: {port}\n    protocol"));
    let gateway = Standalone::start(manifests).await;
    let end_before_the_answer = async {
        let (mut connection, _) = backend.accept().await.unwrap();
        connection.readable().await.unwrap();
        gateway.terminate();
        gateway.logs(&["draining"]).await;
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").await.unwrap();
        connection
    };
    let (answer, _connection) = tokio::join!(gateway.get("ratelimit.example", "/", &[]), end_before_the_answer);
    assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
}

#[tokio::test]
async fn limits_hold_while_redis_is_away_and_when_it_is_back() {
    let mut redis = Redis::start().await;
    let gateway = Standalone::start_with(Manifests::of("global-rate-limit"), &["--redis", &redis.url()]).await;
    let ask = async |user| gateway.get("ratelimit.example", "/", &[("x-user-id", user)]).await.status;
    let status = async || ask("one").await;
    for _ in 0..3 {
        assert_eq!(status().await, 200);
    }
    assert_eq!(status().await, 429);

    redis.kill();
    // Who has used the limit up is known, and others have theirs: the only replica counts for itself.
    for _ in 0..3 {
        assert_eq!((ask("two").await, status().await), (200, 429));
    }
    assert_eq!(ask("two").await, 429);
    gateway.logs(&["the counter store is lost"]).await;

    redis.restart().await;
    eventually("limits are back", async || (status().await == 429).then_some(())).await;
    gateway.logs(&["the counter store is back"]).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_file_that_is_deleted_takes_its_route_along_and_no_other() {
    let gateway = Standalone::start(Manifests::of("quickstart")).await;
    let text = gateway.manifests().read("fault.yaml");
    assert_eq!(gateway.get(WWW, "/fault", &[]).await.status, 501);
    gateway.manifests().remove("fault.yaml");
    // What is left is the route for /.
    eventually("/fault is an ordinary path", async || {
        assert_eq!(gateway.get(WWW, "/", &[]).await.status, 200, "the other route is not disturbed");
        (gateway.get(WWW, "/fault", &[]).await.status == 200).then_some(())
    })
    .await;
    gateway.manifests().write("fault.yaml", &text);
    gateway.answers(WWW, "/fault", 501).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_folder_that_is_missing_is_said_in_one_line() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_controller")).args(["standalone", "/no/such/folder"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/no/such/folder"), "{said}");
}

//! How long connections last, and how many there may be.

use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use proto::serve::{Admission, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::server::{Gate, Server, call, connect, gated};

const MOMENT: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads until the server closes; returns what came, and after how long.
async fn closed(socket: &mut TcpStream) -> (Vec<u8>, Duration) {
    let (begin, mut all) = (Instant::now(), Vec::new());
    // A reset is an end, too.
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut all)).await.expect("the server closes");
    (all, begin.elapsed())
}

#[tokio::test]
async fn an_old_connection_gets_a_goaway_and_finishes_what_it_does() {
    let gate = Gate::new();
    let limits = Limits { age: Some(MOMENT), ..Limits::default() };
    let server = Server::start(move |grpc| grpc.limits(limits), gated(gate.clone()));
    let socket = TcpStream::connect(server.address).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let ended = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let (response, _stream) = call(&mut client, "");
    gate.arrived.acquire().await.unwrap().forget();
    // The GOAWAY has come when no further request may begin.
    let refused = async {
        while let Ok(ready) = client.clone().ready().await {
            drop(ready);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("a GOAWAY");
    gate.released.add_permits(1);
    assert_eq!(response.await.unwrap().status(), 200);
    drop(client);
    ended.await.unwrap().expect("closed in good order");
}

#[tokio::test]
async fn what_outlives_the_grace_is_cut_off() {
    let gate = Gate::new();
    let limits = Limits { age: Some(MOMENT), age_grace: Some(MOMENT), ..Limits::default() };
    let server = Server::start(move |grpc| grpc.limits(limits), gated(gate.clone()));
    let mut client = RateLimitServiceClient::new(server.channel().await);
    let begin = Instant::now();
    let cut = tokio::time::timeout(PATIENCE, client.should_rate_limit(RateLimitRequest::default())).await;
    assert!(cut.expect("cut off").is_err());
    assert!((MOMENT..30 * MOMENT).contains(&begin.elapsed()), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let gate = Gate::new();
    let limits = Limits { idle: MOMENT, handshake: MOMENT, ..Limits::default() };
    let server = Server::start(move |grpc| grpc.limits(limits), gated(gate.clone()));
    let mut busy = connect(server.address).await;
    let (response, _stream) = call(&mut busy, "");
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let (frames, _) = closed(&mut idle).await;
    assert!(frames.windows(5).any(|bytes| bytes == [7, 0, 0, 0, 0]), "a GOAWAY comes first: {frames:?}");
    gate.released.add_permits(1);
    assert_eq!(response.await.unwrap().status(), 200);
}

#[tokio::test]
async fn p05_who_drips_the_preface_is_cut_off_and_others_are_served() {
    let limits = Limits { handshake: Duration::from_millis(300), ..Limits::default() };
    let server = Server::start(move |grpc| grpc.limits(limits), gated(Gate::open()));
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(b"P").await.unwrap();
        slow.push(socket);
    }
    let mut innocent = connect(server.address).await;
    for socket in &mut slow {
        assert_eq!(call(&mut innocent, "").0.await.unwrap().status(), 200);
        // The preface of 24 bytes would be whole after 240 ms, but not the settings.
        let _ = socket.write_all(b"R").await;
    }
    for mut socket in slow {
        closed(&mut socket).await;
    }
    assert_eq!(call(&mut innocent, "").0.await.unwrap().status(), 200);
}

#[tokio::test]
async fn p05_connections_of_one_client_are_capped() {
    let server = Server::start(|grpc| grpc.admission(Admission::new(100, 2)), gated(Gate::open()));
    let first = connect(server.address).await;
    let mut second = connect(server.address).await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert!(closed(&mut third).await.0.is_empty());
    assert_eq!(call(&mut second, "").0.await.unwrap().status(), 200);
    drop(first);
    // The server needs a moment to see that it is gone.
    let again = async {
        loop {
            let socket = TcpStream::connect(server.address).await.unwrap();
            let Ok((mut client, connection)) = h2::client::handshake(socket).await else { continue };
            tokio::spawn(connection);
            if call(&mut client, "").0.await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("a seat is free again");
}

#[tokio::test]
async fn p05_connections_beyond_the_cap_wait_for_room() {
    let server = Server::start(|grpc| grpc.admission(Admission::new(1, 100)), gated(Gate::open()));
    let mut first = connect(server.address).await;
    let waiting = tokio::spawn({
        let address = server.address;
        async move { call(&mut connect(address).await, "").0.await.unwrap().status() }
    });
    for _ in 0..20 {
        assert_eq!(call(&mut first, "").0.await.unwrap().status(), 200);
    }
    assert!(!waiting.is_finished());
    drop(first);
    assert_eq!(tokio::time::timeout(PATIENCE, waiting).await.expect("room").unwrap(), 200);
}

#[tokio::test]
async fn p13_a_handler_that_panics_answers_internal_and_harms_nobody() {
    let gate = Gate::new();
    let server = Server::start(|grpc| grpc, gated(gate.clone()));
    let metrics = proto::metrics::install();
    let mut client = RateLimitServiceClient::new(server.channel().await);
    let innocent = tokio::spawn({
        let mut client = client.clone();
        async move { client.should_rate_limit(RateLimitRequest::default()).await }
    });
    gate.arrived.acquire().await.unwrap().forget();
    let request = RateLimitRequest { domain: "panic".into(), ..RateLimitRequest::default() };
    let status = client.should_rate_limit(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "the server failed at this request"));
    assert!(metrics.render().contains("grpc_handler_panics_total 1"), "{}", metrics.render());
    gate.released.add_permits(1);
    assert!(innocent.await.unwrap().is_ok(), "on the same connection");
}

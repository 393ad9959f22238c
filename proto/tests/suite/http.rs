//! The HTTP server on real sockets.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use proto::drain;
use proto::serve::{self, Address, Admission, Listener};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

async fn request(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> String {
    socket.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_drain_lets_the_request_in_flight_finish() {
    let (arrived, released) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let gate = (Arc::clone(&arrived), Arc::clone(&released));
    let router = Router::new().route(
        "/",
        get(move || async move {
            gate.0.add_permits(1);
            gate.1.acquire().await.unwrap().forget();
            "slow"
        }),
    );
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(address) = listener.address().unwrap() else { panic!("not a TCP address") };
    let (trigger, signal) = drain::new();
    let server = tokio::spawn(serve::http(listener, router, signal));

    let in_flight = tokio::spawn(request(TcpStream::connect(address).await.unwrap()));
    arrived.acquire().await.unwrap().forget();
    trigger.drain();
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    released.add_permits(1);
    assert!(in_flight.await.unwrap().ends_with("slow"));
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_unix_socket_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (_trigger, signal) = drain::new();
    let listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
    tokio::spawn(serve::http(listener, Router::new().route("/", get(|| async { "hello" })), signal));
    assert!(request(UnixStream::connect(path).await.unwrap()).await.ends_with("hello"));
}

#[tokio::test]
async fn p05_connections_of_one_client_are_capped() {
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(address) = listener.address().unwrap() else { panic!("not a TCP address") };
    let (_trigger, signal) = drain::new();
    let router = Router::new().route("/", get(|| async { "hello" }));
    tokio::spawn(serve::http_within(Admission::new(100, 2), listener, router, signal));
    let held = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
    let mut refused = TcpStream::connect(address).await.unwrap();
    assert!(matches!(refused.read(&mut [0]).await, Ok(0) | Err(_)));
    for socket in held {
        assert!(request(socket).await.ends_with("hello"));
    }
    // The server needs a moment to see that they are gone.
    let again = async {
        loop {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let mut answer = String::new();
            let asked = socket.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await;
            if asked.is_ok() && socket.read_to_string(&mut answer).await.is_ok() && answer.ends_with("hello") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("a seat is free again");
}

/// A server that answers `hello`, or panics below `/panic`.
fn server() -> (std::net::SocketAddr, drain::Trigger) {
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(address) = listener.address().unwrap() else { panic!("not a TCP address") };
    let (trigger, signal) = drain::new();
    let handler = |uri: http::Uri| async move {
        assert!(uri.path() != "/panic", "the test asked for it");
        "hello"
    };
    tokio::spawn(serve::http(listener, Router::new().fallback(handler), signal));
    (address, trigger)
}

#[tokio::test]
async fn p05_who_never_asks_is_cut_off_and_others_are_served() {
    let (address, _trigger) = server();
    let mut slow = Vec::new();
    for start in ["", "G", "GET / HTTP/1.1\r\nhost: a\r\nx-slow: ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"].repeat(10) {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(start.as_bytes()).await.unwrap();
        slow.push(socket);
    }
    let begun = std::time::Instant::now();
    let ends = async {
        for socket in &mut slow {
            // A reset is an end, too.
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ends).await.expect("they are cut off");
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(request(TcpStream::connect(address).await.unwrap()).await.ends_with("hello"));
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request_and_closed_by_a_drain() {
    let (address, trigger) = server();
    let mut socket = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        socket.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert_ne!(socket.read_buf(&mut answer).await.unwrap(), 0);
        }
    }
    trigger.drain();
    let ended = tokio::time::timeout(Duration::from_secs(10), socket.read(&mut [0])).await;
    assert!(matches!(ended.expect("the drain closes it"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn p13_a_handler_that_panics_is_no_yes() {
    let (address, _trigger) = server();
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /panic HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(request(TcpStream::connect(address).await.unwrap()).await.ends_with("hello"));
}

//! What hostile clients and stalls do to everybody else: as little as possible.

use proto::serve::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::server::{Gate, Server, call, connect, flush, gated};

#[tokio::test]
async fn p03_time_outs_of_a_stalled_server_do_not_hurt_the_innocent() {
    reset_storm(Limits::default()).await.unwrap();
}

#[tokio::test]
async fn p03_the_storm_is_one_that_the_default_of_20_does_not_survive() {
    let limits = Limits { max_pending_accept_reset_streams: 20, ..Limits::default() };
    assert!(reset_storm(limits).await.is_err());
}

#[tokio::test]
async fn p04_headers_beyond_the_limit_are_refused_and_the_connection_lives() {
    let server = Server::start(|grpc| grpc, gated(Gate::open()));
    let mut connection = connect(server.address).await;
    let mut request = http::Request::post("http://test/");
    for index in 0..20 {
        request = request.header(format!("x-{index}"), "x".repeat(1024));
    }
    let (response, _) = connection.send_request(request.body(()).unwrap(), true).unwrap();
    assert_eq!(response.await.map_or(431, |response| response.status().as_u16()), 431);
    connection = connection.ready().await.unwrap();
    assert_eq!(call(&mut connection, "").0.await.unwrap().status(), 200);
}

#[tokio::test]
async fn p04_a_flood_of_resets_leaves_other_connections_alone() {
    let server = Server::start(|grpc| grpc, gated(Gate::open()));
    let flood = tokio::spawn({
        let address = server.address;
        async move {
            let mut connection = connect(address).await;
            for _ in 0..5000 {
                let Ok(ready) = connection.ready().await else { return };
                connection = ready;
                let (_, mut stream) = call(&mut connection, "");
                stream.send_reset(h2::Reason::CANCEL);
                tokio::task::yield_now().await;
            }
        }
    });
    let mut innocent = connect(server.address).await;
    while !flood.is_finished() {
        assert_eq!(call(&mut innocent, "").0.await.unwrap().status(), 200);
    }
    flood.await.unwrap();
}

#[tokio::test]
async fn p04_headers_without_end_close_the_connection() {
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    let server = Server::start(|grpc| grpc, gated(Gate::open()));
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let frame = |kind: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, stream], payload].concat()
    };
    // The preface, empty settings, and a request that never says END_HEADERS.
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    socket.write_all(&frame(4, 0, &[])).await.unwrap();
    socket.write_all(&frame(HEADERS, 1, &[])).await.unwrap();
    // `a: b`, as a literal that is not indexed (RFC 7541, section 6.2.2).
    let more = frame(CONTINUATION, 1, &b"\x00\x01a\x01b".repeat(3200));
    for _ in 0..1000 {
        if socket.write_all(&more).await.is_err() {
            return;
        }
    }
    panic!("16 MB of headers were taken");
}

/// Stalls the server, sends 200 requests and resets them all, and one more that must be answered.
async fn reset_storm(limits: Limits) -> Result<(), h2::Error> {
    let gate = Gate::open();
    let server = Server::start(move |grpc| grpc.limits(limits), gated(gate.clone()));
    let mut connection = connect(server.address).await;
    // Whoever has an answer knows the server's settings.
    assert_eq!(call(&mut connection, "").0.await.unwrap().status(), 200);
    gate.arrived.acquire().await.unwrap().forget();
    let stalling = call(&mut connection, "stall");
    gate.arrived.acquire().await.unwrap().forget();

    let storm: Vec<_> = (0..200).map(|_| call(&mut connection, "")).collect();
    let innocent = call(&mut connection, "");
    flush().await;
    for (_, mut stream) in storm {
        stream.send_reset(h2::Reason::CANCEL);
    }
    flush().await;
    stalling.0.await?;
    assert_eq!(innocent.0.await?.status(), 200);
    Ok(())
}

//! A gRPC server on a real socket: how it drains, what its health says, and what it takes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use prost::Message;
use proto::drain::{self, Signal, Trigger};
use proto::readiness::Readiness;
use proto::serve::{Address, Error, Grpc, Limits, Listener};
use proto::{health, reflection};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::Semaphore;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";

/// Answers when the test lets it; a request for the domain `stall` stops the whole runtime meanwhile.
#[derive(Clone)]
struct Gate {
    arrived: Arc<Semaphore>,
    released: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), released: Arc::new(Semaphore::new(0)) }
    }

    fn open() -> Self {
        let gate = Self::new();
        gate.released.add_permits(Semaphore::MAX_PERMITS);
        gate
    }
}

#[tonic::async_trait]
impl RateLimitService for Gate {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        self.arrived.add_permits(1);
        if request.get_ref().domain == "stall" {
            thread::sleep(Duration::from_millis(300));
        } else {
            self.released.acquire().await.unwrap().forget();
        }
        Ok(Response::new(RateLimitResponse::default()))
    }
}

/// A server on a thread and a runtime of its own, as in production.
struct Server {
    address: SocketAddr,
    trigger: Trigger,
    thread: thread::JoinHandle<Result<(), Error>>,
}

impl Server {
    fn start<F>(
        grpc: impl FnOnce(Grpc) -> Grpc + Send + 'static,
        routes: impl FnOnce(Signal) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Routes>,
    {
        let (trigger, signal) = drain::new();
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let Address::Tcp(address) = listener.address().unwrap() else { panic!("not a TCP address") };
        let thread = thread::spawn(move || {
            runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let routes = routes(signal.clone()).await;
                grpc(Grpc::new(listener)).serve(routes, signal).await
            })
        });
        Self { address, trigger, thread }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn ended(self) {
        let joined = tokio::task::spawn_blocking(|| self.thread.join());
        tokio::time::timeout(Duration::from_secs(10), joined)
            .await
            .expect("the server ends")
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

fn gated(gate: Gate) -> impl FnOnce(Signal) -> std::future::Ready<Routes> + Send {
    |_| std::future::ready(Routes::new(RateLimitServiceServer::new(gate)))
}

#[tokio::test]
async fn a_drain_lets_the_request_in_flight_finish() {
    let gate = Gate::new();
    let server = Server::start(|grpc| grpc, gated(gate.clone()));
    let mut client = RateLimitServiceClient::new(server.channel().await);
    let in_flight = tokio::spawn(async move { client.should_rate_limit(RateLimitRequest::default()).await });
    gate.arrived.acquire().await.unwrap().forget();

    server.trigger.drain();
    // The server has stopped listening before it answers.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gate.released.add_permits(1);
    in_flight.await.unwrap().expect("answered although draining");
    server.ended().await;
}

#[tokio::test]
async fn a_drain_has_a_bound() {
    let gate = Gate::new();
    let server = Server::start(|grpc| grpc.drain(Duration::from_millis(100)), gated(gate.clone()));
    let mut client = RateLimitServiceClient::new(server.channel().await);
    let stuck = tokio::spawn(async move { client.should_rate_limit(RateLimitRequest::default()).await });
    gate.arrived.acquire().await.unwrap().forget();
    server.trigger.drain();
    server.ended().await;
    assert!(stuck.await.unwrap().is_err());
}

#[tokio::test]
async fn health_follows_readiness_and_the_drain() {
    let readiness = Readiness::new();
    let block = readiness.block("config");
    let server = Server::start(|grpc| grpc, {
        let readiness = readiness.clone();
        |signal| async move { Routes::new(health::service(&["ratelimit"], &readiness, &signal).await) }
    });
    let mut client = HealthClient::new(server.channel().await);
    let mut watched = Vec::new();
    for service in ["", "ratelimit"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        watched.push(client.watch(request).await.unwrap().into_inner());
    }
    let mut block = Some(block);
    for (step, status) in
        [ServingStatus::NotServing, ServingStatus::Serving, ServingStatus::NotServing].into_iter().enumerate()
    {
        for stream in &mut watched {
            let seen = stream.message().await.unwrap().unwrap().status();
            assert_eq!(seen, status, "step {step}");
        }
        match step {
            0 => drop(block.take()),
            1 => server.trigger.drain(),
            _ => {}
        }
    }
    drop(watched);
    server.ended().await;
}

#[tokio::test]
async fn reflection_names_the_service() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let server = Server::start(
        |grpc| grpc,
        |_| async {
            let mut routes = RoutesBuilder::default();
            reflection::add(&mut routes, &[SERVICE]).unwrap();
            routes.routes()
        },
    );
    let mut client = ServerReflectionClient::new(server.channel().await);
    let request = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let requests = [
        request(MessageRequest::ListServices(String::new())),
        request(MessageRequest::FileContainingSymbol(SERVICE.to_owned())),
    ];
    let mut answers = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services")
    };
    assert_eq!(list.service.iter().filter(|service| service.name == SERVICE).count(), 1);
    assert!(
        list.service.iter().all(|service| service.name.starts_with("grpc.") || service.name == SERVICE),
        "{list:?}"
    );
    let file = answers.message().await.unwrap().unwrap().message_response;
    assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
}

#[tokio::test]
async fn time_outs_of_a_stalled_server_do_not_hurt_the_innocent() {
    reset_storm(Limits::default()).await.unwrap();
}

#[tokio::test]
async fn the_storm_is_one_that_the_default_of_20_does_not_survive() {
    let limits = Limits { max_pending_accept_reset_streams: 20, ..Limits::default() };
    assert!(reset_storm(limits).await.is_err());
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused_and_the_connection_lives() {
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
async fn a_flood_of_resets_leaves_other_connections_alone() {
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
async fn headers_without_end_close_the_connection() {
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

async fn connect(address: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (client, connection) =
        h2::client::Builder::new().initial_max_send_streams(1000).handshake(socket).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn call(
    connection: &mut h2::client::SendRequest<Bytes>,
    domain: &str,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let request = http::Request::post(format!("http://test/{SERVICE}/ShouldRateLimit"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let message = RateLimitRequest { domain: domain.to_owned(), ..RateLimitRequest::default() }.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let (response, mut stream) = connection.send_request(request, false).unwrap();
    stream.send_data(frame.into(), true).unwrap();
    (response, stream)
}

/// Lets the connection's task write what is queued; it shares this thread.
async fn flush() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

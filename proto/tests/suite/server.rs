//! A server on a real socket, and clients for it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use prost::Message;
use proto::drain::{self, Signal, Trigger};
use proto::serve::{Address, Error, Grpc, Listener};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

pub(crate) const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";

/// Answers when the test lets it; a request for the domain `stall` stops the whole runtime meanwhile, and one for
/// `panic` panics.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) arrived: Arc<Semaphore>,
    pub(crate) released: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), released: Arc::new(Semaphore::new(0)) }
    }

    pub(crate) fn open() -> Self {
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
        match request.get_ref().domain.as_str() {
            "stall" => thread::sleep(Duration::from_millis(300)),
            "panic" => panic!("the test asked for it"),
            _ => self.released.acquire().await.unwrap().forget(),
        }
        Ok(Response::new(RateLimitResponse::default()))
    }
}

/// A server on a thread and a runtime of its own, as in production.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) trigger: Trigger,
    thread: thread::JoinHandle<Result<(), Error>>,
}

impl Server {
    pub(crate) fn start<F>(
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

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn ended(self) {
        let joined = tokio::task::spawn_blocking(|| self.thread.join());
        tokio::time::timeout(Duration::from_secs(10), joined)
            .await
            .expect("the server ends")
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

pub(crate) fn gated(gate: Gate) -> impl FnOnce(Signal) -> std::future::Ready<Routes> + Send {
    |_| std::future::ready(Routes::new(RateLimitServiceServer::new(gate)))
}

pub(crate) async fn connect(address: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (client, connection) =
        h2::client::Builder::new().initial_max_send_streams(1000).handshake(socket).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

pub(crate) fn call(
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
pub(crate) async fn flush() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

//! Servers that answer OK to every question, of the rate limit filter or of the external authorization filter, without looking
//! at it: what any server on the same stack costs at least. One of them counts in Redis first, as plainly as one can.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, OkHttpResponse};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::rpc;
use http::{HeaderMap, HeaderValue, Response, header};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use self::redis::Pipelined;
use crate::target::authz;

mod redis;

/// Which floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// tonic as its documentation shows it, on a runtime with a thread for each core.
    Tonic,
    /// The same on a runtime with a single thread.
    TonicCurrentThread,
    /// The h2 crate alone, on a single thread.
    H2,
    /// Like `tonic`, with a pipeline of INCRBY and EXPIRE to Redis before each answer.
    Redis,
}

/// Why a floor does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime cannot be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where it should listen.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// tonic gave up.
    #[error("the server ended: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// Redis cannot be reached.
    #[error("cannot connect to Redis: {0}")]
    Redis(#[from] ::redis::RedisError),
    /// The floor that counts needs to know where.
    #[error("the redis floor needs --redis URL")]
    NoRedis,
    /// Connections can no longer be accepted.
    #[error("cannot accept connections: {0}")]
    Accept(io::Error),
}

impl Kind {
    /// The runtime that this floor is measured on.
    pub fn runtime(self) -> Result<tokio::runtime::Runtime, Error> {
        let mut builder = match self {
            Self::Tonic | Self::Redis => tokio::runtime::Builder::new_multi_thread(),
            Self::TonicCurrentThread | Self::H2 => tokio::runtime::Builder::new_current_thread(),
        };
        builder.enable_all().build().map_err(Error::Runtime)
    }

    /// Serves the connections of `listener` until something breaks. `redis` is the URL for [`Kind::Redis`].
    pub async fn serve(self, listener: TcpListener, redis: Option<&str>) -> Result<(), Error> {
        match self {
            Self::Tonic | Self::TonicCurrentThread => serve_tonic(listener, AlwaysOk).await,
            Self::H2 => serve_h2(listener).await,
            Self::Redis => {
                let client = ::redis::Client::open(redis.ok_or(Error::NoRedis)?)?;
                serve_tonic(listener, Pipelined(client.get_multiplexed_async_connection().await?)).await
            }
        }
    }
}

async fn serve_tonic(listener: TcpListener, service: impl RateLimitService) -> Result<(), Error> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(RateLimitServiceServer::new(service));
    Ok(server.add_service(AuthorizationServer::new(AlwaysOk)).serve_with_incoming(incoming).await?)
}

/// Listens on `address`.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

struct AlwaysOk;

fn ok() -> RateLimitResponse {
    RateLimitResponse { overall_code: Code::Ok.into(), ..RateLimitResponse::default() }
}

#[tonic::async_trait]
impl RateLimitService for AlwaysOk {
    async fn should_rate_limit(
        &self,
        _: tonic::Request<RateLimitRequest>,
    ) -> Result<tonic::Response<RateLimitResponse>, tonic::Status> {
        Ok(tonic::Response::new(ok()))
    }
}

fn allowed() -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status::default()),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse::default())),
        ..CheckResponse::default()
    }
}

#[tonic::async_trait]
impl Authorization for AlwaysOk {
    async fn check(&self, _: tonic::Request<CheckRequest>) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(allowed()))
    }
}

/// Answers of the floor without tonic.
#[derive(Clone)]
struct Answers {
    ok: Bytes,
    allowed: Bytes,
}

async fn serve_h2(listener: TcpListener) -> Result<(), Error> {
    let answers = Answers {
        ok: crate::target::grpc_frame(&ok()).freeze(),
        allowed: crate::target::grpc_frame(&allowed()).freeze(),
    };
    loop {
        let (stream, _) = listener.accept().await.map_err(Error::Accept)?;
        stream.set_nodelay(true).map_err(Error::Accept)?;
        let answers = answers.clone();
        tokio::spawn(async move {
            if let Err(error) = connection(stream, answers).await {
                eprintln!("connection ended: {error}");
            }
        });
    }
}

async fn connection(stream: TcpStream, answers: Answers) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        // A stream that its client gives up concerns nobody else.
        let body = if request.uri().path() == authz::PATH { &answers.allowed } else { &answers.ok }.clone();
        tokio::spawn(answer(request.into_body(), respond, body));
    }
    Ok(())
}

async fn answer(
    mut request: h2::RecvStream,
    mut respond: h2::server::SendResponse<Bytes>,
    body: Bytes,
) -> Result<(), h2::Error> {
    while let Some(data) = request.data().await {
        request.flow_control().release_capacity(data?.len())?;
    }
    let mut head = Response::new(());
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(head, false)?;
    stream.send_data(body, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

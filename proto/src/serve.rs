//! Servers that end well: gRPC and HTTP on TCP or Unix sockets, drained within a bound, hardened against reset storms.

mod accept;
mod admission;
mod connection;
mod life;
mod limits;
mod listener;
mod peer;
mod per_core;
mod protocol;
mod requests;
pub mod tls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tonic::service::Routes;

pub use admission::Admission;
pub use limits::Limits;
pub use listener::{Address, Listener};
pub use peer::Peer;
pub use per_core::per_core;

use self::connection::Server;
use self::protocol::Protocol;
use self::tls::Tls;
use crate::drain::Signal;

/// How long a drain may take unless told otherwise.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `HOST:PORT` nor `unix:PATH`.
    #[error("`{0}` is no address; say 127.0.0.1:8081, :8081 or unix:/path/to/socket")]
    Address(String),
    /// The address is taken, or not ours to use.
    #[error("listening on {address}")]
    Bind {
        /// The address.
        address: Address,
        /// What the system says.
        source: io::Error,
    },
    /// No thread or runtime for a core.
    #[error("starting a runtime")]
    Runtime(#[source] io::Error),
}

/// A gRPC server on one listener.
#[derive(Debug)]
pub struct Grpc {
    listener: Listener,
    limits: Limits,
    admission: Admission,
    drain: Duration,
    tls: Option<Tls>,
}

impl Grpc {
    /// With [`Limits::default`], [`Admission::default`] and [`DRAIN`].
    pub fn new(listener: Listener) -> Self {
        Self { listener, limits: Limits::default(), admission: Admission::default(), drain: DRAIN, tls: None }
    }

    /// Other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Other caps on connections, or those of another listener to share.
    #[must_use]
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// Another bound for the drain: connections that are open then are dropped.
    #[must_use]
    pub fn drain(mut self, bound: Duration) -> Self {
        self.drain = bound;
        self
    }

    /// Only over TLS.
    #[must_use]
    pub fn tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Serves until `signal`; then takes no more connections, sends GOAWAY and ends when the last request has been answered.
    pub async fn serve(self, routes: Routes, signal: Signal) -> Result<(), Error> {
        let Self { listener, limits, admission, tls, drain } = self;
        let routes = routes.prepare();
        serve(listener, Server { routes, protocol: Protocol::Grpc, limits, tls, admission, signal }, drain).await
    }
}

/// [`http_within`] the caps of [`Admission::default`].
pub async fn http(listener: Listener, router: Router, signal: Signal) -> Result<(), Error> {
    http_within(Admission::default(), listener, router, signal).await
}

/// Serves HTTP/1.1 and HTTP/2 on so many connections until `signal`, then finishes what is in flight within [`DRAIN`].
pub async fn http_within(
    admission: Admission,
    listener: Listener,
    router: Router,
    signal: Signal,
) -> Result<(), Error> {
    let server = Server {
        routes: Routes::from(router).prepare(),
        protocol: Protocol::Http,
        limits: Limits::default(),
        tls: None,
        admission,
        signal,
    };
    serve(listener, server, DRAIN).await
}

async fn serve(listener: Listener, server: Server, drain: Duration) -> Result<(), Error> {
    let bound = after(server.signal.clone(), drain);
    let server = Arc::new(server);
    let accepting = async {
        match listener {
            Listener::Tcp(tcp) => accept::serve(listener::tcp(tcp)?, server).await,
            Listener::Unix(unix) => accept::serve(listener::unix(unix)?, server).await,
        }
        Ok(())
    };
    tokio::select! {
        ended = accepting => ended,
        () = bound => Ok(()),
    }
}

async fn after(signal: Signal, bound: Duration) {
    signal.wait().await;
    tokio::time::sleep(bound).await;
    tracing::warn!(seconds = bound.as_secs_f32(), "the drain took too long; open connections are dropped");
}

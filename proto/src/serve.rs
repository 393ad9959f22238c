//! Servers that end well: gRPC and HTTP on TCP or Unix sockets, drained within a bound, hardened against reset storms.

mod listener;
mod per_core;
pub mod tls;

use std::future::IntoFuture;
use std::io;
use std::time::Duration;

use axum::Router;
use futures::{Stream, stream};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::{Connected, Router as GrpcRouter};

pub use listener::{Address, Listener};
pub use per_core::per_core;

use self::tls::Tls;
use crate::drain::Signal;

/// How long a drain may take unless told otherwise.
pub const DRAIN: Duration = Duration::from_secs(5);
/// TLS handshakes of one listener at a time; further connections wait in the kernel.
const MAX_HANDSHAKES: usize = 1024;

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `HOST:PORT` nor `unix:PATH`.
    #[error("`{0}` is no address; say 127.0.0.1:8081, [::]:8081 or unix:/path/to/socket")]
    Address(String),
    /// The address is taken, or not ours to use.
    #[error("listening on {address}")]
    Bind {
        /// The address.
        address: Address,
        /// What the system says.
        source: io::Error,
    },
    /// The transport failed as a whole; a failing connection is no reason.
    #[error("serving gRPC")]
    Grpc(#[from] tonic::transport::Error),
    /// The HTTP server failed as a whole.
    #[error("serving HTTP")]
    Http(#[source] io::Error),
    /// No thread or runtime for a core.
    #[error("starting a runtime")]
    Runtime(#[source] io::Error),
}

/// What one HTTP/2 connection may ask of us.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests in flight at a time.
    pub max_concurrent_streams: u32,
    /// Requests that the client has reset before we have looked at them. Every client time-out while we are stalled adds one, and one too
    /// many closes the connection with all its innocent requests, so this is well above `max_concurrent_streams`.
    pub max_pending_accept_reset_streams: usize,
    /// Bytes of a request's headers, each with 32 bytes on top (RFC 9113, section 6.5.2).
    pub max_header_list_size: u32,
    /// Pause after which a silent client is pinged; it is cut off when it does not answer within 20 seconds.
    pub keepalive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 1024,
            max_pending_accept_reset_streams: 8192,
            max_header_list_size: 16 * 1024,
            keepalive: Duration::from_mins(1),
        }
    }
}

/// A gRPC server on one listener.
#[derive(Debug)]
pub struct Grpc {
    listener: Listener,
    limits: Limits,
    drain: Duration,
    tls: Option<Tls>,
}

impl Grpc {
    /// With [`Limits::default`] and [`DRAIN`].
    pub fn new(listener: Listener) -> Self {
        Self { listener, limits: Limits::default(), drain: DRAIN, tls: None }
    }

    /// Other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
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
        let server = Server::builder()
            .max_concurrent_streams(self.limits.max_concurrent_streams)
            .http2_max_pending_accept_reset_streams(Some(self.limits.max_pending_accept_reset_streams))
            .http2_max_header_list_size(self.limits.max_header_list_size)
            .http2_keepalive_interval(Some(self.limits.keepalive))
            .add_routes(routes);
        let bound = after(signal.clone(), self.drain);
        tokio::select! {
            ended = async {
                match self.listener {
                    Listener::Tcp(listener) => accept(server, listener::tcp(listener)?, self.tls, signal).await,
                    Listener::Unix(listener) => accept(server, listener::unix(listener)?, self.tls, signal).await,
                }
            } => ended,
            () = bound => Ok(()),
        }
    }
}

async fn accept<L>(server: GrpcRouter, listener: L, tls: Option<Tls>, signal: Signal) -> Result<(), Error>
where
    L: axum::serve::Listener<Io: Connected>,
{
    let ended = match tls {
        None => server.serve_with_incoming_shutdown(incoming(listener), signal.wait()).await,
        Some(tls) => server.serve_with_incoming_shutdown(encrypted(listener, tls), signal.wait()).await,
    };
    ended.map_err(Error::Grpc)
}

/// Serves HTTP/1.1 and HTTP/2 until `signal`, then finishes what is in flight within [`DRAIN`].
pub async fn http(listener: Listener, router: Router, signal: Signal) -> Result<(), Error> {
    let drained = signal.clone().wait();
    let bound = after(signal, DRAIN);
    tokio::select! {
        ended = async {
            match listener {
                Listener::Tcp(listener) => {
                    axum::serve(listener::tcp(listener)?, router).with_graceful_shutdown(drained).into_future().await
                }
                Listener::Unix(listener) => {
                    axum::serve(listener::unix(listener)?, router).with_graceful_shutdown(drained).into_future().await
                }
            }
            .map_err(Error::Http)
        } => ended,
        () = bound => Ok(()),
    }
}

async fn after(signal: Signal, bound: Duration) {
    signal.wait().await;
    tokio::time::sleep(bound).await;
    tracing::warn!(seconds = bound.as_secs_f32(), "the drain took too long; open connections are dropped");
}

/// Connections as they come in; axum's listener waits a second when accepting fails for want of file descriptors.
fn incoming<L: axum::serve::Listener>(listener: L) -> impl Stream<Item = io::Result<L::Io>> + Send {
    stream::unfold(listener, |mut listener| async move {
        let (io, _) = listener.accept().await;
        Some((Ok(io), listener))
    })
}

/// Connections whose handshake is done. A slow one holds up no other.
fn encrypted<L: axum::serve::Listener>(
    listener: L,
    tls: Tls,
) -> impl Stream<Item = io::Result<TlsStream<L::Io>>> + Send {
    stream::unfold((listener, tls, JoinSet::new()), |(mut listener, tls, mut handshakes)| async move {
        loop {
            tokio::select! {
                (io, _) = listener.accept(), if handshakes.len() < MAX_HANDSHAKES => {
                    let tls = tls.clone();
                    handshakes.spawn(async move { tls.accept(io).await });
                }
                Some(handshake) = handshakes.join_next() => match handshake {
                    Ok(Ok(io)) => return Some((Ok(io), (listener, tls, handshakes))),
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(error) => tracing::error!(%error, "a TLS handshake ended early"),
                },
            }
        }
    })
}

//! One connection, from its first byte to its last.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{sleep_until, timeout};
use tonic::service::Routes;

use super::admission::Admission;
use super::life::{Life, Reason, Step};
use super::limits::Limits;
use super::peer::Peer;
use super::protocol::Protocol;
use super::requests::{Activity, Requests};
use super::tls::{self, Tls};
use crate::drain::{self, Signal, Trigger};

/// Bytes of the head of a request over HTTP/1.1.
const LARGEST_HEAD: usize = 128 * 1024;

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) routes: Routes,
    pub(super) protocol: Protocol,
    pub(super) limits: Limits,
    pub(super) tls: Option<Tls>,
    pub(super) admission: Admission,
    pub(super) signal: Signal,
}

/// Serves one connection to its end.
pub(super) async fn serve<I>(io: I, address: Option<SocketAddr>, server: Arc<Server>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(tls) = &server.tls else { return drive(io, address, Vec::new(), &server).await };
    match timeout(server.limits.handshake, tls.accept(io)).await {
        Ok(Ok(io)) => {
            let names = tls::client_names(io.get_ref().1);
            drive(io, address, names, &server).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => cut(server.protocol, Reason::Handshake),
    }
}

async fn drive<I>(io: I, address: Option<SocketAddr>, names: Vec<String>, server: &Server)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (leave, leaving) = drain::new();
    let activity = Arc::new(Activity::default());
    let requests = Requests {
        routes: server.routes.clone(),
        peer: Peer::new(address, names, leaving),
        activity: activity.clone(),
        protocol: server.protocol,
    };
    let io = TokioIo::new(Watched { io, activity: activity.clone() });
    match server.protocol {
        Protocol::Grpc => {
            let connection = http2(server.limits).serve_connection(io, requests);
            attend(connection, http2::Connection::graceful_shutdown, &activity, leave, server).await;
        }
        Protocol::Http => {
            let builder = http(server.limits);
            let connection = builder.serve_connection(io, requests);
            attend(connection, auto::Connection::graceful_shutdown, &activity, leave, server).await;
        }
    }
}

/// Sees a connection through its life; `close` asks it to end in good order.
async fn attend<C, E>(connection: C, close: fn(Pin<&mut C>), activity: &Activity, leave: Trigger, server: &Server)
where
    C: Future<Output = Result<(), E>>,
    E: Display,
{
    let mut connection = pin!(connection);
    let mut life = Life::new(Instant::now(), server.limits, rand::random());
    let mut alarm = pin!(sleep_until(Instant::now().into()));
    let mut draining = pin!(server.signal.clone().wait());
    let mut drained = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = draining.as_mut(), if !drained => {
                drained = true;
                leave.drain();
                close(connection.as_mut());
                alarm.as_mut().reset(life.drain(Instant::now()).into());
            }
            () = alarm.as_mut() => match life.look(Instant::now(), activity.seen(server.protocol)) {
                Step::Wait(until) => alarm.as_mut().reset(until.into()),
                Step::Leave(until) => {
                    leave.drain();
                    close(connection.as_mut());
                    alarm.as_mut().reset(until.into());
                }
                Step::Close(reason) => return cut(server.protocol, reason),
            },
        }
    }
}

fn http2(limits: Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_pending_accept_reset_streams(limits.max_pending_accept_reset_streams)
        .max_header_list_size(limits.max_header_list_size)
        .keep_alive_interval(limits.keepalive)
        // gRPC has no use for it.
        .auto_date_header(false);
    builder
}

fn http(limits: Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(LARGEST_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_pending_accept_reset_streams(limits.max_pending_accept_reset_streams)
        .max_header_list_size(limits.max_header_list_size)
        .keep_alive_interval(limits.keepalive);
    builder
}

fn cut(protocol: Protocol, reason: Reason) {
    tracing::debug!(reason = reason.label(), "a connection is cut off");
    metrics::counter!(protocol.cut(), "reason" => reason.label()).increment(1);
}

/// A connection whose bytes are counted as they are read.
#[derive(Debug)]
struct Watched<I> {
    io: I,
    activity: Arc<Activity>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        self.activity.read(buffer.filled().len() - before);
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

//! The loop that takes connections, until the drain.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::admission::{Admission, Seat};
use super::connection::{self, Server};

/// Pause after the system has refused a connection for want of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// A drain takes what the kernel has queued until nothing has come for so long, and closes the listener then.
const QUIET: Duration = Duration::from_millis(10);
/// But no longer than this.
const LINGER: Duration = Duration::from_millis(100);

/// A socket that connections come from.
pub(super) trait Accept {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, Option<SocketAddr>)>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (io, address) = TcpListener::accept(self).await?;
        // Fails when the client has gone already, which the first read will tell.
        let _ = io.set_nodelay(true);
        // A socket for IPv6 shows clients with IPv4 in its own way.
        Ok((io, Some(SocketAddr::new(address.ip().to_canonical(), address.port()))))
    }
}

impl Accept for UnixListener {
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        let (io, _) = UnixListener::accept(self).await?;
        Ok((io, None))
    }
}

/// A connection that there is room for, until it is dropped.
#[derive(Debug)]
struct Admitted<I> {
    io: I,
    address: Option<SocketAddr>,
    _room: (Seat, OwnedSemaphorePermit),
}

/// Finds room for a connection, or closes it. Those that are refused count in the metric `refusals`.
async fn admit<I>(
    accepted: io::Result<(I, Option<SocketAddr>)>,
    admission: &Admission,
    refusals: &'static str,
) -> Option<Admitted<I>> {
    let (io, address) = match accepted {
        Ok(accepted) => accepted,
        // The client has gone again.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return None,
        Err(error) => {
            tracing::warn!(%error, "connections cannot be accepted; trying again soon");
            metrics::counter!(refusals, "reason" => "accept").increment(1);
            sleep(BACK_OFF).await;
            return None;
        }
    };
    let Some(seat) = admission.seat(address.map(|address| address.ip())) else {
        tracing::debug!(?address, "a client has too many connections");
        metrics::counter!(refusals, "reason" => "peer").increment(1);
        return None;
    };
    let room = admission.room().await?;
    Some(Admitted { io, address, _room: (seat, room) })
}

/// Takes connections until the server's signal, and ends when all of them have.
pub(super) async fn serve<L: Accept>(listener: L, server: Arc<Server>) {
    let mut connections = JoinSet::new();
    let mut draining = pin!(server.signal.clone().wait());
    loop {
        tokio::select! {
            () = draining.as_mut() => break,
            Some(ended) = connections.join_next() => log(ended),
            accepted = listener.accept() => tokio::select! {
                () = take(accepted, &server, &mut connections) => {}
                () = draining.as_mut() => break,
            },
        }
    }
    let closing = Instant::now() + LINGER;
    while let Ok(Ok(accepted)) = timeout_at(closing.min(Instant::now() + QUIET), listener.accept()).await {
        take(Ok(accepted), &server, &mut connections).await;
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log(ended);
    }
}

async fn take<I>(accepted: io::Result<(I, Option<SocketAddr>)>, server: &Arc<Server>, connections: &mut JoinSet<()>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(admitted) = admit(accepted, &server.admission, server.protocol.refused()).await else { return };
    let server = Arc::clone(server);
    connections.spawn(async move {
        let Admitted { io, address, _room } = admitted;
        connection::serve(io, address, server).await;
    });
}

fn log(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task ended early");
    }
}

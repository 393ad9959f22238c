//! HTTP listeners whose connections are capped, for axum.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};

use super::accept::{Accept, Admitted, admit};
use super::admission::Admission;

/// Takes connections as long as there is room.
#[derive(Debug)]
pub(super) struct Capped<L> {
    pub(super) listener: L,
    pub(super) admission: Admission,
}

impl<L: Accept + Local + Send + Sync + 'static> axum::serve::Listener for Capped<L> {
    type Io = Admitted<L::Io>;
    type Addr = Option<SocketAddr>;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let accepted = self.listener.accept().await;
            if let Some(admitted) = admit(accepted, &self.admission, "http_connections_refused_total").await {
                let address = admitted.address;
                return (admitted, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local()
    }
}

/// Where a socket listens.
pub(super) trait Local {
    /// Nothing for a Unix socket.
    fn local(&self) -> io::Result<Option<SocketAddr>>;
}

impl Local for TcpListener {
    fn local(&self) -> io::Result<Option<SocketAddr>> {
        self.local_addr().map(Some)
    }
}

impl Local for UnixListener {
    fn local(&self) -> io::Result<Option<SocketAddr>> {
        Ok(None)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Admitted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Admitted<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

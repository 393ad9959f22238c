//! HTTP/2 connections to the server under load, without the layers of a full client: they cost little, and they come back by
//! themselves when the server does.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::address::Address;
use crate::target::Answer;

/// Pause between attempts to connect again.
const RECONNECT: Duration = Duration::from_millis(100);

/// A server that does not even accept a connection in this time is not there.
const CONNECT: Duration = Duration::from_secs(5);

/// Large enough that flow control never slows a run down.
const WINDOW_BYTES: u32 = 16 << 20;

/// Why an exchange or a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection to begin with.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where the server should be.
        address: Address,
        /// What the operating system said.
        source: io::Error,
    },
    /// The server does not speak HTTP/2 or the connection broke.
    #[error("{0}")]
    Http2(#[from] h2::Error),
    /// The pool is gone.
    #[error("connection closed")]
    Closed,
}

/// A fixed number of connections. Each is opened again when it ends; dropping the pool closes them.
#[derive(Debug)]
pub struct Pool {
    connections: Vec<Connection>,
    _keepers: JoinSet<()>,
}

/// One of the connections; clones share it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The handle to send with, while there is a connection.
    requests: watch::Receiver<Option<SendRequest<Bytes>>>,
}

impl Pool {
    /// Opens `count` connections; fails if one of them cannot be opened.
    pub async fn open(address: &Address, count: usize) -> Result<Self, Error> {
        let mut connections = Vec::with_capacity(count);
        let mut keepers = JoinSet::new();
        for number in 1..=count {
            let (requests, driver) = handshake(address).await?;
            let (sender, requests) = watch::channel(Some(requests));
            connections.push(Connection { requests });
            keepers.spawn(keep(address.clone(), number, driver, sender));
        }
        Ok(Self { connections, _keepers: keepers })
    }

    /// The connections in turn, without end.
    pub fn in_turn(&self) -> impl Iterator<Item = &Connection> {
        self.connections.iter().cycle()
    }
}

impl Connection {
    /// Sends a request and reads the whole answer. While the connection is down it waits for the next one.
    pub async fn exchange(&self, request: Request<()>, body: Bytes) -> Result<Answer, Error> {
        let (response, mut stream) = self.sender().await?.ready().await?.send_request(request, false)?;
        stream.send_data(body, true)?;
        let (head, mut stream) = response.await?.into_parts();
        let mut body = BytesMut::new();
        while let Some(data) = stream.data().await {
            let data = data?;
            stream.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
        }
        let trailers = stream.trailers().await?;
        Ok(Answer { head, body: body.freeze(), trailers })
    }

    async fn sender(&self) -> Result<SendRequest<Bytes>, Error> {
        if let Some(sender) = &*self.requests.borrow() {
            return Ok(sender.clone());
        }
        let mut requests = self.requests.clone();
        let sender = requests.wait_for(Option::is_some).await.map_err(|_| Error::Closed)?;
        sender.clone().ok_or(Error::Closed)
    }
}

/// Moves a connection's bytes until it ends.
type Driver = std::pin::Pin<Box<dyn Future<Output = Result<(), h2::Error>> + Send>>;

/// Drives a connection until it ends, then opens the next one, for ever.
async fn keep(address: Address, number: usize, mut driver: Driver, sender: watch::Sender<Option<SendRequest<Bytes>>>) {
    loop {
        let ended = driver.await;
        sender.send_replace(None);
        match ended {
            Ok(()) => eprintln!("connection {number} to {address} was closed by the server, connecting again"),
            Err(error) => eprintln!("connection {number} to {address} broke ({error}), connecting again"),
        }
        driver = loop {
            tokio::time::sleep(RECONNECT).await;
            if let Ok((requests, driver)) = handshake(&address).await {
                eprintln!("connection {number} to {address} is back");
                sender.send_replace(Some(requests));
                break driver;
            }
        };
    }
}

async fn handshake(address: &Address) -> Result<(SendRequest<Bytes>, Driver), Error> {
    let connect = |source| Error::Connect { address: address.clone(), source };
    match address {
        Address::Tcp { socket, .. } => {
            let stream = within(TcpStream::connect(socket)).await.map_err(connect)?;
            stream.set_nodelay(true).map_err(connect)?;
            http2(stream).await
        }
        Address::Unix(path) => http2(within(UnixStream::connect(path)).await.map_err(connect)?).await,
    }
}

async fn within<S>(connecting: impl Future<Output = io::Result<S>>) -> io::Result<S> {
    tokio::time::timeout(CONNECT, connecting).await?
}

async fn http2<S>(stream: S) -> Result<(SendRequest<Bytes>, Driver), Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (requests, connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(stream)
        .await?;
    Ok((requests, Box::pin(connection)))
}

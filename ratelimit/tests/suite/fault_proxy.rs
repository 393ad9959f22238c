//! A network that fails: a TCP proxy on loopback in front of a server, driven by the test.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// What happens to connections from now on; to those that are open, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Everything passes.
    #[default]
    None,
    /// Replies come so much later.
    Slow(Duration),
    /// Replies do not come until something else happens, while requests pass.
    NoReplies,
    /// Connections end, and new ones too.
    Cut,
    /// Connections end with a reset, and new ones too.
    Reset,
    /// Each connection ends after so many bytes of replies.
    Truncate(usize),
}

/// Passes connections to a server until it is dropped.
pub(crate) struct FaultProxy {
    address: String,
    fault: watch::Sender<Fault>,
    requests: Arc<Mutex<usize>>,
    accepting: JoinHandle<()>,
}

/// Where a server listens.
#[derive(Clone)]
pub(crate) enum Target {
    /// At an address.
    Tcp(String),
    /// At a path.
    Unix(PathBuf),
}

impl From<&Path> for Target {
    fn from(path: &Path) -> Self {
        Self::Unix(path.into())
    }
}

impl From<&str> for Target {
    fn from(address: &str) -> Self {
        Self::Tcp(address.into())
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Target {
    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

impl FaultProxy {
    /// Listens on a free port of loopback.
    pub(crate) async fn start(target: impl Into<Target>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (target, (fault, faults), requests) = (target.into(), watch::channel(Fault::None), Arc::default());
        let accepting = tokio::spawn(accept(listener, target, faults, Arc::clone(&requests)));
        Self { address, fault, requests, accepting }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Lets this happen from now on.
    pub(crate) fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Chunks of requests that have passed: without pipelining, how many there were.
    pub(crate) fn requests(&self) -> usize {
        *self.requests.lock().unwrap()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.set(Fault::Cut);
    }
}

async fn accept(listener: TcpListener, target: Target, faults: watch::Receiver<Fault>, requests: Arc<Mutex<usize>>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(pass(client, target.clone(), faults.clone(), Arc::clone(&requests)));
    }
}

async fn pass(client: TcpStream, target: Target, mut faults: watch::Receiver<Fault>, requests: Arc<Mutex<usize>>) {
    let (mut of_state, resets) = (faults.clone(), faults.clone());
    if let Ok(server) = target.connect().await {
        let (mut from_server, mut to_server) = split(server);
        let mut client = Client(client, resets);
        let (mut from_client, mut to_client) = client.0.split();
        let forth = async {
            let mut buffer = [0; 16 * 1024];
            while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                *requests.lock().unwrap() += 1;
                if to_server.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = forth => {}
            () = back(&mut from_server, &mut to_client, &mut faults) => {}
            _ = of_state.wait_for(|fault| matches!(fault, Fault::Cut | Fault::Reset)) => {}
        }
    }
}

/// Ends with a reset if that is what happens.
struct Client(TcpStream, watch::Receiver<Fault>);

impl Drop for Client {
    fn drop(&mut self) {
        if *self.1.borrow() == Fault::Reset {
            let _ = self.0.set_zero_linger();
        }
    }
}

/// Hands replies on.
async fn back(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    faults: &mut watch::Receiver<Fault>,
) {
    let (mut buffer, mut passed) = ([0; 16 * 1024], 0);
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let read = Instant::now();
        let Ok(fault) = faults.wait_for(|fault| *fault != Fault::NoReplies).await.map(|fault| *fault) else { return };
        let length = match fault {
            Fault::Slow(delay) => {
                sleep_until(read + delay).await;
                length
            }
            Fault::Truncate(most) => length.min(most.saturating_sub(passed)),
            _ => length,
        };
        passed += length;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        if matches!(fault, Fault::Truncate(most) if passed >= most) {
            return;
        }
    }
}

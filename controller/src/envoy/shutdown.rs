//! `controller envoy shutdown-manager`: stands beside an Envoy in its pod, and lets its connections go before it ends.
//!
//! When the pod is to end, Kubernetes asks for `GET /shutdown/ready` before it stops Envoy, and sends this program SIGTERM.
//! Either begins the draining: Envoy denies readiness and asks its clients to go elsewhere. The question is answered, and
//! this program ends, once nobody is connected or the time is over.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::{Router, extract::State, routing::get};
use clap::{Args, Subcommand};
use controller_api::Duration as ApiDuration;
use http::Method;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use proto::{
    drain,
    serve::{self, Address, Listener},
};
use tokio::{net::TcpStream, sync::watch, time::Instant};

use super::drain::ask;
use crate::error::chain;

/// How often Envoy is asked whether anybody is connected.
const POLL: Duration = Duration::from_secs(1);
/// How long Envoy may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Ports of a pod's own listeners: statistics and readiness. Who asks there is no client.
const OWN_PORTS: [u16; 2] = [19001, 19003];

/// What runs in the pods of Envoys.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Stand beside an Envoy and let its connections go before it ends
    ShutdownManager(Options),
}

/// How connections are let go.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where Kubernetes asks
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 19002))]
    pub listen: SocketAddr,
    /// Envoy's admin interface
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 19000))]
    pub admin: SocketAddr,
    /// Longest time that connections are waited for
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub drain_timeout: ApiDuration,
    /// Shortest time, for load balancers to notice
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub min_drain_duration: ApiDuration,
    /// Time from the begin of draining until readiness is denied
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub health_check_failure_delay: ApiDuration,
}

/// Why it could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime does not start.
    #[error("starting the runtime")]
    Runtime(#[source] io::Error),
    /// The address is in use, or the server failed.
    #[error(transparent)]
    Serve(#[from] serve::Error),
}

/// Runs until the pod ends.
pub fn run(command: &Command) -> Result<(), Error> {
    let Command::ShutdownManager(options) = command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(serve(options))
}

#[derive(Clone, Debug)]
struct Draining {
    begin: watch::Sender<bool>,
    done: watch::Receiver<bool>,
}

async fn serve(options: &Options) -> Result<(), Error> {
    let listener = Listener::bind(&Address::Tcp(options.listen))?;
    let (trigger, signal) = drain::new();
    tokio::spawn(drain::on_sigterm(trigger));
    let (begin, mut asked) = watch::channel(false);
    let (finish, done) = watch::channel(false);
    let (stop, stopped) = drain::new();
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/shutdown/ready", get(ready))
        .with_state(Draining { begin: begin.clone(), done });
    let server = tokio::spawn(serve::http(listener, router, stopped));
    tokio::select! {
        () = signal.clone().wait() => {}
        _ = asked.wait_for(|asked| *asked) => {}
    }
    drain(options).await;
    finish.send_replace(true);
    // Envoy is told to end by Kubernetes; this program is, too, and until then it answers.
    signal.wait().await;
    stop.drain();
    match server.await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Ok(()),
    }
}

/// Begins the draining, and answers when it is done.
async fn ready(State(draining): State<Draining>) -> &'static str {
    draining.begin.send_replace(true);
    // An error means that the sender is gone, and so is what was waited for.
    let _ = draining.done.clone().wait_for(|done| *done).await;
    "ok\n"
}

/// Lets the connections of the Envoy go.
async fn drain(options: &Options) {
    let begin = Instant::now();
    let end = begin + Duration::from(options.drain_timeout);
    let earliest = (begin + Duration::from(options.min_drain_duration)).min(end);
    let delay = Duration::from(options.health_check_failure_delay);
    tracing::info!("draining Envoy");
    if !delay.is_zero() {
        tell(options.admin, "/drain_listeners?graceful&skip_exit").await;
        tokio::time::sleep_until((begin + delay).min(end)).await;
    }
    tell(options.admin, "/healthcheck/fail").await;
    while Instant::now() < end {
        let active = match connections(options.admin).await {
            Ok(active) => active,
            Err(error) => {
                // An Envoy that does not answer has no connections worth waiting for.
                tracing::warn!("asking Envoy for its connections: {}", chain(&error));
                0
            }
        };
        if active == 0 && Instant::now() >= earliest {
            break;
        }
        tokio::time::sleep_until((Instant::now() + POLL).min(end)).await;
    }
    tracing::info!(seconds = begin.elapsed().as_secs(), "Envoy is drained");
}

async fn tell(admin: SocketAddr, path: &str) {
    if let Err(error) = request(admin, Method::POST, path).await {
        tracing::warn!("telling Envoy {path}: {}", chain(&error));
    }
}

async fn connections(admin: SocketAddr) -> io::Result<u64> {
    Ok(active(&request(admin, Method::GET, "/stats?filter=%5Elistener%5C..%2A%5C.downstream_cx_active%24").await?))
}

/// How many clients are connected, as lines such as `listener.0.0.0.0_10080.downstream_cx_active: 1` say.
fn active(stats: &str) -> u64 {
    let own: BTreeSet<String> = OWN_PORTS.iter().map(|port| format!("_{port}")).collect();
    let counts = stats.lines().filter_map(|line| line.split_once(": "));
    let listeners = counts.filter_map(|(name, count)| {
        let listener = name.strip_prefix("listener.")?.strip_suffix(".downstream_cx_active")?;
        // Each worker has a count of its own, which is in the listener's.
        let counted = listener.starts_with("admin") || listener.contains(".worker_");
        let is_own = own.iter().any(|port| listener.ends_with(port.as_str()));
        (!counted && !is_own).then(|| count.trim().parse::<u64>().unwrap_or(0))
    });
    listeners.sum()
}

async fn request(admin: SocketAddr, method: Method, path: &str) -> io::Result<String> {
    let exchange = async {
        let (mut client, connection) =
            handshake(TokioIo::new(TcpStream::connect(admin).await?)).await.map_err(io::Error::other)?;
        // It ends by itself when the peer or this side is done; an answer that has arrived is still read then.
        tokio::spawn(connection);
        ask(&mut client, method, path).await
    };
    tokio::time::timeout(ANSWER, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn only_clients_count() {
        let stats = "listener.0.0.0.0_10080.downstream_cx_active: 3\n\
                     listener.0.0.0.0_10080.worker_0.downstream_cx_active: 3\n\
                     listener.0.0.0.0_19001.downstream_cx_active: 1\n\
                     listener.0.0.0.0_19003.downstream_cx_active: 2\n\
                     listener.admin.downstream_cx_active: 1\n\
                     listener.[__]_10443.downstream_cx_active: 4\n\
                     http.x.downstream_cx_active: 9\n";
        assert_eq!(active(stats), 7);
        assert_eq!(active(""), 0);
    }

    /// An admin interface on which `connections` answers take turns, the last one for ever; it notes what it is told.
    async fn admin(connections: Vec<u64>) -> (SocketAddr, watch::Receiver<Vec<String>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, tell) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut turns = connections.into_iter().peekable();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let line = String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or_default().to_owned();
                let active = *turns.peek().unwrap();
                if line.contains("/stats") && turns.len() > 1 {
                    turns.next();
                }
                told.send_modify(|told| told.push(line));
                let body = format!("listener.0.0.0.0_10080.downstream_cx_active: {active}\n");
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (address, tell)
    }

    fn options(admin: SocketAddr, timeout: u64, least: u64) -> Options {
        Options {
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            admin,
            drain_timeout: ApiDuration::from_millis(timeout),
            min_drain_duration: ApiDuration::from_millis(least),
            health_check_failure_delay: ApiDuration::default(),
        }
    }

    #[tokio::test]
    async fn it_waits_until_nobody_is_connected() {
        let (admin, told) = admin(vec![2, 1, 0]).await;
        drain(&options(admin, 600_000, 0)).await;
        let told = told.borrow();
        assert!(told[0].starts_with("POST /healthcheck/fail "), "{told:?}");
        assert_eq!(told.iter().filter(|line| line.starts_with("GET /stats")).count(), 3, "{told:?}");
    }

    #[tokio::test]
    async fn it_waits_no_longer_than_it_may_and_no_shorter() {
        let (busy, _told) = admin(vec![1]).await;
        let begin = Instant::now();
        drain(&options(busy, 1500, 0)).await;
        assert!(begin.elapsed() >= Duration::from_millis(1500));
        let (idle, _told) = admin(vec![0]).await;
        let begin = Instant::now();
        drain(&options(idle, 600_000, 1200)).await;
        assert!(begin.elapsed() >= Duration::from_millis(1200));
    }

    #[tokio::test]
    async fn an_envoy_that_is_gone_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = listener.local_addr().unwrap();
        drop(listener);
        drain(&options(gone, 600_000, 0)).await;
    }
}

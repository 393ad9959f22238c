//! A client of an xDS server: where the server is, how long to wait for it, and what it said last.

use std::{error, future::Future, io, iter, path::PathBuf};

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tokio::time;
use tonic::{Status, transport};

mod backoff;
mod options;
pub mod state;

pub use self::{backoff::Backoff, options::Options, state::State};

/// Share of the pause between two attempts to connect by which it varies, so that replicas do not return in step.
const CONNECT_JITTER: f64 = 0.5;

/// A connection to the server.
pub type Client = AggregatedDiscoveryServiceClient<transport::Channel>;

/// Why there is no stream. What is in force stays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's address cannot be read.
    #[error("`{0}` is no xDS server; say HOST:PORT")]
    Target(String),
    /// A certificate or key file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Certificates and key do not make a TLS client.
    #[error("setting up TLS to the xDS server")]
    Tls(#[source] transport::Error),
    /// The server is not there, or TLS failed.
    #[error("connecting to the xDS server")]
    Connect(#[source] transport::Error),
    /// The server refused the stream or broke it off.
    #[error("following the xDS server")]
    Stream(#[from] Status),
    /// The server ended the stream.
    #[error("the xDS server has ended the stream")]
    Ended,
}

/// What is done with the server, one stream after another.
pub trait Subscriber: Send {
    /// Opens a stream and follows it to its end. Resets the backoff when the server speaks.
    fn stream(&mut self, client: Client, backoff: &mut Backoff) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Follows the server for as long as it is polled. Errors are logged.
pub async fn follow(options: &Options, mut subscriber: impl Subscriber) {
    let mut backoff = options.backoff();
    let connecting = options.connect_retry_interval();
    let mut connecting = Backoff::new(connecting, connecting, CONNECT_JITTER);
    loop {
        // Reads the certificates anew each time.
        let (error, pause) = match options.connect().await {
            Err(error) => (error, connecting.pause()),
            Ok(client) => {
                let error = subscriber.stream(client, &mut backoff).await.err().unwrap_or(Error::Ended);
                (error, backoff.pause())
            }
        };
        tracing::warn!(error = reasons(&error), retry_in = ?pause, "no xDS server; the configuration stays");
        time::sleep(pause).await;
    }
}

/// The error with all that caused it; what the transport says is below its surface.
fn reasons(error: &Error) -> String {
    let error: &dyn error::Error = error;
    let reasons = iter::successors(Some(error), |error| error.source());
    reasons.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

//! Configuration from an xDS server such as Envoy Gateway: state-of-the-world ADS, one stream after another.

use std::{error, io, iter, path::PathBuf};

use envoy_types::pb::envoy::service::discovery::v3::{
    DiscoveryResponse, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use proto::readiness::Block;
use tokio::{sync::mpsc, task, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, transport};

use self::{backoff::Backoff, session::Session, state::State};
use crate::{
    config::{Config, Domains},
    metrics::ConfigLoad,
    overrides::Overlay,
};

mod backoff;
mod options;
mod session;
mod state;

pub use options::Options;

/// Share of the pause between two attempts to connect by which it varies, so that replicas do not return in step.
const CONNECT_JITTER: f64 = 0.5;

/// Why there is no stream. The configuration in force stays.
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

/// A client of one xDS server.
#[derive(Debug)]
pub struct Xds {
    options: Options,
    session: Session,
    state: Option<State>,
    current: Overlay,
    /// Held until the server has said anything.
    first: Option<Block>,
    metrics: ConfigLoad,
}

impl Xds {
    /// Does not connect yet, but refuses options that never can. `first` is dropped when the server has sent a
    /// configuration, good or not, or the last one that it sent to this directory is in force.
    pub fn new(options: Options, domains: Domains, current: impl Into<Overlay>, first: Block) -> Result<Self, Error> {
        options.endpoint()?;
        let session = Session::new(options.node(), domains);
        let state = options.state_dir().map(State::new);
        let (current, first, metrics) = (current.into(), Some(first), ConfigLoad::new());
        let mut xds = Self { options, session, state, current, first, metrics };
        xds.resume();
        Ok(xds)
    }

    /// Puts in force what the server sent before the program was started, until it says something else.
    fn resume(&mut self) {
        let kept = match self.state.as_ref().map_or(Ok(None), State::load) {
            Ok(Some(kept)) => kept,
            Ok(None) => return,
            Err(error) => return tracing::error!(%error, "the kept configuration is ignored"),
        };
        let version = &kept.version_info;
        match self.session.read(&kept) {
            Ok(config) => {
                self.current.publish(config);
                self.first = None;
                tracing::warn!(version, "the kept configuration is in force until the xDS server sends another one");
            }
            Err(error) => tracing::error!(%error, version, "the kept configuration is ignored"),
        }
    }

    /// Puts in force what the server sends, for as long as it is polled. Errors are logged.
    pub async fn follow(mut self) {
        let mut backoff = self.options.backoff();
        let connecting = self.options.connect_retry_interval();
        let mut connecting = Backoff::new(connecting, connecting, CONNECT_JITTER);
        loop {
            let (error, pause) = match self.connect().await {
                Err(error) => (error, connecting.pause()),
                Ok(client) => {
                    let error = self.stream(client, &mut backoff).await.err().unwrap_or(Error::Ended);
                    (error, backoff.pause())
                }
            };
            tracing::warn!(error = reasons(&error), retry_in = ?pause, "no xDS server; the configuration stays");
            time::sleep(pause).await;
        }
    }

    /// Reads the certificates anew each time.
    async fn connect(&self) -> Result<Client, Error> {
        let channel = self.options.endpoint()?.connect().await.map_err(Error::Connect)?;
        Ok(Client::new(channel).max_decoding_message_size(self.options.max_message_size()))
    }

    async fn stream(&mut self, mut client: Client, backoff: &mut Backoff) -> Result<(), Error> {
        let (requests, receiver) = mpsc::channel(1);
        let opened = requests.send(self.session.open()).await;
        let mut request = Request::new(ReceiverStream::new(receiver));
        *request.metadata_mut() = self.options.additional_headers();
        let mut responses = client.stream_aggregated_resources(request).await?.into_inner();
        let mut sent = opened.is_ok();
        while sent && let Some(response) = responses.message().await? {
            backoff.reset();
            let Some(answer) = self.session.receive(&response) else { continue };
            let accepted = self.put_in_force(&response, answer.config);
            self.first = None;
            if answer.refused_again {
                // Some servers send what was refused again at once; without a pause that never ends.
                time::sleep(self.options.connect_retry_interval()).await;
            }
            sent = requests.send(answer.request).await.is_ok();
            if accepted {
                self.keep(response).await;
            }
        }
        Ok(())
    }

    fn put_in_force(&self, response: &DiscoveryResponse, config: Result<Config, session::Error>) -> bool {
        let version = &response.version_info;
        match config {
            Ok(config) => {
                self.current.publish(config);
                self.metrics.success.increment(1);
                tracing::info!(version, resources = response.resources.len(), "configuration loaded");
                true
            }
            Err(error) => {
                self.metrics.error.increment(1);
                tracing::error!(%error, version, "configuration refused; the last good one stays in force");
                false
            }
        }
    }

    /// Writes the configuration that is in force; the disk holds up no other task.
    async fn keep(&self, response: DiscoveryResponse) {
        let Some(state) = self.state.clone() else { return };
        match task::spawn_blocking(move || state.keep(&response)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the configuration is in force but not kept"),
            Err(error) => tracing::error!(%error, "the configuration is in force but not kept"),
        }
    }
}

type Client = AggregatedDiscoveryServiceClient<transport::Channel>;

/// The error with all that caused it; what the transport says is below its surface.
fn reasons(error: &Error) -> String {
    let error: &dyn error::Error = error;
    let reasons = iter::successors(Some(error), |error| error.source());
    reasons.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

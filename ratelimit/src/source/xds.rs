//! Configuration from an xDS server such as Envoy Gateway: state-of-the-world ADS, one stream after another.

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use proto::{
    readiness::Block,
    xds::{self, Backoff, Client, Error, Options, State, Subscriber},
};
use tokio::{sync::mpsc, task, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use self::session::Session;
use crate::{
    config::{Config, Domains},
    metrics::ConfigLoad,
    overrides::Overlay,
};

mod session;

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
        options.check()?;
        let session = Session::new(options.node(), domains);
        let state = options.state_dir().map(|dir| State::new(dir, "ratelimit"));
        let (current, first, metrics) = (current.into(), Some(first), ConfigLoad::new());
        let mut xds = Self { options, session, state, current, first, metrics };
        xds.resume();
        Ok(xds)
    }

    /// Puts in force what the server sent before the program was started, until it says something else.
    fn resume(&mut self) {
        let kept: DiscoveryResponse = match self.state.as_ref().map_or(Ok(None), State::load) {
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
    pub async fn follow(self) {
        let options = self.options.clone();
        xds::follow(&options, self).await;
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

impl Subscriber for Xds {
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
}

//! Policies from the controller: delta ADS, one stream after another.

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use proto::readiness::Block;
use proto::xds::{self, Backoff, Client, Error, Options, State, Subscriber};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use self::held::Held;
use crate::metrics;
use crate::service::Authorizer;

mod held;

/// A client of one xDS server, whose policies an [`Authorizer`] enforces. One that is wrong leaves the one before of its name in
/// force; without one before, it denies. The others are not concerned.
#[derive(Debug)]
pub struct Xds {
    options: Options,
    state: Option<State>,
    authorizer: Authorizer,
    held: Held,
    /// Held until the server has said anything.
    first: Option<Block>,
}

impl Xds {
    /// Does not connect yet, but refuses options that never can. `first` is dropped when the server has answered, or when what
    /// it sent to the directory of these options before is in force.
    pub fn new(options: Options, authorizer: Authorizer, first: Block) -> Result<Self, Error> {
        options.check()?;
        let state = options.state_dir().map(|dir| State::new(dir, "extauth"));
        Ok(Self { options, state, authorizer, held: Held::default(), first: Some(first) })
    }

    /// Puts in force what the server sends, for as long as it is polled. Errors are logged.
    pub async fn follow(mut self) {
        self.resume().await;
        let options = self.options.clone();
        xds::follow(&options, self).await;
    }

    /// Puts in force what the server sent before the program was started, until it says something else.
    async fn resume(&mut self) {
        let kept: DeltaDiscoveryResponse = match self.state.as_ref().map_or(Ok(None), State::load) {
            Ok(Some(kept)) => kept,
            Ok(None) => return,
            Err(error) => return tracing::error!(%error, "the kept policies are ignored"),
        };
        let policies = kept.resources.len();
        if self.take(kept).await.is_ok() {
            self.first = None;
            tracing::warn!(policies, "the kept policies are in force until the xDS server sends others");
        }
    }

    /// Puts changes in force. The error says which of them are not, and why.
    async fn take(&mut self, response: DeltaDiscoveryResponse) -> Result<(), String> {
        let (mut held, authorizer) = (std::mem::take(&mut self.held), self.authorizer.clone());
        // Hashing and parsing keep the thread from health and metrics. Should this panic, the next stream begins anew.
        let taking = tokio::task::spawn_blocking(move || {
            let refusals = held.take(response, &authorizer);
            (held, refusals)
        });
        let (held, refusals) = taking.await.map_err(|_| "the policies cannot be put in force".to_owned())?;
        self.held = held;
        metrics::reloaded(refusals.is_empty());
        for refusal in &refusals {
            tracing::error!(policy = refusal.policy, error = refusal.problem, "the policy is refused");
        }
        let problems: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// Writes what is in force.
    async fn keep(&self) {
        let Some(state) = self.state.clone() else { return };
        let response = self.held.message();
        // The disk holds up no other task.
        match tokio::task::spawn_blocking(move || state.keep(&response)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the policies are in force but not kept"),
            Err(error) => tracing::error!(%error, "the policies are in force but not kept"),
        }
    }
}

impl Subscriber for Xds {
    async fn stream(&mut self, mut client: Client, backoff: &mut Backoff) -> Result<(), Error> {
        let (requests, receiver) = mpsc::channel(1);
        let opened = requests.send(self.held.open(self.options.node())).await;
        let mut request = Request::new(ReceiverStream::new(receiver));
        *request.metadata_mut() = self.options.additional_headers();
        let mut responses = client.delta_aggregated_resources(request).await?.into_inner();
        let mut sent = opened.is_ok();
        while sent && let Some(response) = responses.message().await? {
            backoff.reset();
            if response.type_url != held::TYPE_URL {
                continue;
            }
            let (nonce, changes) =
                (response.nonce.clone(), response.resources.len() + response.removed_resources.len());
            let taken = self.take(response).await;
            self.first = None;
            tracing::info!(changes, policies = self.held.len(), "policies are in force");
            sent = requests.send(held::answer(nonce, taken.err())).await.is_ok();
            self.keep().await;
        }
        Ok(())
    }
}

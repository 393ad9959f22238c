//! An Envoy, as far as its stream goes: it asks for all there is and acknowledges whatever it is sent.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use controller_core::xds::Type;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::Ledger;
use crate::world;

/// Requests that wait for the server's flow control.
const QUEUE: usize = 64;
/// Largest response: a route configuration of ten thousand routes has some ten megabytes.
const MAX_RESPONSE: usize = 256 << 20;

/// Why an Envoy has no stream.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("connecting to the xDS server")]
    Connect(#[from] tonic::transport::Error),
    /// The server has ended the stream with this status.
    #[error("the xDS stream: {0}")]
    Stream(#[from] tonic::Status),
    /// The server has ended the stream, or takes no requests.
    #[error("the xDS stream has ended")]
    Ended,
}

/// What one Envoy has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Sets of endpoints that it was sent.
    pub(super) endpoints: usize,
    /// Route configurations that it was sent.
    pub(super) routes: usize,
    /// Bytes of all responses.
    pub(super) bytes: u64,
    /// Number of responses.
    pub(super) messages: u64,
}

pub(super) struct Envoy {
    index: usize,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    endpoints: HashSet<String>,
}

impl Envoy {
    pub(super) async fn connect(address: &str, index: usize) -> Result<Self, Error> {
        let channel = Endpoint::from_shared(address.to_owned())?.connect().await?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE);
        let (requests, receiver) = mpsc::channel(QUEUE);
        let node = Node { id: format!("envoy-{index}"), cluster: world::PROXY.to_owned(), ..Default::default() };
        let first = DeltaDiscoveryRequest { node: Some(node), ..subscription(Type::Cluster, vec!["*".to_owned()]) };
        requests.send(first).await.map_err(|_| Error::Ended)?;
        let responses = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { index, requests, responses, endpoints: HashSet::new() })
    }

    /// Follows the stream until it ends.
    pub(super) async fn run(mut self, ledger: Arc<Ledger>, progress: watch::Sender<Progress>) -> Result<(), Error> {
        let mut asked_for_listeners = false;
        while let Some(response) = self.responses.message().await? {
            let kind = Type::from_url(&response.type_url);
            let acknowledgement = DeltaDiscoveryRequest {
                type_url: response.type_url.clone(),
                response_nonce: response.nonce.clone(),
                ..Default::default()
            };
            self.send(acknowledgement).await?;
            let now = Instant::now();
            if kind == Some(Type::Cluster) {
                self.ask_for_endpoints(&response).await?;
                if !std::mem::replace(&mut asked_for_listeners, true) {
                    self.send(subscription(Type::Listener, vec!["*".to_owned()])).await?;
                }
            }
            if kind == Some(Type::Listener) {
                let names = response.resources.iter().map(|resource| resource.name.clone());
                let names = names.filter(|name| name.starts_with(world::PROXY)).collect();
                self.send(subscription(Type::RouteConfiguration, names)).await?;
            }
            if matches!(kind, Some(Type::RouteConfiguration | Type::ClusterLoadAssignment)) {
                for mark in ledger.awaited(self.index) {
                    if holds(&response, mark.as_bytes()) {
                        ledger.seen(&mark, self.index, now);
                    }
                }
            }
            progress.send_modify(|progress| {
                progress.bytes += response.encoded_len() as u64;
                progress.messages += 1;
                match kind {
                    Some(Type::ClusterLoadAssignment) => progress.endpoints += response.resources.len(),
                    Some(Type::RouteConfiguration) => progress.routes += response.resources.len(),
                    _ => {}
                }
            });
        }
        Err(Error::Ended)
    }

    /// The endpoints of clusters that are new.
    async fn ask_for_endpoints(&mut self, response: &DeltaDiscoveryResponse) -> Result<(), Error> {
        let names = response.resources.iter().map(|resource| resource.name.clone());
        // Of others Envoy resolves the names itself.
        let names = names.filter(|name| name.starts_with("httproute/"));
        let names: Vec<String> = names.filter(|name| self.endpoints.insert(name.clone())).collect();
        if names.is_empty() { Ok(()) } else { self.send(subscription(Type::ClusterLoadAssignment, names)).await }
    }

    async fn send(&self, request: DeltaDiscoveryRequest) -> Result<(), Error> {
        self.requests.send(request).await.map_err(|_| Error::Ended)
    }
}

fn subscription(kind: Type, names: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: kind.url().to_owned(), resource_names_subscribe: names, ..Default::default() }
}

/// Whether a mark stands anywhere in the resources of a response.
fn holds(response: &DeltaDiscoveryResponse, mark: &[u8]) -> bool {
    let mut messages = response.resources.iter().filter_map(|resource| resource.resource.as_ref());
    messages.any(|any| memchr::memmem::find(&any.value, mark).is_some())
}

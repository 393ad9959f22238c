//! Moves messages between Envoys' streams and their [`Session`]s.

use std::{sync::Arc, time::Duration};

use controller_core::xds::Resources;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
};
use proto::drain::Signal;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Cache, Session,
    cache::{Connected, Rejection},
    identity::{Client, Identity},
    state_of_the_world::StateOfTheWorld,
    variant::Variant,
};

/// Responses that wait for a client's flow control; a session has at most one for each type under way.
const QUEUE: usize = 8;
/// How long a client that reads nothing keeps its stream.
const STALLED: Duration = Duration::from_mins(1);
/// How long an update is held back for the sake of an answer, such as that of a cluster whose DNS name does not resolve.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest request: a client that reconnects names every resource that it holds.
const MAX_REQUEST: usize = 32 << 20;

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`, in both variants.
#[derive(Debug)]
pub struct Server {
    cache: Cache,
    drain: Signal,
    identity: Identity,
}

impl Server {
    /// Serves what is in `cache`, to each Envoy that of the proxy which its `node.cluster` names.
    pub fn new(cache: Cache, drain: Signal) -> AggregatedDiscoveryServiceServer<Self> {
        Self::verified(cache, drain, Identity::Unverified)
    }

    /// The same for Envoys that show that they belong to that proxy.
    pub fn verified(cache: Cache, drain: Signal, identity: Identity) -> AggregatedDiscoveryServiceServer<Self> {
        let server = AggregatedDiscoveryServiceServer::new(Self { cache, drain, identity });
        server.max_decoding_message_size(MAX_REQUEST)
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Server {
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.open::<Session>(request).await
    }

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.open::<StateOfTheWorld>(request).await
    }
}

type Responses<R> = ReceiverStream<Result<R, Status>>;
type Sender<R> = mpsc::Sender<Result<R, Status>>;

impl Server {
    /// Begins to serve a stream.
    async fn open<V: Variant>(
        &self,
        request: Request<Streaming<V::Request>>,
    ) -> Result<Response<Responses<V::Response>>, Status> {
        let (responses, stream) = mpsc::channel(QUEUE);
        let (cache, drain) = (self.cache.clone(), self.drain.clone());
        let identified = self.identity.client(&request).await?;
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = serve::<V>(request.into_inner(), &responses, &cache, &identified) => outcome,
                () = drain.wait() => Err(Status::unavailable("the controller is shutting down")),
            };
            if let Err(status) = outcome {
                // A client that has gone needs no status.
                let _ = responses.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Serves one stream until the client ends it.
async fn serve<V: Variant>(
    mut requests: Streaming<V::Request>,
    responses: &Sender<V::Response>,
    cache: &Cache,
    identified: &Client,
) -> Result<(), Status> {
    let Some(mut request) = requests.message().await? else { return Ok(()) };
    let node = V::take_node(&mut request).unwrap_or_default();
    if node.cluster.is_empty() {
        return Err(Status::invalid_argument("the first request has no node.cluster (Envoy's --service-cluster)"));
    }
    if !identified.is_of_proxy(&node.cluster) {
        tracing::warn!(cluster = node.cluster, client = ?identified, "a client asks for a proxy that it does not belong to");
        return Err(Status::permission_denied("the client does not belong to the proxy that its node.cluster names"));
    }
    let client = cache.connect(node.id.clone(), node.cluster.clone());
    tracing::debug!(node = node.id, cluster = node.cluster, "an Envoy has connected");
    let mut variant = V::default();
    let mut proxies = cache.proxies();
    let mut patience = Instant::now() + PATIENCE;
    let mut request = Some(request);
    loop {
        if let Some(request) = request.take() {
            variant.accept(&request).map_err(|error| Status::invalid_argument(error.to_string()))?;
        }
        // An Envoy whose proxy is not known yet, or not any more, waits and keeps what it has.
        let latest = proxies.borrow_and_update().get(&node.cluster).cloned();
        if let Some(latest) = &latest {
            for response in variant.update(latest) {
                patience = Instant::now() + PATIENCE;
                send(responses, response).await?;
            }
        }
        report(&client, &node.id, variant.session(), latest);
        tokio::select! {
            next = requests.message() => match next? {
                Some(next) => request = Some(next),
                None => return Ok(()),
            },
            changed = proxies.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep_until(patience), if variant.session().is_waiting() => variant.give_up_waiting(),
        }
    }
}

async fn send<R>(responses: &Sender<R>, response: R) -> Result<(), Status> {
    let sent = responses.send_timeout(Ok(response), STALLED).await;
    sent.map_err(|_| Status::deadline_exceeded("the client does not read its responses"))
}

fn report(client: &Connected, node: &str, session: &Session, latest: Option<Arc<Resources>>) {
    let rejections = session.rejections().map(|(kind, name, rejection)| Rejection {
        kind,
        name: name.to_owned(),
        version: rejection.version.clone(),
        message: rejection.message.clone(),
    });
    let rejections = rejections.collect();
    let holds = latest.filter(|latest| session.is_current(latest));
    for Rejection { kind, name, message, .. } in client.report(holds, rejections) {
        metrics::counter!("xds_nack_total", "nodeID" => node.to_owned(), "typeURL" => kind.url()).increment(1);
        tracing::warn!(node, kind = ?kind, name, "Envoy refuses a resource and keeps the one before: {message}");
    }
}

#[cfg(test)]
mod tests;

//! Serves `ratelimit` and `extauth` what they are configured with. No Envoy gets any of it.

use controller_core::infra;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
};
use proto::drain::Signal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Identity, limits,
    limits::Limits,
    policies::{self, Policies},
    refused::Refused,
};

/// Largest request: a client that reconnects names every policy that it holds.
const MAX_REQUEST: usize = 32 << 20;

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`: state of the world for `ratelimit`, deltas for `extauth`.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    policies: Policies,
    refused: Refused,
    drain: Signal,
    identity: Identity,
}

impl Server {
    /// Serves `limits` to clients that show that they are `envoy-ratelimit`, and `policies` to those that are
    /// `envoy-extauth`. What they refuse goes to `refused`.
    pub fn new(
        limits: Limits,
        policies: Policies,
        refused: Refused,
        drain: Signal,
        identity: Identity,
    ) -> AggregatedDiscoveryServiceServer<Self> {
        let server = AggregatedDiscoveryServiceServer::new(Self { limits, policies, refused, drain, identity });
        server.max_decoding_message_size(MAX_REQUEST)
    }

    /// Runs `serving` until it ends or the controller does.
    fn spawn<R: Send + 'static>(
        &self,
        responses: mpsc::Sender<Result<R, Status>>,
        serving: impl Future<Output = Result<(), Status>> + Send + 'static,
    ) {
        let drain = self.drain.clone();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = serving => outcome,
                () = drain.wait() => Err(Status::unavailable("the controller is shutting down")),
            };
            if let Err(status) = outcome {
                // A client that has gone needs no status.
                let _ = responses.try_send(Err(status));
            }
        });
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Server {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let client = self.identity.client(&request).await?;
        if !client.is_named(infra::RATE_LIMIT) {
            tracing::warn!(?client, "a client that is not the rate limit service asks for its configuration");
            return Err(Status::permission_denied("the client is not the rate limit service"));
        }
        let (responses, stream) = mpsc::channel(1);
        let (limits, refused, told) = (self.limits.clone(), self.refused.stream(), responses.clone());
        self.spawn(responses, async move { limits::serve(request.into_inner(), &told, limits, &refused).await });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let client = self.identity.client(&request).await?;
        // There are secrets in them: a name that Envoys may show as well is not enough.
        if !client.is_exactly(infra::EXTAUTH) {
            tracing::warn!(?client, "a client that is not the authorization service asks for its policies");
            return Err(Status::permission_denied("the client is not the authorization service"));
        }
        let (responses, stream) = mpsc::channel(1);
        let (policies, refused, told) = (self.policies.clone(), self.refused.stream(), responses.clone());
        self.spawn(responses, async move { policies::serve(request.into_inner(), &told, policies, &refused).await });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

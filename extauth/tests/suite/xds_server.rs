//! A delta ADS server on tonic: it sends what a test says and tells what the client asks.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use proto::extauth::{AuthPolicy, Policy};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::metadata::MetadataMap;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::running::PATIENCE;

/// A server that breaks all connections when dropped.
pub(crate) struct XdsServer {
    pub(crate) address: SocketAddr,
    opened: mpsc::UnboundedReceiver<Opened>,
    runtime: Option<Runtime>,
}

/// One stream of a client.
pub(crate) struct Opened {
    pub(crate) metadata: MetadataMap,
    requests: mpsc::UnboundedReceiver<DeltaDiscoveryRequest>,
    responses: mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Status>>,
}

impl XdsServer {
    /// `address` may name port 0.
    pub(crate) async fn start(address: &str, tls: ServerTlsConfig) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (open, opened) = mpsc::unbounded_channel();
        let bound = runtime.spawn(async move {
            // The server before may still be on its way out.
            let listener = loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            let address = listener.local_addr().unwrap();
            let service = AggregatedDiscoveryServiceServer::new(Service(open));
            let server = Server::builder().tls_config(tls).unwrap().add_service(service);
            tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
            address
        });
        Self { address: bound.await.unwrap(), opened, runtime: Some(runtime) }
    }

    /// The next stream.
    pub(crate) async fn accept(&mut self) -> Opened {
        tokio::time::timeout(PATIENCE, self.opened.recv()).await.expect("a stream in time").unwrap()
    }
}

impl Drop for XdsServer {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Opened {
    /// What the client says next.
    pub(crate) async fn request(&mut self) -> DeltaDiscoveryRequest {
        tokio::time::timeout(PATIENCE, self.requests.recv()).await.expect("a request in time").unwrap()
    }

    /// Sends policies, all in this version, and names that are gone; the result is what the client makes of it.
    pub(crate) async fn send(&mut self, version: &str, policies: &[Policy], gone: &[&str]) -> Result<(), String> {
        let resources = policies.iter().map(|policy| Resource {
            name: policy.name.clone(),
            version: version.to_owned(),
            resource: Some(proto::messages::pack(&AuthPolicy::of(policy).unwrap())),
            ..Default::default()
        });
        let response = DeltaDiscoveryResponse {
            type_url: AuthPolicy::TYPE_URL.to_owned(),
            nonce: format!("nonce-{version}"),
            resources: resources.collect(),
            removed_resources: gone.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        self.responses.send(Ok(response)).unwrap();
        let answer = self.request().await;
        assert_eq!(answer.response_nonce, format!("nonce-{version}"));
        assert_eq!(answer.type_url, AuthPolicy::TYPE_URL);
        answer.error_detail.map_or(Ok(()), |status| Err(status.message))
    }
}

struct Service(mpsc::UnboundedSender<Opened>);

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("the client speaks deltas"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (metadata, _, mut incoming) = request.into_parts();
        let (tell, requests) = mpsc::unbounded_channel();
        let (responses, outgoing) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(request)) = incoming.message().await {
                let _ = tell.send(request);
            }
        });
        let _ = self.0.send(Opened { metadata, requests, responses });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(outgoing))))
    }
}

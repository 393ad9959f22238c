//! An ADS server on tonic: it sends what a test says and tells what the client asks.

use std::{net::SocketAddr, pin::Pin};

use envoy_types::pb::{
    envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
    ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit},
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{TcpListenerStream, WatchStream},
};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataMap,
    transport::{Server, ServerTlsConfig},
};

pub(crate) const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// A server that breaks all connections when dropped.
pub(crate) struct XdsServer {
    pub(crate) address: SocketAddr,
    /// What streams begin with and send next.
    response: watch::Sender<Option<DiscoveryResponse>>,
    /// What was asked, with the metadata of its stream.
    pub(crate) requests: mpsc::UnboundedReceiver<(DiscoveryRequest, MetadataMap)>,
    runtime: Option<Runtime>,
}

impl XdsServer {
    /// `address` may name port 0.
    pub(crate) async fn start(address: SocketAddr, tls: Option<ServerTlsConfig>) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (told, requests) = mpsc::unbounded_channel();
        let (response, responses) = watch::channel(None);
        let service = AggregatedDiscoveryServiceServer::new(Service { told, responses });
        let bound = runtime.spawn(async move {
            // The server before may still be on its way out.
            let listener = loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let address = listener.local_addr().unwrap();
            let mut server = Server::builder();
            if let Some(tls) = tls {
                server = server.tls_config(tls).unwrap();
            }
            let serving = server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
            tokio::spawn(serving);
            address
        });
        Self { address: bound.await.unwrap(), response, requests, runtime: Some(runtime) }
    }

    /// Sends one domain a name, each limiting `user` to `requests_per_unit` a year.
    pub(crate) fn send(&self, version: &str, domains: &[&str], requests_per_unit: u32) {
        let resources = domains.iter().map(|domain| proto::messages::pack(&config(domain, requests_per_unit)));
        self.response.send_replace(Some(DiscoveryResponse {
            version_info: version.to_owned(),
            nonce: format!("nonce-{version}"),
            type_url: TYPE_URL.to_owned(),
            resources: resources.collect(),
            ..Default::default()
        }));
    }

    pub(crate) async fn request(&mut self) -> (DiscoveryRequest, MetadataMap) {
        let request = tokio::time::timeout(std::time::Duration::from_secs(20), self.requests.recv());
        request.await.expect("a request in time").unwrap()
    }
}

impl Drop for XdsServer {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

fn config(domain: &str, requests_per_unit: u32) -> RateLimitConfig {
    let rate_limit = RateLimitPolicy { unit: RateLimitUnit::Year.into(), requests_per_unit, ..Default::default() };
    let descriptor = RateLimitDescriptor { key: "user".into(), rate_limit: Some(rate_limit), ..Default::default() };
    RateLimitConfig { name: domain.to_owned(), domain: domain.to_owned(), descriptors: vec![descriptor] }
}

struct Service {
    told: mpsc::UnboundedSender<(DiscoveryRequest, MetadataMap)>,
    responses: watch::Receiver<Option<DiscoveryResponse>>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (metadata, _, mut requests) = request.into_parts();
        let told = self.told.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let _ = told.send((request, metadata.clone()));
            }
        });
        let responses = WatchStream::new(self.responses.clone()).filter_map(|response| response.map(Ok));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("the client speaks state of the world"))
    }
}

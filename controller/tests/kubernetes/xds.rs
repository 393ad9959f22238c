//! What Envoys are served.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use controller_core::xds::Type;
use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, transport::Channel};

use crate::{
    api_server::ApiServer,
    controller::{Controller, manifests, route},
    tool::{PATIENCE, eventually},
};

/// An Envoy, as far as clusters go: it acknowledges whatever it is sent.
pub(crate) struct Envoy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    pub(crate) clusters: BTreeMap<String, String>,
}

impl Envoy {
    /// Connects in clear text, as an Envoy of the proxy `cluster`.
    pub(crate) async fn connect(xds: SocketAddr, cluster: &str) -> Self {
        let channel = Channel::from_shared(format!("http://{xds}")).unwrap().connect().await.unwrap();
        Self::open(channel, cluster).await.unwrap()
    }

    /// Opens a stream.
    pub(crate) async fn open(channel: Channel, cluster: &str) -> Result<Self, Status> {
        Self::open_with(channel, cluster, None).await
    }

    /// Opens a stream, with a token if there is one.
    pub(crate) async fn open_with(channel: Channel, cluster: &str, token: Option<&str>) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(8);
        let first = DeltaDiscoveryRequest {
            node: Some(Node { id: "envoy-1".into(), cluster: cluster.to_owned(), ..Default::default() }),
            type_url: Type::Cluster.url().to_owned(),
            resource_names_subscribe: vec!["*".to_owned()],
            ..Default::default()
        };
        requests.send(first).await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let responses = client.delta_aggregated_resources(request).await?.into_inner();
        Ok(Self { requests, responses, clusters: BTreeMap::new() })
    }

    /// Takes in the next response.
    pub(crate) async fn next(&mut self) -> Result<(), Status> {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("a response in time");
        let response = next?.expect("the stream goes on");
        for resource in response.resources {
            self.clusters.insert(resource.name, resource.version);
        }
        for name in &response.removed_resources {
            self.clusters.remove(name);
        }
        let acknowledgement =
            DeltaDiscoveryRequest { type_url: response.type_url, response_nonce: response.nonce, ..Default::default() };
        self.requests.send(acknowledgement).await.unwrap();
        Ok(())
    }

    /// Takes in responses until there is such a cluster, or is none any more.
    pub(crate) async fn until(&mut self, cluster: &str, is_there: bool) {
        while self.clusters.contains_key(cluster) != is_there {
            self.next().await.unwrap();
        }
    }

    /// Nothing comes for so long.
    pub(crate) async fn is_left_alone(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.responses.message()).await.is_err()
    }
}

#[tokio::test]
async fn a_route_becomes_a_cluster_and_goes_with_it() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("served")).await;
    let controller = Controller::start(&server, "served", &[]).await;
    let mut envoy = Envoy::connect(controller.xds, "served/served").await;
    envoy.until("httproute/served/app/rule/0", true).await;

    let second = route("served", "second", "served");
    server.apply(&second).await;
    envoy.until("httproute/served/second/rule/0", true).await;
    server.delete(&second).await;
    envoy.until("httproute/served/second/rule/0", false).await;
    assert!(envoy.clusters.contains_key("httproute/served/app/rule/0"));
}

#[tokio::test]
async fn c06_replicas_serve_the_same_after_any_changes() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("same")).await;
    let first = Controller::start(&server, "same", &["--identity", "first"]).await;
    let mut envoys = vec![Envoy::connect(first.xds, "same/same").await];
    for number in 0..20 {
        server.apply(&route("same", &format!("route-{number}"), "same")).await;
    }
    // One that has seen all of it happen, and one that lists what there is in the middle of it.
    let second = Controller::start(&server, "same", &["--identity", "second"]).await;
    envoys.push(Envoy::connect(second.xds, "same/same").await);
    for number in 0..10 {
        server.delete(&route("same", &format!("route-{number}"), "same")).await;
        server.apply(&route("same", &format!("route-{}", number + 10), "elsewhere")).await;
    }
    server.apply(&route("same", "last", "same")).await;
    for envoy in &mut envoys {
        envoy.until("httproute/same/last/rule/0", true).await;
        for number in 0..20 {
            envoy.until(&format!("httproute/same/route-{number}/rule/0"), false).await;
        }
    }
    // Names with their versions, which are hashes of the content. Their own fleet's Service, which they make, comes in its time.
    eventually("both serve the same", async || {
        let mut both = Vec::new();
        for replica in [&first, &second] {
            let mut envoy = Envoy::connect(replica.xds, "same/same").await;
            envoy.until("httproute/same/last/rule/0", true).await;
            both.push(envoy.clusters);
        }
        (both[0].len() > 1 && both[0] == both[1]).then_some(())
    })
    .await;
}

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, time::Duration};

use controller_core::xds::{Resources, Type};
use envoy_types::pb::{
    envoy::{
        config::{cluster::v3::Cluster, core::v3::Node},
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google::rpc::Status as RpcStatus,
};
use proto::{
    drain::{self, Trigger},
    serve::{Address, Grpc, Listener},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, service::Routes, transport::Channel};

use super::{super::Cache, Server};

const SOON: Duration = Duration::from_secs(10);

/// A server on a free port, which ends when this is dropped.
struct Served {
    cache: Cache,
    client: AggregatedDiscoveryServiceClient<Channel>,
    trigger: Trigger,
}

impl Served {
    async fn start() -> Self {
        let (trigger, signal) = drain::new();
        let cache = Cache::default();
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let Address::Tcp(address) = listener.address().unwrap() else { panic!("a TCP address expected") };
        let routes = Routes::new(Server::new(cache.clone(), signal.clone()));
        tokio::spawn(Grpc::new(listener).serve(routes, signal));
        let client = AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await.unwrap();
        Self { cache, client, trigger }
    }

    fn publish(&self, key: &str, clusters: &[(&str, &str)]) {
        let mut resources = Resources::default();
        for (name, alt_stat_name) in clusters {
            let (name, alt_stat_name) = ((*name).to_owned(), (*alt_stat_name).to_owned());
            resources.add(&Cluster { name, alt_stat_name, ..Default::default() });
        }
        self.cache.publish(BTreeMap::from([(key.to_owned(), resources)]));
    }

    async fn connect(&mut self, cluster: &str) -> Stream {
        let (requests, receiver) = mpsc::channel(8);
        let first = DeltaDiscoveryRequest {
            node: Some(Node { id: "envoy-1".into(), cluster: cluster.to_owned(), ..Default::default() }),
            type_url: Type::Cluster.url().to_owned(),
            resource_names_subscribe: vec!["*".to_owned()],
            ..Default::default()
        };
        requests.send(first).await.unwrap();
        let response = self.client.delta_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap();
        Stream { requests, responses: response.into_inner() }
    }

    async fn until(&self, what: &str, holds: impl Fn(&Cache) -> bool) {
        let mut clients = self.cache.clients();
        let wait = clients.wait_for(|_| holds(&self.cache));
        tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not in time: {what}")).unwrap();
    }
}

struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Stream {
    async fn next(&mut self) -> Result<DeltaDiscoveryResponse, tonic::Status> {
        let next = tokio::time::timeout(SOON, self.responses.message()).await.expect("a response in time");
        next.map(|response| response.expect("the stream goes on"))
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|message| RpcStatus { message: message.to_owned(), ..Default::default() }),
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

#[tokio::test]
async fn a_change_reaches_the_proxy_it_concerns() {
    let mut served = Served::start().await;
    served.publish("default/eg", &[("a", "1"), ("b", "1")]);
    let mut stream = served.connect("default/eg").await;
    let response = stream.next().await.unwrap();
    assert_eq!(names(&response), ["a", "b"]);
    assert!(!served.cache.is_current("default/eg"));
    stream.answer(&response, None).await;
    served.until("the client is current", |cache| cache.is_current("default/eg")).await;

    served.publish("default/eg", &[("a", "1"), ("b", "2")]);
    let response = stream.next().await.unwrap();
    assert_eq!(names(&response), ["b"]);
    assert!(!served.cache.is_current("default/eg"));
}

#[tokio::test]
async fn a_node_of_an_unknown_cluster_waits() {
    let mut served = Served::start().await;
    let mut stream = served.connect("default/late").await;
    served.publish("default/other", &[("x", "1")]);
    served.until("the client is connected", |cache| !cache.clients().borrow().is_empty()).await;
    served.publish("default/late", &[("a", "1")]);
    let response = stream.next().await.unwrap();
    assert_eq!(names(&response), ["a"]);
    stream.answer(&response, None).await;
    served.until("the client is current", |cache| cache.is_current("default/late")).await;

    // A proxy that is not known any more leaves its Envoy as it is: the next thing it hears is the next change.
    served.publish("default/other", &[("x", "2")]);
    served.until("the server has looked", |cache| !cache.is_current("default/late")).await;
    served.publish("default/late", &[("a", "1"), ("b", "1")]);
    let response = stream.next().await.unwrap();
    assert_eq!((names(&response), response.removed_resources.len()), (vec!["b"], 0));
}

#[tokio::test]
async fn a_refusal_is_shown_until_the_client_is_gone() {
    let mut served = Served::start().await;
    served.publish("default/eg", &[("a", "1")]);
    let mut stream = served.connect("default/eg").await;
    let response = stream.next().await.unwrap();
    stream.answer(&response, Some("no such thing")).await;
    let refusals = |cache: &Cache| {
        let clients = cache.clients().borrow().clone();
        clients.into_values().flat_map(|client| client.rejections).collect::<Vec<_>>()
    };
    served.until("the refusal is shown", |cache| !refusals(cache).is_empty()).await;
    let [refusal] = &refusals(&served.cache)[..] else { panic!("one refusal expected") };
    assert_eq!((refusal.kind, refusal.name.as_str()), (Type::Cluster, "a"));
    assert_eq!(refusal.message, "no such thing");
    drop(stream);
    served.until("the client is gone", |cache| cache.clients().borrow().is_empty()).await;
}

#[tokio::test]
async fn a_drain_ends_the_streams() {
    let mut served = Served::start().await;
    let mut stream = served.connect("default/eg").await;
    served.until("the client is connected", |cache| !cache.clients().borrow().is_empty()).await;
    served.trigger.drain();
    assert_eq!(stream.next().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn what_is_not_served_is_refused() {
    let mut served = Served::start().await;
    let mut stream = served.connect("").await;
    assert_eq!(stream.next().await.unwrap_err().code(), Code::InvalidArgument);
    let requests = tokio_stream::once(DiscoveryRequest::default());
    let refused = served.client.stream_aggregated_resources(requests).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

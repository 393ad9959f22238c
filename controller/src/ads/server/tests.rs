#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, time::Duration};

use controller_core::xds::{Resources, Type};
use envoy_types::pb::{
    envoy::{
        config::{cluster::v3::Cluster, core::v3::Node},
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, Resource,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google::rpc::Status as RpcStatus,
};
use prost::Message as _;
use proto::{
    drain::{self, Trigger},
    serve::{Address, Grpc, Listener},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, service::Routes, transport::Channel};

use super::{super::Cache, Server};

const SOON: Duration = Duration::from_mins(1);

/// A server on a free port, which ends when this is dropped.
struct Served {
    cache: Cache,
    url: String,
    trigger: Trigger,
}

impl Served {
    fn start() -> Self {
        let (trigger, signal) = drain::new();
        let cache = Cache::default();
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let Address::Tcp(address) = listener.address().unwrap() else { panic!("a TCP address expected") };
        let routes = Routes::new(Server::new(cache.clone(), signal.clone()));
        tokio::spawn(Grpc::new(listener).serve(routes, signal));
        Self { cache, url: format!("http://{address}"), trigger }
    }

    /// Each with a connection of its own.
    async fn client(&self) -> AggregatedDiscoveryServiceClient<Channel> {
        AggregatedDiscoveryServiceClient::connect(self.url.clone()).await.unwrap()
    }

    fn publish(&self, key: &str, clusters: &[(&str, &str)]) {
        let mut resources = Resources::default();
        for (name, alt_stat_name) in clusters {
            let (name, alt_stat_name) = ((*name).to_owned(), (*alt_stat_name).to_owned());
            resources.add(&Cluster { name, alt_stat_name, ..Default::default() });
        }
        self.cache.publish(BTreeMap::from([(key.to_owned(), resources)]));
    }

    async fn connect(&self, cluster: &str) -> Stream {
        let (requests, receiver) = mpsc::channel(8);
        let first = DeltaDiscoveryRequest {
            node: Some(Node { id: "envoy-1".into(), cluster: cluster.to_owned(), ..Default::default() }),
            type_url: Type::Cluster.url().to_owned(),
            resource_names_subscribe: vec!["*".to_owned()],
            ..Default::default()
        };
        requests.send(first).await.unwrap();
        let response = self.client().await.delta_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap();
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

fn decode(resource: &Resource) -> Cluster {
    Cluster::decode(resource.resource.as_ref().unwrap().value.as_slice()).unwrap()
}

#[tokio::test]
async fn a_change_reaches_the_proxy_it_concerns() {
    let served = Served::start();
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
    let served = Served::start();
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
    let served = Served::start();
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
    let served = Served::start();
    let mut stream = served.connect("default/eg").await;
    served.until("the client is connected", |cache| !cache.clients().borrow().is_empty()).await;
    served.trigger.drain();
    assert_eq!(stream.next().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn what_is_not_served_is_refused() {
    let served = Served::start();
    let mut stream = served.connect("").await;
    assert_eq!(stream.next().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_state_of_the_world_is_served_too() {
    let served = Served::start();
    served.publish("default/eg", &[("a", "1"), ("b", "1")]);
    let (requests, receiver) = mpsc::channel(8);
    let first = DiscoveryRequest {
        node: Some(Node { id: "envoy-1".into(), cluster: "default/eg".into(), ..Default::default() }),
        type_url: Type::Cluster.url().to_owned(),
        ..Default::default()
    };
    requests.send(first.clone()).await.unwrap();
    let responses = served.client().await.stream_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap();
    let mut responses = responses.into_inner();
    let mut next = async || {
        let next = tokio::time::timeout(SOON, responses.message()).await.expect("a response in time");
        let response = next.unwrap().expect("the stream goes on");
        let answer = DiscoveryRequest {
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            node: None,
            ..first.clone()
        };
        requests.send(answer).await.unwrap();
        response
    };
    assert_eq!(next().await.resources.len(), 2);
    served.until("the client is current", |cache| cache.is_current("default/eg")).await;
    served.publish("default/eg", &[("a", "1"), ("b", "2"), ("c", "1")]);
    assert_eq!(next().await.resources.len(), 3);
    served.until("the client is current", |cache| cache.is_current("default/eg")).await;
}

#[tokio::test]
async fn c09_clients_that_read_nothing_hold_nobody_up() {
    let served = Served::start();
    // More than flow control lets through at once.
    let large = "x".repeat(200_000);
    let publish = |served: &Served, version: usize| {
        served.publish("ns/gw", &[("large", &large), ("small", &version.to_string())]);
    };
    publish(&served, 0);
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(served.connect("ns/gw").await);
    }
    let mut quick = served.connect("ns/gw").await;
    served.until("all are connected", |cache| cache.clients().borrow().len() == 51).await;
    let mut versions = 0;
    for version in 1..=50 {
        publish(&served, version);
        loop {
            let response = quick.next().await.unwrap();
            quick.answer(&response, None).await;
            versions += 1;
            let latest = response.resources.iter().find(|resource| resource.name == "small").unwrap();
            let latest = decode(latest);
            if latest.alt_stat_name == version.to_string() {
                break;
            }
        }
    }
    assert!(versions <= 51, "{versions}");
    // Of what a slow one has missed, only the latest was kept for it.
    for stream in &mut slow {
        let first = stream.next().await.unwrap();
        stream.answer(&first, None).await;
        let second = stream.next().await.unwrap();
        assert_eq!(names(&second), ["small"]);
        assert_eq!(decode(&second.resources[0]).alt_stat_name, "50");
    }
}

#[tokio::test]
async fn c10_two_hundred_envoys_that_come_at_once_get_all_or_nothing_yet() {
    let served = Served::start();
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(served.connect("ns/gw").await);
    }
    let connected = |cache: &Cache| cache.clients().borrow().len() == 200;
    served.until("all are connected", connected).await;
    served.publish("ns/gw", &[("a", ""), ("b", "")]);
    for stream in &mut streams {
        assert_eq!(names(&stream.next().await.unwrap()), ["a", "b"]);
    }
}

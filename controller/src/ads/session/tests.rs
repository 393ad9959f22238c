#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use controller_core::xds::{Resources, Type};
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
            route::v3::RouteConfiguration,
        },
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
    },
    google::rpc::Status,
};
use proptest::prelude::*;
use prost::Message;

use super::{ProtocolError, Session};

const BAD: &str = "bad";

/// A configuration to publish: clusters with a version each, and routes with the clusters they point at. Each cluster
/// has endpoints and each route a listener of its name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::ads) struct World {
    pub(in crate::ads) clusters: BTreeMap<String, u8>,
    pub(in crate::ads) routes: BTreeMap<String, Vec<String>>,
    pub(in crate::ads) bad_routes: BTreeSet<String>,
}

impl World {
    pub(in crate::ads) fn new(clusters: &[(&str, u8)], routes: &[(&str, &[&str])]) -> Self {
        Self {
            clusters: clusters.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect(),
            routes: routes
                .iter()
                .map(|(name, clusters)| ((*name).to_owned(), clusters.iter().map(ToString::to_string).collect()))
                .collect(),
            bad_routes: BTreeSet::new(),
        }
    }

    pub(in crate::ads) fn bad(mut self, route: &str) -> Self {
        self.bad_routes.insert(route.to_owned());
        self
    }

    pub(in crate::ads) fn resources(&self) -> Resources {
        let mut resources = Resources::default();
        for (name, version) in &self.clusters {
            let alt_stat_name = version.to_string();
            resources.add(&Cluster { name: name.clone(), alt_stat_name, ..Default::default() });
            resources.add(&ClusterLoadAssignment { cluster_name: name.clone(), ..Default::default() });
        }
        for (name, clusters) in &self.routes {
            resources.add(&Listener { name: name.clone(), ..Default::default() });
            resources.add(&RouteConfiguration {
                name: name.clone(),
                // Any repeated string does to note what the route points at and whether the client refuses it.
                internal_only_headers: clusters.clone(),
                response_headers_to_remove: self.bad_routes.get(name).map(|_| BAD.to_owned()).into_iter().collect(),
                ..Default::default()
            });
        }
        resources
    }
}

/// A client that behaves as Envoy does: it asks for the endpoints of its clusters and the routes of its listeners,
/// acknowledges clusters when they are warm, and refuses a response as a whole.
#[derive(Default)]
struct Client {
    held: BTreeMap<Type, BTreeMap<String, Resource>>,
    asked: BTreeMap<Type, BTreeSet<String>>,
    warm: BTreeSet<String>,
    owed: Option<String>,
    inbox: VecDeque<DeltaDiscoveryResponse>,
    outbox: VecDeque<DeltaDiscoveryRequest>,
}

impl Client {
    fn connect(&mut self) {
        self.inbox.clear();
        self.outbox.clear();
        self.owed = None;
        // It does not wait for endpoints for ever.
        self.warm.extend(self.held.get(&Type::ClusterLoadAssignment).into_iter().flat_map(|held| held.keys().cloned()));
        for kind in Type::ALL {
            let names = match kind {
                Type::Cluster => vec!["*".to_owned()],
                Type::Listener => vec![],
                _ => self.asked.entry(kind).or_default().iter().cloned().collect(),
            };
            if names.is_empty() && kind != Type::Listener {
                continue;
            }
            let held = self.held.entry(kind).or_default().iter();
            self.outbox.push_back(DeltaDiscoveryRequest {
                initial_resource_versions: held.map(|(name, held)| (name.clone(), held.version.clone())).collect(),
                ..subscribe(kind, &names)
            });
        }
    }

    fn receive(&mut self) {
        let Some(response) = self.inbox.pop_front() else { return };
        let kind = Type::from_url(&response.type_url).unwrap();
        if response.resources.iter().any(|resource| kind == Type::RouteConfiguration && is_bad(resource)) {
            self.outbox.push_back(nack(&response));
            return;
        }
        let held = self.held.entry(kind).or_default();
        let by_name = matches!(kind, Type::ClusterLoadAssignment | Type::RouteConfiguration);
        for resource in response.resources {
            // What it gave up while this response was on its way has nobody to take it.
            if !by_name || self.asked.entry(kind).or_default().contains(&resource.name) {
                match kind {
                    // It does not ask for the endpoints of a cluster again, but it waits for them.
                    Type::Cluster => drop(self.warm.remove(&resource.name)),
                    Type::ClusterLoadAssignment => drop(self.warm.insert(resource.name.clone())),
                    _ => {}
                }
                held.insert(resource.name.clone(), resource);
            }
        }
        for name in &response.removed_resources {
            held.remove(name);
        }
        match kind {
            Type::Cluster => self.ask(Type::ClusterLoadAssignment, Type::Cluster),
            Type::Listener => self.ask(Type::RouteConfiguration, Type::Listener),
            Type::ClusterLoadAssignment => self.warm.extend(response.removed_resources),
            _ => {}
        }
        if kind == Type::Cluster {
            self.owed = Some(response.nonce);
        } else {
            self.outbox.push_back(ack(kind, &response.nonce));
        }
        if self.names(Type::Cluster).is_subset(&self.warm)
            && let Some(nonce) = self.owed.take()
        {
            self.outbox.push_back(ack(Type::Cluster, &nonce));
        }
        self.check();
    }

    /// Asks for the resources of `kind` that those of `owner` need, and no longer for others.
    fn ask(&mut self, kind: Type, owner: Type) {
        let needed = self.names(owner);
        let asked = std::mem::replace(self.asked.entry(kind).or_default(), needed.clone());
        self.held.entry(kind).or_default().retain(|name, _| needed.contains(name));
        if kind == Type::ClusterLoadAssignment {
            self.warm.retain(|name| needed.contains(name));
        }
        if needed != asked {
            self.outbox.push_back(DeltaDiscoveryRequest {
                resource_names_unsubscribe: asked.difference(&needed).cloned().collect(),
                ..subscribe(kind, &needed.difference(&asked).cloned().collect::<Vec<_>>())
            });
        }
    }

    fn names(&self, kind: Type) -> BTreeSet<String> {
        self.held.get(&kind).into_iter().flat_map(|held| held.keys().cloned()).collect()
    }

    /// Make before break: no route points at a cluster that is not there.
    fn check(&self) {
        let clusters = self.names(Type::Cluster);
        for route in self.held.get(&Type::RouteConfiguration).into_iter().flat_map(BTreeMap::values) {
            for cluster in decode(route).internal_only_headers {
                assert!(clusters.contains(&cluster), "route {} points at {cluster}, which is gone", route.name);
            }
        }
    }

    fn assert_holds(&self, resources: &Resources) {
        for kind in Type::ALL {
            let versions = |(name, version): (&str, &str)| (name.to_owned(), version.to_owned());
            let held: BTreeMap<_, _> = self.held.get(&kind).map_or_else(BTreeMap::new, |held| {
                held.values().map(|resource| versions((&resource.name, &resource.version))).collect()
            });
            let served: BTreeMap<_, _> =
                resources.of(kind).map(|(name, resource)| versions((name, &resource.version))).collect();
            assert_eq!(held, served, "{kind:?}");
        }
    }
}

fn decode(route: &Resource) -> RouteConfiguration {
    RouteConfiguration::decode(route.resource.as_ref().unwrap().value.as_slice()).unwrap()
}

fn is_bad(route: &Resource) -> bool {
    !decode(route).response_headers_to_remove.is_empty()
}

fn subscribe(kind: Type, names: &[impl ToString]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.url().to_owned(),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn ack(kind: Type, nonce: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: kind.url().to_owned(), response_nonce: nonce.to_owned(), ..Default::default() }
}

fn nack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail: Some(Status { message: "this route is bad".to_owned(), ..Default::default() }),
        ..Default::default()
    }
}

/// A session and its client, with what is under way between them.
struct Pair {
    session: Session,
    client: Client,
    resources: Resources,
}

impl Pair {
    fn new(world: &World) -> Self {
        let mut pair = Self { session: Session::default(), client: Client::default(), resources: world.resources() };
        pair.client.connect();
        pair
    }

    fn publish(&mut self, world: &World) {
        self.resources = world.resources();
        self.client.inbox.extend(self.session.update(&self.resources));
    }

    fn serve(&mut self) {
        if let Some(request) = self.client.outbox.pop_front() {
            self.client.inbox.extend(self.session.request(&request, &self.resources).unwrap());
        }
    }

    fn reconnect(&mut self) {
        self.session = Session::default();
        self.client.connect();
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.client.inbox.is_empty() && self.client.outbox.is_empty() {
                return;
            }
            self.client.receive();
            self.serve();
        }
        panic!("client and server do not come to rest");
    }
}

fn types(responses: &[DeltaDiscoveryResponse]) -> Vec<Type> {
    responses.iter().map(|response| Type::from_url(&response.type_url).unwrap()).collect()
}

#[test]
fn a_wildcard_is_answered_even_when_there_is_nothing() {
    for names in [vec!["*"], vec![]] {
        let mut session = Session::default();
        let responses = session.request(&subscribe(Type::Cluster, &names), &Resources::default()).unwrap();
        assert_eq!(types(&responses), [Type::Cluster]);
        assert!(responses[0].resources.is_empty() && responses[0].removed_resources.is_empty());
    }
}

#[test]
fn an_empty_first_request_for_routes_asks_for_nothing() {
    let resources = World::new(&[], &[("r", &[])]).resources();
    let mut session = Session::default();
    assert_eq!(session.request(&subscribe(Type::RouteConfiguration, &[""; 0]), &resources).unwrap(), []);
}

#[test]
fn a_name_without_resource_is_told_once_and_sent_when_it_comes() {
    let mut session = Session::default();
    let request = subscribe(Type::RouteConfiguration, &["r"]);
    let responses = session.request(&request, &Resources::default()).unwrap();
    assert_eq!(responses[0].removed_resources, ["r"]);
    let acked = ack(Type::RouteConfiguration, &responses[0].nonce);
    assert_eq!(session.request(&acked, &Resources::default()).unwrap(), []);
    let responses = session.update(&World::new(&[], &[("r", &[])]).resources());
    assert_eq!(responses[0].resources[0].name, "r");
}

#[test]
fn a_name_that_is_asked_for_again_is_sent_again() {
    let resources = World::new(&[], &[("r", &[])]).resources();
    let mut session = Session::default();
    let request = subscribe(Type::RouteConfiguration, &["r"]);
    let first = session.request(&request, &resources).unwrap();
    let again = DeltaDiscoveryRequest { response_nonce: first[0].nonce.clone(), ..request };
    assert_eq!(session.request(&again, &resources).unwrap()[0].resources, first[0].resources);
}

#[test]
fn a_name_given_up_under_a_wildcard_is_told_again() {
    let resources = World::new(&[("a", 1)], &[]).resources();
    let mut session = Session::default();
    let first = session.request(&subscribe(Type::Cluster, &["*", "a", "b"]), &resources).unwrap();
    assert_eq!(first[0].removed_resources, ["b"]);
    let request = DeltaDiscoveryRequest {
        resource_names_unsubscribe: vec!["a".into(), "b".into()],
        ..ack(Type::Cluster, &first[0].nonce)
    };
    let mut responses = session.request(&request, &resources).unwrap();
    assert_eq!(responses[0].resources[0].name, "a");
    session.give_up_waiting();
    responses = session.update(&resources);
    assert_eq!(responses[0].removed_resources, ["b"]);
}

#[test]
fn only_what_differs_is_sent_after_a_reconnect() {
    let mut pair = Pair::new(&World::new(&[("a", 1), ("b", 1), ("c", 1)], &[("r", &["a"])]));
    pair.settle();
    pair.reconnect();
    pair.settle();
    assert_eq!(pair.session.responses, 0);

    pair.resources = World::new(&[("a", 1), ("b", 2)], &[("r", &["a"])]).resources();
    pair.reconnect();
    pair.serve();
    let [response] = pair.client.inbox.make_contiguous() else { panic!("one response expected") };
    assert_eq!(response.resources.iter().map(|resource| &resource.name).collect::<Vec<_>>(), ["b"]);
    pair.settle();
    pair.client.assert_holds(&pair.resources);
}

#[test]
fn the_endpoints_of_a_cluster_are_sent_again_when_it_has_changed() {
    let mut pair = Pair::new(&World::new(&[("a", 1), ("b", 1)], &[("r", &["a"])]));
    pair.settle();
    pair.publish(&World::new(&[("a", 2), ("b", 1)], &[("r", &["a"])]));
    assert_eq!(types(pair.client.inbox.make_contiguous()), [Type::Cluster, Type::ClusterLoadAssignment]);
    let endpoints: Vec<_> = pair.client.inbox[1].resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(endpoints, ["a"]);
    pair.settle();
    assert!(pair.session.is_current(&pair.resources));
    // One that comes back is told so too, although it has the endpoints.
    pair.resources = World::new(&[("a", 3), ("b", 1)], &[("r", &["a"])]).resources();
    pair.reconnect();
    pair.settle();
    assert!(pair.session.is_current(&pair.resources));
}

#[test]
fn c11_listeners_and_routes_wait_until_the_clusters_are_acknowledged() {
    let mut pair = Pair::new(&World::new(&[("a", 1)], &[("r", &["a"])]));
    pair.settle();
    pair.publish(&World::new(&[("a", 1), ("b", 1)], &[("r", &["b"]), ("s", &["b"])]));
    assert_eq!(types(pair.client.inbox.make_contiguous()), [Type::Cluster]);
    let nonce = pair.client.inbox[0].nonce.clone();
    let responses = pair.session.request(&ack(Type::Cluster, &nonce), &pair.resources).unwrap();
    assert_eq!(types(&responses), [Type::Listener, Type::RouteConfiguration]);
}

#[test]
fn c11_a_cluster_goes_after_the_routes_that_used_it() {
    let mut pair = Pair::new(&World::new(&[("a", 1), ("b", 1)], &[("r", &["a"])]));
    pair.settle();
    pair.publish(&World::new(&[("b", 1)], &[("r", &["b"])]));
    assert_eq!(types(pair.client.inbox.make_contiguous()), [Type::RouteConfiguration]);
    let nonce = pair.client.inbox[0].nonce.clone();
    let responses = pair.session.request(&ack(Type::RouteConfiguration, &nonce), &pair.resources).unwrap();
    assert_eq!(types(&responses), [Type::Cluster]);
    assert_eq!(responses[0].removed_resources, ["a"]);
}

#[test]
fn c09_a_client_that_does_not_answer_skips_snapshots() {
    let mut pair = Pair::new(&World::new(&[("a", 1)], &[]));
    pair.settle();
    pair.publish(&World::new(&[("a", 2)], &[]));
    pair.publish(&World::new(&[("a", 3)], &[]));
    pair.publish(&World::new(&[("a", 4)], &[]));
    let once = [Type::Cluster, Type::ClusterLoadAssignment];
    assert_eq!(types(pair.client.inbox.make_contiguous()), once);
    let sent = pair.session.responses;
    pair.settle();
    assert_eq!(pair.session.responses, sent + 2);
    pair.client.assert_holds(&pair.resources);
}

#[test]
fn waiting_can_be_given_up() {
    let mut pair = Pair::new(&World::new(&[("a", 1)], &[("r", &["a"])]));
    pair.settle();
    pair.publish(&World::new(&[("a", 2)], &[("r", &[])]));
    pair.client.inbox.clear();
    assert!(pair.session.is_waiting());
    pair.session.give_up_waiting();
    assert_eq!(types(&pair.session.update(&pair.resources)), [Type::RouteConfiguration]);
}

#[test]
fn c07_one_refused_route_holds_back_only_itself_until_it_changes() {
    let names = ["r1", "r2", "r3", "r4", "r5"];
    let routes = |cluster: &'static [&'static str]| names.map(|name| (name, cluster));
    let mut pair = Pair::new(&World::new(&[("a", 1), ("b", 1)], &routes(&["a"])));
    pair.settle();
    let world = World::new(&[("b", 1)], &routes(&["b"])).bad("r4");
    pair.publish(&world);
    pair.settle();

    let held =
        |pair: &Pair, name: &str| decode(&pair.client.held[&Type::RouteConfiguration][name]).internal_only_headers;
    for name in names {
        assert_eq!(held(&pair, name), [if name == "r4" { "a" } else { "b" }]);
    }
    assert!(pair.client.names(Type::Cluster).contains("a"), "the route that stayed still needs its cluster");
    let rejections: Vec<_> = pair.session.rejections().collect();
    let [(Type::RouteConfiguration, "r4", rejection)] = rejections[..] else { panic!("{rejections:?}") };
    assert_eq!(rejection.message, "this route is bad");

    let sent = pair.session.responses;
    pair.publish(&world);
    pair.settle();
    assert_eq!(pair.session.responses, sent, "a refused version is not sent again");

    pair.publish(&World::new(&[("b", 1)], &routes(&["b"])));
    pair.settle();
    assert_eq!(pair.session.rejections().count(), 0);
    pair.client.assert_holds(&pair.resources);
}

#[test]
fn c08_nothing_is_left_of_what_has_gone() {
    let start = World::new(&[("a", 1)], &[("r", &["a"])]);
    let mut pair = Pair::new(&start);
    pair.settle();
    let names = |pair: &Pair| pair.session.subscriptions.values().map(super::Subscription::len).sum::<usize>();
    let before = names(&pair);
    for number in 0..300 {
        let [cluster, route] = [format!("c{number}"), format!("r{number}")];
        let world = World::new(&[("a", 1), (&cluster, 1)], &[("r", &["a"]), (&route, &[&cluster])]);
        pair.publish(&if number % 7 == 0 { world.bad(&route) } else { world });
        // Now and then it is behind.
        if number % 3 == 0 {
            pair.settle();
        }
    }
    pair.publish(&start);
    pair.settle();
    assert_eq!((names(&pair), pair.session.cold.len(), pair.session.rejections().count()), (before, 0, 0));
    pair.client.assert_holds(&pair.resources);
}

#[test]
fn a_stale_answer_says_nothing() {
    let mut pair = Pair::new(&World::new(&[("a", 1)], &[]));
    pair.serve();
    assert!(pair.session.is_waiting());
    assert_eq!(pair.session.request(&ack(Type::Cluster, "0"), &pair.resources).unwrap(), []);
    assert!(pair.session.is_waiting());
}

#[test]
fn it_is_current_only_when_everything_is_accepted() {
    let mut pair = Pair::new(&World::new(&[("a", 1)], &[("r", &["a"])]));
    assert!(!pair.session.is_current(&pair.resources));
    pair.settle();
    assert!(pair.session.is_current(&pair.resources));
    pair.publish(&World::new(&[("a", 1)], &[("r", &[])]));
    assert!(!pair.session.is_current(&pair.resources));
    pair.settle();
    assert!(pair.session.is_current(&pair.resources));
}

#[test]
fn requests_that_make_no_sense_are_errors() {
    let mut session = Session::default();
    assert_eq!(session.accept(&DeltaDiscoveryRequest::default()), Err(ProtocolError::NoType));
    let unknown = DeltaDiscoveryRequest { type_url: "type.googleapis.com/nothing".into(), ..Default::default() };
    assert_eq!(session.request(&unknown, &Resources::default()), Ok(vec![]));
    let names: Vec<_> = (0..=super::MAX_NAMES).collect();
    assert_eq!(session.accept(&subscribe(Type::Secret, &names)), Err(ProtocolError::TooManyNames));
}

#[derive(Clone, Debug)]
enum Step {
    Publish(World),
    Receive,
    Serve,
    Reconnect,
}

pub(in crate::ads) fn world() -> impl Strategy<Value = World> {
    let clusters = proptest::collection::btree_map("[a-e]", 0..3_u8, 0..5);
    let routes = proptest::collection::btree_map("[r-u]", (any::<u8>(), proptest::bool::weighted(0.1)), 0..4);
    (clusters, routes).prop_map(|(clusters, routes)| {
        // A route points at those clusters that exist, so that every world is consistent.
        let targets = |mask: u8| {
            let numbered = clusters.keys().enumerate();
            numbered.filter(|(index, _)| mask & (1 << index) != 0).map(|(_, name)| name.clone()).collect()
        };
        World {
            bad_routes: routes.iter().filter(|(_, (_, bad))| *bad).map(|(name, _)| name.clone()).collect(),
            routes: routes.iter().map(|(name, (mask, _))| (name.clone(), targets(*mask))).collect(),
            clusters,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => world().prop_map(Step::Publish),
        6 => Just(Step::Receive),
        6 => Just(Step::Serve),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    #[test]
    fn the_client_always_ends_up_with_what_is_served(
        start in world(),
        steps in proptest::collection::vec(step(), 0..60),
        end in world(),
    ) {
        let mut pair = Pair::new(&start);
        for step in steps {
            match step {
                Step::Publish(world) => pair.publish(&world),
                Step::Receive => pair.client.receive(),
                Step::Serve => pair.serve(),
                Step::Reconnect => pair.reconnect(),
            }
        }
        pair.publish(&World { bad_routes: BTreeSet::new(), ..end });
        pair.settle();
        pair.client.assert_holds(&pair.resources);
        prop_assert!(pair.session.is_current(&pair.resources));

        pair.reconnect();
        pair.settle();
        prop_assert!(!pair.session.is_waiting());
    }
}

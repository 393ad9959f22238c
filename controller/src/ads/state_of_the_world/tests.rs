#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;

use envoy_types::pb::{
    envoy::config::{cluster::v3::Cluster, listener::v3::Listener, route::v3::RouteConfiguration},
    google::{protobuf::Any, rpc::Status},
};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::ads::session::tests::{World, world};

/// The version of clusters that the client refuses.
const BAD: u8 = 99;

/// A client that behaves as Envoy does in this variant: what is not in a response about clusters or listeners goes, even if it
/// refuses another part of it.
#[derive(Default)]
struct Client {
    held: BTreeMap<Type, BTreeMap<String, Any>>,
    asked: BTreeMap<Type, BTreeSet<String>>,
    /// The last version and nonce of each type.
    last: BTreeMap<Type, (String, String)>,
    cold: BTreeSet<String>,
    owed: Option<Type>,
    inbox: VecDeque<DiscoveryResponse>,
    outbox: VecDeque<DiscoveryRequest>,
}

impl Client {
    fn connect(&mut self) {
        self.inbox.clear();
        self.outbox.clear();
        self.last.values_mut().for_each(|(_, nonce)| nonce.clear());
        (self.owed, self.cold) = (None, BTreeSet::new());
        for kind in Type::ALL {
            if matches!(kind, Type::Cluster | Type::Listener) || !self.asked.entry(kind).or_default().is_empty() {
                self.say(kind, None);
            }
        }
    }

    /// Asks, acknowledges or refuses: all of it is one message.
    fn say(&mut self, kind: Type, error: Option<&str>) {
        let (version_info, response_nonce) = self.last.get(&kind).cloned().unwrap_or_default();
        self.outbox.push_back(DiscoveryRequest {
            type_url: kind.url().to_owned(),
            version_info,
            response_nonce,
            resource_names: self.asked.entry(kind).or_default().iter().cloned().collect(),
            error_detail: error.map(|message| Status { message: message.to_owned(), ..Default::default() }),
            ..Default::default()
        });
    }

    fn receive(&mut self) {
        let Some(response) = self.inbox.pop_front() else { return };
        let kind = Type::from_url(&response.type_url).unwrap();
        self.last.entry(kind).or_default().1.clone_from(&response.nonce);
        let all: BTreeMap<String, Any> = response.resources.iter().map(|any| (name(kind, any), any.clone())).collect();
        let (bad, good): (BTreeMap<_, _>, BTreeMap<_, _>) = all.into_iter().partition(|(_, any)| is_bad(kind, any));
        let held = self.held.entry(kind).or_default();
        match kind {
            Type::Cluster | Type::Listener => {
                let before = std::mem::take(held);
                for (name, any) in &good {
                    if kind == Type::Cluster && before.get(name) != Some(any) {
                        self.cold.insert(name.clone());
                    }
                }
                // What it refuses, it keeps as it was.
                held.extend(before.into_iter().filter(|(name, _)| bad.contains_key(name)));
                held.extend(good);
            }
            _ if !bad.is_empty() => {}
            _ => {
                let asked = self.asked.entry(kind).or_default();
                held.extend(good.into_iter().filter(|(name, _)| asked.contains(name)).inspect(|(name, _)| {
                    self.cold.remove(name);
                }));
            }
        }
        match kind {
            Type::Cluster => self.ask(Type::ClusterLoadAssignment, Type::Cluster),
            Type::Listener => self.ask(Type::RouteConfiguration, Type::Listener),
            _ => {}
        }
        if bad.is_empty() {
            self.last.entry(kind).or_default().0.clone_from(&response.version_info);
            if kind == Type::Cluster {
                self.owed = Some(kind);
            } else {
                self.say(kind, None);
            }
        } else {
            self.say(kind, Some("this is bad"));
        }
        self.cold.retain(|name| self.held[&Type::Cluster].contains_key(name));
        if self.cold.is_empty()
            && let Some(kind) = self.owed.take()
        {
            self.say(kind, None);
        }
        self.check();
    }

    /// Asks for the resources of `kind` that those of `owner` need, and no longer for others.
    fn ask(&mut self, kind: Type, owner: Type) {
        let needed: BTreeSet<String> = self.held[&owner].keys().cloned().collect();
        self.held.entry(kind).or_default().retain(|name, _| needed.contains(name));
        if self.asked.insert(kind, needed.clone()).unwrap_or_default() != needed {
            self.say(kind, None);
        }
    }

    /// Make before break: no route points at a cluster that is not there.
    fn check(&self) {
        let clusters = &self.held[&Type::Cluster];
        for any in self.held.get(&Type::RouteConfiguration).into_iter().flat_map(BTreeMap::values) {
            for cluster in decode::<RouteConfiguration>(any).internal_only_headers {
                assert!(clusters.contains_key(&cluster), "a route points at {cluster}, which is gone");
            }
        }
    }

    fn assert_holds(&self, resources: &Resources) {
        for kind in Type::ALL {
            let served: BTreeMap<String, Any> =
                resources.of(kind).map(|(name, resource)| (name.to_owned(), resource.any.clone())).collect();
            assert_eq!(self.held.get(&kind).cloned().unwrap_or_default(), served, "{kind:?}");
        }
    }
}

fn decode<M: Message + Default>(any: &Any) -> M {
    M::decode(any.value.as_slice()).unwrap()
}

fn name(kind: Type, any: &Any) -> String {
    match kind {
        Type::Listener => decode::<Listener>(any).name,
        Type::RouteConfiguration => decode::<RouteConfiguration>(any).name,
        // The first field of both is the name.
        _ => decode::<Cluster>(any).name,
    }
}

fn is_bad(kind: Type, any: &Any) -> bool {
    match kind {
        Type::Cluster => decode::<Cluster>(any).alt_stat_name == BAD.to_string(),
        Type::RouteConfiguration => !decode::<RouteConfiguration>(any).response_headers_to_remove.is_empty(),
        _ => false,
    }
}

/// A stream's two ends, with what is under way between them.
struct Pair {
    server: StateOfTheWorld,
    client: Client,
    resources: Resources,
    sent: Vec<DiscoveryResponse>,
}

impl Pair {
    fn new(world: &World) -> Self {
        let (server, client) = (StateOfTheWorld::default(), Client::default());
        let mut pair = Self { server, client, resources: world.resources(), sent: Vec::new() };
        pair.client.connect();
        pair
    }

    fn publish(&mut self, world: &World) {
        self.resources = world.resources();
        self.answer();
    }

    fn answer(&mut self) {
        let responses = self.server.update(&self.resources);
        self.sent.extend(responses.clone());
        self.client.inbox.extend(responses);
    }

    fn serve(&mut self) {
        if let Some(request) = self.client.outbox.pop_front() {
            self.server.accept(&request).unwrap();
            self.answer();
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.client.inbox.is_empty() && self.client.outbox.is_empty() {
                if !self.server.session().is_waiting() {
                    return;
                }
                // Nobody can tell a client in this variant that there are no endpoints to wait for.
                self.server.give_up_waiting();
                self.answer();
            }
            self.client.receive();
            self.serve();
        }
        panic!("client and server do not come to rest");
    }

    /// Types and names of what was sent since the last time.
    fn sent(&mut self) -> Vec<(Type, Vec<String>)> {
        let kind = |response: &DiscoveryResponse| Type::from_url(&response.type_url).unwrap();
        let names = |response: &DiscoveryResponse| {
            response.resources.iter().map(|any| name(kind(response), any)).collect::<Vec<_>>()
        };
        std::mem::take(&mut self.sent).iter().map(|response| (kind(response), names(response))).collect()
    }
}

fn sent(expected: &[(Type, &[&str])]) -> Vec<(Type, Vec<String>)> {
    expected.iter().map(|(kind, names)| (*kind, names.iter().map(ToString::to_string).collect())).collect()
}

#[test]
fn everything_comes_in_order_and_then_only_types_that_have_changed() {
    use Type::{Cluster, ClusterLoadAssignment, Listener, RouteConfiguration};
    let mut pair = Pair::new(&World::new(&[("a", 1), ("b", 1)], &[("r", &["a"]), ("s", &["b"])]));
    pair.settle();
    let order: BTreeSet<Type> = pair.sent().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(order.into_iter().collect::<Vec<_>>(), [Cluster, ClusterLoadAssignment, Listener, RouteConfiguration]);
    pair.client.assert_holds(&pair.resources);
    assert!(pair.server.session().is_current(&pair.resources));

    pair.publish(&World::new(&[("a", 1), ("b", 1)], &[("r", &["b"]), ("s", &["b"])]));
    pair.settle();
    assert_eq!(pair.sent(), sent(&[(RouteConfiguration, &["r"])]));
    // All of the clusters, since those that are missing would go; and the endpoints that Envoy waits for then.
    pair.publish(&World::new(&[("a", 1), ("b", 2)], &[("r", &["b"]), ("s", &["b"])]));
    pair.settle();
    assert_eq!(pair.sent(), sent(&[(Cluster, &["a", "b"]), (ClusterLoadAssignment, &["b"])]));
    pair.client.assert_holds(&pair.resources);
}

#[test]
fn a_wildcard_is_answered_even_when_there_is_nothing() {
    for names in [vec!["*".to_owned()], vec![]] {
        let request = DiscoveryRequest {
            type_url: Type::Cluster.url().to_owned(),
            resource_names: names,
            ..DiscoveryRequest::default()
        };
        let mut server = StateOfTheWorld::default();
        server.accept(&request).unwrap();
        let responses = server.update(&Resources::default());
        assert_eq!(responses.len(), 1);
        assert!(responses[0].resources.is_empty() && !responses[0].version_info.is_empty());
    }
}

#[test]
fn a_name_without_resource_is_sent_when_it_comes() {
    let mut server = StateOfTheWorld::default();
    let kind = Type::RouteConfiguration;
    let request = DiscoveryRequest {
        type_url: kind.url().to_owned(),
        resource_names: vec!["r".to_owned()],
        ..Default::default()
    };
    server.accept(&request).unwrap();
    assert_eq!(server.update(&Resources::default()), []);
    let responses = server.update(&World::new(&[], &[("r", &[])]).resources());
    assert_eq!(responses[0].resources.iter().map(|any| name(kind, any)).collect::<Vec<_>>(), ["r"]);
}

#[test]
fn c11_a_cluster_stays_until_the_routes_that_used_it_are_gone() {
    use Type::{Cluster, ClusterLoadAssignment, RouteConfiguration};
    let mut pair = Pair::new(&World::new(&[("a", 1)], &[("r", &["a"])]));
    pair.settle();
    pair.sent();
    pair.publish(&World::new(&[("b", 1)], &[("r", &["b"])]));
    pair.settle();
    let steps =
        [(Cluster, &["a", "b"][..]), (ClusterLoadAssignment, &["b"]), (RouteConfiguration, &["r"]), (Cluster, &["b"])];
    assert_eq!(pair.sent(), sent(&steps));
    pair.client.assert_holds(&pair.resources);
}

#[test]
fn c07_one_refused_resource_holds_back_only_itself_until_it_changes() {
    let names = ["r1", "r2", "r3", "r4", "r5"];
    let routes = |cluster: &'static [&'static str]| names.map(|name| (name, cluster));
    let mut pair = Pair::new(&World::new(&[("a", 1), ("b", 1)], &routes(&["a"])));
    pair.settle();
    let clusters = [("b", 1), ("c", BAD), ("d", 2), ("e", 1)];
    pair.publish(&World::new(&clusters, &routes(&["b"])).bad("r4"));
    pair.settle();
    for name in names {
        let held: RouteConfiguration = decode(&pair.client.held[&Type::RouteConfiguration][name]);
        assert_eq!(held.internal_only_headers, [if name == "r4" { "a" } else { "b" }]);
    }
    let held: Vec<&String> = pair.client.held[&Type::Cluster].keys().collect();
    assert_eq!(held, ["a", "b", "d", "e"], "the route that stayed still needs its cluster");
    let refused: Vec<(Type, &str)> = pair.server.session().rejections().map(|(kind, name, _)| (kind, name)).collect();
    assert_eq!(refused, [(Type::Cluster, "c"), (Type::RouteConfiguration, "r4")]);

    pair.sent();
    pair.answer();
    assert_eq!(pair.sent(), [], "what was refused is not sent again");
    pair.publish(&World::new(&[("b", 1), ("c", 1), ("d", BAD)], &routes(&["b"])));
    pair.settle();
    let held = |name: &str| decode::<Cluster>(&pair.client.held[&Type::Cluster][name]).alt_stat_name;
    assert_eq!([held("c"), held("d")], ["1", "2"], "what was refused stays as it was");
    pair.publish(&World::new(&[("b", 1), ("c", 1), ("d", 1)], &routes(&["b"])));
    pair.settle();
    assert_eq!(pair.server.session().rejections().count(), 0);
    pair.client.assert_holds(&pair.resources);
}

#[test]
fn a_client_that_comes_back_gets_everything() {
    let mut pair = Pair::new(&World::new(&[("a", 1)], &[("r", &["a"])]));
    pair.settle();
    pair.server = StateOfTheWorld::default();
    pair.resources = World::new(&[("a", 2), ("b", 1)], &[("r", &["b"])]).resources();
    pair.client.connect();
    pair.settle();
    pair.client.assert_holds(&pair.resources);
    assert!(pair.server.session().is_current(&pair.resources));
}

#[derive(Clone, Debug)]
enum Step {
    Publish(World),
    Receive,
    Serve,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => world().prop_map(Step::Publish),
        6 => Just(Step::Receive),
        6 => Just(Step::Serve),
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
            }
        }
        pair.publish(&World { bad_routes: BTreeSet::new(), ..end });
        pair.settle();
        pair.client.assert_holds(&pair.resources);
        prop_assert!(pair.server.session().is_current(&pair.resources));
        prop_assert!(!pair.server.session().is_waiting());
    }
}

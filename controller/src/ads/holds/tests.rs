#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::config::{
        core::v3::{HeaderValue, HeaderValueOption, Metadata},
        listener::v3::Listener,
        route::v3::{
            Route, RouteAction, RouteMatch, VirtualHost, route::Action, route_action::ClusterSpecifier,
            route_match::PathSpecifier,
        },
    },
    google::protobuf::{ListValue, Struct, Value, value::Kind},
};

use super::*;
use crate::ads::cache::{Connected, Rejection};

const KEY: &str = "default/eg";
/// What this Envoy refuses, in a path or in a header.
const POISON: &str = "poison";

/// A cache with an Envoy that answers when it is told to.
struct Bench {
    cache: Cache,
    holds: Holds,
    envoy: Connected,
    /// What the Envoy has accepted, in order.
    accepted: Vec<RouteConfiguration>,
    refused: usize,
}

impl Bench {
    fn new() -> Self {
        let cache = Cache::default();
        let envoy = cache.connect("envoy".into(), KEY.into());
        Self { holds: Holds::new(cache.clone()), cache, envoy, accepted: Vec::new(), refused: 0 }
    }

    /// Publishes these routes, and lets the Envoy answer until nothing new comes.
    fn settle(&mut self, routes: &[Route]) {
        self.settle_with(routes, Resources::default());
    }

    fn settle_with(&mut self, routes: &[Route], mut resources: Resources) {
        resources.add(&configuration(routes));
        self.holds.publish([(KEY.to_owned(), resources)].into());
        let mut answered: Option<Arc<Resources>> = None;
        loop {
            let latest = Arc::clone(&self.cache.proxies().borrow()[KEY]);
            if answered.as_ref().is_some_and(|answered| Arc::ptr_eq(answered, &latest)) {
                return;
            }
            let sent: RouteConfiguration = decode(&latest, Type::RouteConfiguration, "http").unwrap();
            let mut rejections = Vec::new();
            if format!("{sent:?}").contains(POISON) {
                self.refused += 1;
                rejections.push(rejection(&latest, Type::RouteConfiguration, "http"));
            } else {
                self.accepted.push(sent);
            }
            self.envoy.report(Some(Arc::clone(&latest)), rejections);
            self.judge();
            answered = Some(latest);
        }
    }

    fn judge(&mut self) -> bool {
        let clients = self.cache.clients().borrow().clone();
        self.holds.judge(&clients)
    }

    /// `name` and the cluster of each route in force; `500` for those that are answered so.
    fn in_force(&self) -> Vec<String> {
        let hosts = &self.accepted.last().unwrap().virtual_hosts;
        let what = |route: &Route| {
            if let Some(Action::DirectResponse(response)) = &route.action {
                return format!("{} {}", route.name, response.status);
            }
            let alone = configuration(std::slice::from_ref(route));
            let clusters: Vec<&str> = routes::clusters(&alone).collect();
            format!("{} {}", route.name, clusters.join(" "))
        };
        hosts.iter().flat_map(|host| &host.routes).map(what).collect()
    }

    fn culprits(&self) -> Vec<String> {
        self.holds.refusals().into_keys().map(|owner| owner.to_string()).collect()
    }
}

fn rejection(resources: &Resources, kind: Type, name: &str) -> Rejection {
    let version = resources.find(kind, name).unwrap().version.clone();
    Rejection { kind, name: name.into(), version, message: "tastes bad".into() }
}

fn metadata(name: &str) -> Metadata {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
    let fields = [("kind", "HTTPRoute"), ("namespace", "web"), ("name", name)];
    let object = Struct { fields: fields.map(|(key, value)| (key.to_owned(), text(value))).into() };
    let list = ListValue { values: vec![Value { kind: Some(Kind::StructValue(object)) }] };
    let fields = HashMap::from([("resources".to_owned(), Value { kind: Some(Kind::ListValue(list)) })]);
    let filter_metadata = HashMap::from([("envoy-gateway".to_owned(), Struct { fields })]);
    Metadata { filter_metadata, ..Default::default() }
}

fn route(name: &str, cluster: &str) -> Route {
    let action =
        RouteAction { cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())), ..Default::default() };
    Route {
        name: name.into(),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Path(format!("/{name}"))),
            ..Default::default()
        }),
        metadata: Some(metadata(name)),
        action: Some(Action::Route(action)),
        ..Default::default()
    }
}

/// Refused for what it does.
fn poisoned(name: &str, cluster: &str) -> Route {
    let header = HeaderValue { key: POISON.into(), ..Default::default() };
    let option = HeaderValueOption { header: Some(header), ..Default::default() };
    Route { request_headers_to_add: vec![option], ..route(name, cluster) }
}

/// Refused for what it matches.
fn unspeakable(name: &str) -> Route {
    let path = PathSpecifier::Path(POISON.into());
    Route { r#match: Some(RouteMatch { path_specifier: Some(path), ..Default::default() }), ..route(name, "a") }
}

fn configuration(routes: &[Route]) -> RouteConfiguration {
    let host =
        VirtualHost { name: "host".into(), domains: vec!["*".into()], routes: routes.to_vec(), ..Default::default() };
    RouteConfiguration { name: "http".into(), virtual_hosts: vec![host], ..Default::default() }
}

#[test]
fn the_last_good_routes_of_culprits_stay_and_everything_else_goes_on() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..10).map(|number| format!("r{number}")).collect();
    let old: Vec<Route> = names.iter().map(|name| route(name, "old")).collect();
    bench.settle(&old);
    assert!(bench.culprits().is_empty());
    let is_bad = |name: &String| name == "r3" || name == "r7";
    let new: Vec<Route> =
        names.iter().map(|name| if is_bad(name) { poisoned(name, "new") } else { route(name, "new") }).collect();
    bench.settle(&new);
    let expected: Vec<String> =
        names.iter().map(|name| format!("{name} {}", if is_bad(name) { "old" } else { "new" })).collect();
    assert_eq!(bench.in_force(), expected);
    assert_eq!(bench.culprits(), ["HTTPRoute web/r3", "HTTPRoute web/r7"]);
    // No request was without its route on the way, and a search that halves is short.
    assert!(bench.accepted.iter().all(|configuration| routes::parts(configuration).len() == 10));
    assert!(bench.refused <= 10, "{}", bench.refused);

    // Others go on changing, without a further refusal.
    let refused = bench.refused;
    let mut newer = new.clone();
    newer[0] = route("r0", "newer");
    newer.remove(1);
    bench.settle(&newer);
    assert_eq!(bench.in_force()[..3], ["r0 newer", "r2 new", "r3 old"]);
    assert_eq!(bench.refused, refused);

    // One is mended, and the other goes.
    newer[2] = route("r3", "mended");
    newer.retain(|route| route.name != "r7");
    bench.settle(&newer);
    assert_eq!(bench.in_force()[2], "r3 mended");
    assert_eq!(bench.in_force().len(), 8);
    assert!(bench.culprits().is_empty());
}

#[test]
fn culprits_without_a_past_answer_500_where_that_can_be_said() {
    let mut bench = Bench::new();
    bench.settle(&[route("a", "x"), poisoned("b", "x"), unspeakable("c"), route("d", "x")]);
    assert_eq!(bench.in_force(), ["a x", "b 500", "d x"]);
    assert_eq!(bench.culprits(), ["HTTPRoute web/b", "HTTPRoute web/c"]);
    bench.settle(&[route("a", "y"), poisoned("b", "y"), unspeakable("c"), route("d", "y")]);
    assert_eq!(bench.in_force(), ["a y", "b 500", "d y"]);
    bench.settle(&[route("b", "y"), route("c", "y")]);
    assert_eq!(bench.in_force(), ["b y", "c y"]);
    assert!(bench.culprits().is_empty());
}

#[test]
fn many_culprits_end_the_search() {
    let mut bench = Bench::new();
    bench.settle(&[route("a", "x")]);
    let mut routes: Vec<Route> = (0..500).map(|number| poisoned(&format!("r{number:03}"), "x")).collect();
    routes.push(route("a", "y"));
    bench.settle(&routes);
    assert_eq!(bench.culprits().iter().filter(|name| name.contains("/r")).count(), 500);
    assert!(bench.refused < 100, "{}", bench.refused);
}

#[test]
fn clusters_of_routes_that_stay_stay_too() {
    let mut bench = Bench::new();
    let cluster = |name: &str| Cluster { name: name.into(), ..Default::default() };
    let with = |name| {
        let mut resources = Resources::default();
        resources.add(&cluster(name));
        resources
    };
    bench.settle_with(&[route("a", "old")], with("old"));
    bench.settle_with(&[poisoned("a", "new")], with("new"));
    assert_eq!(bench.in_force(), ["a old"]);
    let proxies = bench.cache.proxies().borrow().clone();
    assert!(proxies[KEY].find(Type::Cluster, "old").is_some());
}

#[test]
fn refused_clusters_and_listeners_are_told_too() {
    let mut bench = Bench::new();
    let mut resources = Resources::default();
    resources.add(&Cluster { name: "c".into(), metadata: Some(metadata("owner")), ..Default::default() });
    resources.add(&Listener { name: "shop/eg/l".into(), ..Default::default() });
    bench.settle_with(&[route("a", "x")], resources);
    let latest = Arc::clone(&bench.cache.proxies().borrow()[KEY]);
    let rejections = vec![rejection(&latest, Type::Cluster, "c"), rejection(&latest, Type::Listener, "shop/eg/l")];
    bench.envoy.report(Some(latest), rejections);
    assert!(bench.judge());
    let refusals: Vec<String> =
        bench.holds.refusals().into_iter().map(|(owner, why)| format!("{owner}: {why}")).collect();
    assert_eq!(
        refusals,
        ["Gateway shop/eg: listener shop/eg/l: tastes bad", "HTTPRoute web/owner: cluster c: tastes bad"]
    );
    assert!(!bench.judge());
}

#[test]
fn an_answer_to_an_earlier_version_says_nothing() {
    let mut bench = Bench::new();
    bench.settle(&[route("a", "x")]);
    let latest = Arc::clone(&bench.cache.proxies().borrow()[KEY]);
    let stale = Rejection { version: "before".into(), ..rejection(&latest, Type::RouteConfiguration, "http") };
    bench.envoy.report(Some(latest), vec![stale]);
    assert!(!bench.judge());
    assert!(bench.culprits().is_empty());
}

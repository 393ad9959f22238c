#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

const HOLD: Duration = Duration::from_mins(5);

fn store() -> Store {
    let mut store = Store::new(Arc::new(Board::new("example.com/ours")), HOLD);
    store.expect(&BTreeSet::from([kind("Backend"), kind("Namespace")]));
    store
}

fn kind(name: &str) -> Part {
    Part { kind: Kind::named(name).unwrap(), namespace: None }
}

fn backend(name: &str, version: u64, spec: &Value) -> Object {
    let reference = ObjectRef { kind: "Backend", namespace: "ns".into(), name: name.into() };
    let manifest = json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "Backend",
        "metadata": {"name": name, "namespace": "ns"}, "spec": spec});
    Object { reference, version: version.to_string(), generation: Some(1), manifest, status: None }
}

fn good(name: &str) -> Object {
    backend(name, 1, &json!({"endpoints": []}))
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.backends.keys().map(|(_, name)| name.as_str()).collect()
}

/// A store that has been told of everything that it waits for.
fn synced(backends: Vec<Object>) -> Store {
    let (mut store, now) = (store(), Instant::now());
    store.apply(Change::Listed(kind("Namespace"), vec![]), now);
    store.apply(Change::Listed(kind("Backend"), backends), now);
    assert!(store.take().is_some());
    store
}

#[test]
fn c10_nothing_is_handed_out_before_every_kind_is_there() {
    let (mut store, now) = (store(), Instant::now());
    store.apply(Change::Listed(kind("Backend"), vec![good("a")]), now);
    assert!(store.take().is_none());
    store.apply(Change::Listed(kind("Namespace"), vec![]), now);
    assert_eq!(names(&store.take().unwrap()), ["a"]);
    assert!(store.take().is_none());
    // A kind that comes later is part of it as soon as it has been listed.
    store.apply(Change::Listed(kind("Secret"), vec![]), now);
    store.apply(Change::Applied(good("b")), now);
    assert_eq!(names(&store.take().unwrap()), ["a", "b"]);
}

#[test]
fn only_what_matters_is_a_change() {
    let (mut store, now) = (synced(vec![good("a")]), Instant::now());
    let mut same = good("a");
    same.version = "2".into();
    same.status = Some(json!({"conditions": []}));
    store.apply(Change::Applied(same), now);
    store.apply(Change::Listed(kind("Backend"), vec![good("a")]), now);
    assert!(store.take().is_none());
    store.apply(Change::Applied(backend("a", 3, &json!({"endpoints": [], "fallback": true}))), now);
    assert!(store.take().is_some());
}

#[test]
fn c14_a_malformed_object_stops_nothing() {
    let (mut store, now) = (synced(vec![good("a"), good("b")]), Instant::now());
    store.apply(Change::Applied(backend("a", 2, &json!({"endpoints": "none"}))), now);
    store.apply(Change::Applied(backend("c", 2, &json!({"endpoints": "none"}))), now);
    store.apply(Change::Applied(good("d")), now);
    assert_eq!(names(&store.take().unwrap()), ["a", "b", "d"]);
    assert_eq!(store.malformed.len(), 2);
    store.apply(Change::Deleted(backend("a", 3, &json!({"endpoints": "none"}))), now);
    assert_eq!(names(&store.take().unwrap()), ["b", "d"]);
    assert_eq!(store.malformed.len(), 1);
}

#[test]
fn a_new_list_replaces_the_old_one() {
    let (mut store, now) = (synced(vec![good("a"), good("b")]), Instant::now());
    store.apply(Change::Listed(kind("Backend"), vec![good("b"), good("c")]), now);
    assert_eq!(names(&store.take().unwrap()), ["b", "c"]);
}

#[test]
fn c02_an_empty_list_is_not_believed_at_once() {
    let (mut store, now) = (synced(vec![good("a"), good("b")]), Instant::now());
    store.apply(Change::Listed(kind("Backend"), vec![]), now);
    assert!(store.take().is_none());
    // Nor is a kind that is served no longer. What somebody deletes goes, and what comes back is held no more.
    store.apply(Change::Unserved(kind("Backend")), now);
    store.apply(Change::Deleted(good("a")), now);
    assert_eq!(names(&store.take().unwrap()), ["b"]);
    store.release(now + HOLD / 2);
    assert!(store.take().is_none());
    store.release(now + HOLD * 2);
    assert_eq!(names(&store.take().unwrap()), [] as [&str; 0]);
}

#[test]
fn a_list_of_a_namespace_is_about_that_namespace() {
    let mut store = Store::new(Arc::new(Board::new("example.com/ours")), HOLD);
    let part = |namespace: &str| Part { namespace: Some(namespace.into()), ..kind("Backend") };
    store.expect(&BTreeSet::from([part("ns"), part("other")]));
    let now = Instant::now();
    store.apply(Change::Listed(part("ns"), vec![good("a"), good("b")]), now);
    assert!(store.take().is_none());
    store.apply(Change::Listed(part("other"), vec![]), now);
    assert_eq!(names(&store.take().unwrap()), ["a", "b"]);
    store.apply(Change::Listed(part("ns"), vec![good("b")]), now);
    assert_eq!(names(&store.take().unwrap()), ["b"]);
}

#[test]
fn only_endpoints_do_not_wait_for_others() {
    let (mut store, now) = (synced(vec![]), Instant::now());
    let slice = |address: &str| Object {
        reference: ObjectRef { kind: "EndpointSlice", namespace: "ns".into(), name: "a".into() },
        version: "1".into(),
        generation: None,
        manifest: json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "a", "namespace": "ns"}, "endpoints": [{"addresses": [address]}]}),
        status: None,
    };
    store.apply(Change::Applied(good("b")), now);
    assert!(!store.urgent);
    store.apply(Change::Applied(slice("192.0.2.1")), now);
    assert!(store.urgent);
    assert!(store.take().is_some());
    store.apply(Change::Applied(slice("192.0.2.1")), now);
    assert!(!store.urgent);
    store.apply(Change::Deleted(slice("192.0.2.1")), now);
    assert!(store.urgent);
}

//! Whatever a manifest says, a translation comes out of it, and what it has nothing to do with stays as it is.
//!
//! `MUTATIONS=100` tries a hundred times as many, and others each time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path, sync::LazyLock};

use controller_core::{Memo, Settings, Snapshot, Translation, snapshot::Inserted, translate, xds::Resources};
use proptest::{prelude::*, sample::Index, test_runner::RngSeed};
use serde_json::{Value, json};

#[path = "support/envoy.rs"]
mod envoy;

/// The objects of each golden case.
static CASES: LazyLock<Vec<Vec<Value>>> = LazyLock::new(|| {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let read = |path: &Path| -> Vec<Value> {
        fs::read_to_string(path).map(|text| serde_saphyr::from_multiple(&text).unwrap()).unwrap_or_default()
    };
    let mut cases = Vec::new();
    for folder in fs::read_dir(&golden).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(files) = fs::read_dir(&folder) else { continue };
        let base = [read(&golden.join("_base.yaml")), read(&folder.join("_base.yaml"))].concat();
        for file in
            files.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        {
            cases.push([base.clone(), read(&file)].concat());
        }
    }
    assert!(!cases.is_empty());
    cases
});

#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    Repeat,
}

fn changes() -> impl Strategy<Value = Change> {
    let values = [
        json!(null),
        json!(""),
        json!("*"),
        json!("*.example"),
        json!("default"),
        json!("eg"),
        json!("/"),
        json!("%"),
        json!("ü\u{0}\n"),
        json!(0),
        json!(-1),
        json!(70000),
        json!(true),
        json!([]),
        json!({}),
        json!("1h"),
        json!("0s"),
        json!("["),
        json!("/a?b"),
        json!(418),
        json!("a".repeat(300)),
    ];
    prop_oneof![
        4 => proptest::sample::select(values.to_vec()).prop_map(Change::Replace),
        2 => Just(Change::Remove),
        1 => Just(Change::Repeat),
    ]
}

/// The JSON pointers of everything below `value`.
fn pointers(value: &Value, prefix: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        _ => return,
    };
    for (key, child) in children {
        let pointer = format!("{prefix}/{key}");
        pointers(child, &pointer, found);
        found.push(pointer);
    }
}

fn apply(object: &mut Value, place: Index, change: Change) {
    let mut places = Vec::new();
    pointers(object, "", &mut places);
    let pointer = place.get(&places);
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match (change, object.pointer_mut(parent).unwrap()) {
        (Change::Replace(value), _) => *object.pointer_mut(pointer).unwrap() = value,
        (Change::Remove, Value::Object(fields)) => drop(fields.remove(key)),
        (Change::Remove, Value::Array(items)) => drop(items.remove(key.parse().unwrap())),
        (Change::Repeat, Value::Array(items)) => items.push(items[key.parse::<usize>().unwrap()].clone()),
        (Change::Remove | Change::Repeat, _) => {}
    }
}

/// A Gateway with a route that no golden case has anything to do with.
const SIBLING: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: sibling}
spec: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: sibling, namespace: sibling}
spec: {gatewayClassName: sibling, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: sibling, namespace: sibling}
spec:
  parentRefs: [{name: sibling}]
  rules: [{backendRefs: [{name: sibling, port: 80}]}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: sibling, namespace: sibling}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: sibling}]
  cors: {allowOrigins: ['https://*.example.com']}
---
apiVersion: v1
kind: Service
metadata: {name: sibling, namespace: sibling}
spec: {clusterIP: 10.0.0.9, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sibling, namespace: sibling, labels: {kubernetes.io/service-name: sibling}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.9]}]
ports: [{name: http, port: 8080, protocol: TCP}]
";

/// The sibling's resources and statuses in a translation.
fn sibling(translation: &Translation) -> (Option<Resources>, Vec<Value>) {
    let resources = translation.proxies.get("sibling/sibling").map(|proxy| proxy.resources.clone());
    let statuses = translation.statuses.iter().filter(|status| status.name == "sibling");
    (resources, statuses.map(|status| status.status.value()).collect())
}

/// A golden case with some places of it changed.
fn snapshots() -> impl Strategy<Value = Snapshot> {
    let mutations = prop::collection::vec((any::<Index>(), any::<Index>(), changes()), 1..6);
    (any::<Index>(), mutations).prop_map(|(case, mutations)| {
        let mut objects = case.get(&CASES).clone();
        for (object, place, change) in mutations {
            let index = object.index(objects.len());
            apply(&mut objects[index], place, change);
        }
        let mut snapshot = Snapshot::default();
        for object in objects {
            // An object that cannot be read is left out, as the controller does.
            drop(snapshot.insert(object));
        }
        snapshot
    })
}

/// A golden case after each of several changes of an object; a change may also take it away or bring it back as it was.
fn histories() -> impl Strategy<Value = Vec<Snapshot>> {
    let edit = prop_oneof![
        4 => (any::<Index>(), changes()).prop_map(Some),
        1 => Just(None),
    ];
    let edits = prop::collection::vec((any::<Index>(), edit, any::<bool>()), 1..8);
    (any::<Index>(), edits).prop_map(|(case, edits)| {
        let objects = case.get(&CASES);
        let mut snapshot = Snapshot::default();
        let mut references: Vec<_> = Vec::new();
        for object in objects {
            references.push(match snapshot.insert(object.clone()) {
                Ok(Inserted::Known { object, .. }) => Some(object),
                _ => None,
            });
        }
        let mut history = vec![snapshot.clone()];
        for (index, edit, twice) in edits {
            let index = index.index(objects.len());
            let mut object = objects[index].clone();
            match (edit, &references[index]) {
                (Some((place, change)), _) => {
                    apply(&mut object, place, change);
                    drop(snapshot.insert(object));
                }
                (None, Some(reference)) if !snapshot.remove(reference) => drop(snapshot.insert(object)),
                (None, _) => {}
            }
            history.push(snapshot.clone());
            if twice {
                history.push(snapshot.clone());
            }
        }
        history
    })
}

fn settings() -> Settings {
    Settings { running_on_host: true, ..Settings::default() }
}

fn config(cases: u32) -> ProptestConfig {
    let more = std::env::var("MUTATIONS").ok().and_then(|more| more.parse::<u32>().ok());
    let rng_seed = if more.is_some() { RngSeed::Random } else { RngSeed::Fixed(3) };
    let cases = cases.saturating_mul(more.unwrap_or(1));
    ProptestConfig { cases, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn nothing_makes_it_panic(snapshot in snapshots()) {
        let settings = settings();
        let once = translate(&snapshot, &settings);
        prop_assert_eq!(once.statuses, translate(&snapshot, &settings).statuses);
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn what_was_translated_before_makes_no_difference(history in histories()) {
        let settings = Settings { backend: true, ..settings() };
        let mut memo = Memo::default();
        for snapshot in history {
            same(&memo.translate(&snapshot, &settings), &translate(&snapshot, &settings))?;
        }
    }
}

/// Nothing in a translation tells how it came about.
fn same(warm: &Translation, cold: &Translation) -> Result<(), TestCaseError> {
    prop_assert_eq!(&warm.statuses, &cold.statuses);
    prop_assert_eq!(&warm.rate_limits, &cold.rate_limits);
    prop_assert_eq!(&warm.decisions, &cold.decisions);
    prop_assert_eq!(format!("{:?}", warm.auth_policies), format!("{:?}", cold.auth_policies));
    prop_assert!(warm.proxies.keys().eq(cold.proxies.keys()));
    for (key, warm) in &warm.proxies {
        prop_assert_eq!(&warm.ir, &cold.proxies[key].ir);
        prop_assert_eq!(format!("{:?}", warm.resources), format!("{:?}", cold.proxies[key].resources));
        prop_assert!(warm.resources == cold.proxies[key].resources);
        prop_assert_eq!(format!("{:?}", warm.infra), format!("{:?}", cold.proxies[key].infra));
    }
    Ok(())
}

/// Whatever an object has to do with others, these notice when it goes and when it comes back.
#[test]
fn an_object_that_goes_is_missed_by_all_who_need_it() {
    let settings = Settings { backend: true, ..settings() };
    for case in CASES.iter() {
        let (mut snapshot, mut memo) = (Snapshot::default(), Memo::default());
        let mut references: Vec<_> = Vec::new();
        for object in case {
            if let Ok(Inserted::Known { object: reference, .. }) = snapshot.insert(object.clone()) {
                references.push((reference, object));
            }
        }
        let whole = translate(&snapshot, &settings);
        same(&memo.translate(&snapshot, &settings), &whole).unwrap();
        for (reference, object) in references {
            snapshot.remove(&reference);
            same(&memo.translate(&snapshot, &settings), &translate(&snapshot, &settings)).unwrap();
            snapshot.insert(object.clone()).unwrap();
            same(&memo.translate(&snapshot, &settings), &whole).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn nothing_makes_envoy_refuse_it(snapshot in snapshots()) {
        for proxy in translate(&snapshot, &settings()).proxies.values() {
            envoy::validate(&proxy.resources);
        }
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn nothing_touches_what_it_has_nothing_to_do_with(mut snapshot in snapshots()) {
        let mut alone = Snapshot::default();
        for object in serde_saphyr::from_multiple::<Value>(SIBLING).unwrap() {
            alone.insert(object.clone()).unwrap();
            snapshot.insert(object).unwrap();
        }
        let expected = sibling(&translate(&alone, &settings()));
        prop_assert!(expected.0.as_ref().is_some_and(|resources| !resources.is_empty()) && expected.1.len() == 4);
        prop_assert_eq!(sibling(&translate(&snapshot, &settings())), expected);
    }
}

//! What has to be applied and deleted; pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use controller_core::infra::{Fleet, Object};
use serde_json::Value;

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Id {
    pub(super) fn new(kind: &'static str, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(super) fn of(object: &Object) -> Self {
        Self::new(object.kind, &object.namespace, &object.name)
    }
}

/// An object of some fleet, as the API server lists it.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) id: Id,
    pub(super) labels: BTreeMap<String, String>,
    /// It is deleted already, and only waits for its end.
    pub(super) is_going: bool,
}

/// What this process has applied, by hash.
#[derive(Debug, Default)]
pub(super) struct Applied {
    hashes: BTreeMap<Id, u64>,
    /// What the API server has told of since.
    seen: BTreeSet<Id>,
}

impl Applied {
    /// The objects that are not applied as they are, and whether the set of objects has changed.
    pub(super) fn due<'o>(&self, objects: &'o [Object]) -> (Vec<&'o Object>, bool) {
        let due = objects.iter().filter(|object| self.hashes.get(&Id::of(object)) != Some(&hash(object)));
        let wanted: BTreeSet<Id> = objects.iter().map(Id::of).collect();
        let changed = wanted.len() != self.hashes.len() || wanted.iter().any(|id| !self.hashes.contains_key(id));
        (due.collect(), changed)
    }

    pub(super) fn note(&mut self, id: Id, object: &Object) {
        self.hashes.insert(id, hash(object));
    }

    pub(super) fn knows(&self, id: &Id) -> bool {
        self.hashes.contains_key(id)
    }

    pub(super) fn forget(&mut self, id: &Id) {
        self.hashes.remove(id);
        self.seen.remove(id);
    }

    /// Somebody deleted what has been seen `present` before.
    pub(super) fn forget_lost(&mut self, present: &[Id]) {
        let present: BTreeSet<&Id> = present.iter().collect();
        let lost: Vec<Id> = self.seen.iter().filter(|id| !present.contains(id)).cloned().collect();
        for id in lost {
            self.forget(&id);
        }
        let applied = self.hashes.keys().filter(|id| present.contains(id)).cloned();
        self.seen.extend(applied);
    }
}

fn hash(object: &Object) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Labels by which an object of a fleet is known.
const IDENTITY: [&str; 6] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
    "gateway.envoyproxy.io/owning-gateway-namespace",
    "gateway.envoyproxy.io/owning-gateway-name",
    "gateway.envoyproxy.io/owning-gatewayclass",
];

/// A label of a rendered object.
pub(super) fn label<'o>(object: &'o Value, name: &str) -> Option<&'o str> {
    object.pointer("/metadata/labels")?.get(name)?.as_str()
}

/// Whether an object with these labels is the one that `wanted` is to replace, and not somebody else's with the same name.
pub(super) fn is_ours(labels: Option<&BTreeMap<String, String>>, wanted: &Value) -> bool {
    IDENTITY.iter().all(|key| labels.and_then(|labels| labels.get(*key)).map(String::as_str) == label(wanted, key))
}

/// What is live and not wanted. `untouchable` fleets keep what they have. With `within`, only what belongs to one of those
/// fleets: objects of Gateways that are gone go by themselves, and the rest may be another controller's.
pub(super) fn unwanted(live: &[Live], objects: &[Object], untouchable: &[&Fleet], within: Option<&[Fleet]>) -> Vec<Id> {
    let wanted: BTreeSet<Id> = objects.iter().map(Id::of).collect();
    let belongs = |one: &Live, fleet: &Fleet| IDENTITY.iter().all(|key| one.labels.get(*key) == fleet.labels.get(*key));
    let unwanted = live.iter().filter(|one| {
        let kept = untouchable.iter().any(|fleet| belongs(one, fleet));
        let in_scope = within.is_none_or(|fleets| fleets.iter().any(|fleet| belongs(one, fleet)));
        !wanted.contains(&one.id) && !one.is_going && !kept && in_scope
    });
    unwanted.map(|one| one.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(gateway: &str) -> BTreeMap<String, String> {
        let labels = ["envoy", "proxy", "envoy-gateway", "web", gateway];
        IDENTITY.iter().zip(labels).map(|(key, value)| ((*key).to_owned(), value.to_owned())).collect()
    }

    fn fleet(gateway: &str) -> Fleet {
        Fleet {
            name: gateway.into(),
            labels: labels(gateway),
            annotations: BTreeMap::new(),
            ports: Vec::new(),
            placement: controller_core::infra::Placement::default(),
        }
    }

    fn object(gateway: &str, replicas: u32) -> Object {
        let value = json!({"metadata": {"labels": labels(gateway)}, "spec": {"replicas": replicas}});
        Object { api_version: "apps/v1", kind: "Deployment", namespace: "ns".into(), name: gateway.into(), value }
    }

    fn live(kind: &'static str, gateway: &str) -> Live {
        Live { id: Id::new(kind, "ns", gateway), labels: labels(gateway), is_going: false }
    }

    #[test]
    fn only_what_differs_is_applied() {
        let mut applied = Applied::default();
        let objects = [object("a", 1), object("b", 1)];
        assert_eq!(applied.due(&objects).0.len(), 2);
        for object in &objects {
            applied.note(Id::of(object), object);
        }
        assert_eq!(applied.due(&objects), (vec![], false));
        let changed = [object("a", 2), object("b", 1)];
        assert_eq!(applied.due(&changed), (vec![&changed[0]], false));
        assert_eq!(applied.due(&objects[..1]), (vec![], true), "one is no longer wanted");
    }

    #[test]
    fn what_somebody_deleted_is_applied_again() {
        let mut applied = Applied::default();
        let wanted = object("a", 1);
        let id = Id::of(&wanted);
        applied.note(id.clone(), &wanted);
        applied.forget_lost(&[]);
        assert!(applied.knows(&id), "the API server has not told of it yet");
        applied.forget_lost(std::slice::from_ref(&id));
        assert!(applied.knows(&id));
        applied.forget_lost(&[]);
        assert!(!applied.knows(&id));
    }

    #[test]
    fn what_is_not_wanted_goes_and_nothing_else() {
        let running =
            [live("Deployment", "a"), live("DaemonSet", "a"), live("Deployment", "b"), live("Service", "held")];
        let held = fleet("held");
        let gone = unwanted(&running, &[object("a", 1)], &[&held], None);
        assert_eq!(gone, [Id::new("DaemonSet", "ns", "a"), Id::new("Deployment", "ns", "b")]);
        let fleets = [fleet("a"), fleet("held")];
        let gone = unwanted(&running, &[object("a", 1)], &[&held], Some(&fleets));
        assert_eq!(gone, [Id::new("DaemonSet", "ns", "a")], "b may be another controller's");
        let going = Live { is_going: true, ..live("DaemonSet", "a") };
        assert_eq!(unwanted(&[going], &[], &[], None), []);
    }

    #[test]
    fn an_object_of_somebody_else_is_not_ours() {
        let wanted = object("a", 1).value;
        assert!(is_ours(Some(&labels("a")), &wanted));
        assert!(!is_ours(Some(&labels("b")), &wanted));
        assert!(!is_ours(None, &wanted));
    }
}

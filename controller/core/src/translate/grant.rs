//! `ReferenceGrant`: who may refer to what in another namespace.

use crate::Snapshot;

/// The kind of object that refers, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referrer<'a> {
    /// API group.
    pub(super) group: &'a str,
    /// Kind.
    pub(super) kind: &'a str,
    /// Namespace.
    pub(super) namespace: &'a str,
}

/// The object that is referred to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// API group, empty for core.
    pub(super) group: &'a str,
    /// Kind.
    pub(super) kind: &'a str,
    /// Namespace.
    pub(super) namespace: &'a str,
    /// Name.
    pub(super) name: &'a str,
}

/// Whether `from` may refer to `to`: always within a namespace, elsewhere if a grant in the target's namespace says so.
pub(super) fn permits(snapshot: &Snapshot, from: Referrer<'_>, to: Target<'_>) -> bool {
    if from.namespace == to.namespace {
        return true;
    }
    let first = (to.namespace.to_owned(), String::new());
    let grants = snapshot.reference_grants.range(first..).take_while(|((namespace, _), _)| namespace == to.namespace);
    grants.map(|(_, grant)| &grant.spec).any(|spec| {
        let who = spec.from.iter().any(|allowed| {
            allowed.group == from.group && allowed.kind == from.kind && allowed.namespace == from.namespace
        });
        let what = spec.to.iter().any(|allowed| {
            let named = allowed.name.as_deref().is_none_or(|name| name.is_empty() || name == to.name);
            allowed.group == to.group && allowed.kind == to.kind && named
        });
        who && what
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn both_sides_must_be_named_by_one_grant() {
        let mut snapshot = Snapshot::default();
        for (name, from, to) in [
            ("a", "web", json!({"group": "", "kind": "Service", "name": "api"})),
            ("b", "shop", json!({"group": "", "kind": "Service"})),
        ] {
            let from = json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": from});
            let grant = json!({"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
                "metadata": {"name": name, "namespace": "backends"}, "spec": {"from": [from], "to": [to]}});
            snapshot.insert(grant).unwrap();
        }
        let permitted = |kind, from, to_kind, namespace, name| {
            let from = Referrer { group: "gateway.networking.k8s.io", kind, namespace: from };
            permits(&snapshot, from, Target { group: "", kind: to_kind, namespace, name })
        };
        assert!(permitted("HTTPRoute", "web", "Service", "backends", "api"));
        assert!(!permitted("HTTPRoute", "web", "Service", "backends", "other"));
        assert!(permitted("HTTPRoute", "shop", "Service", "backends", "other"));
        assert!(!permitted("GRPCRoute", "web", "Service", "backends", "api"));
        assert!(!permitted("HTTPRoute", "web", "Secret", "backends", "api"));
        assert!(!permitted("HTTPRoute", "web", "Service", "elsewhere", "api"));
        assert!(permitted("HTTPRoute", "web", "Service", "web", "own"));
    }
}

//! The kinds of a snapshot as data, for those who fetch their objects.

use std::sync::Arc;

use super::{ENVOY_GATEWAY, GATEWAY_API, Snapshot};
use crate::ir::ObjectRef;

/// A kind of objects that the translation looks at.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Group of its API; empty for the core group.
    pub group: &'static str,
    /// As written in a manifest.
    pub name: &'static str,
    /// As in the API server's paths, and in the rules of a role.
    pub plural: &'static str,
    /// Whether its objects live in namespaces or in the cluster as a whole.
    pub namespaced: bool,
    remove: fn(&mut Snapshot, &ObjectRef) -> bool,
}

macro_rules! kinds {
    ($($group:expr, $name:literal, $plural:literal, $namespaced:literal, $field:ident;)*) => {
        /// Every kind, in no particular order.
        pub const KINDS: &[Kind] = &[$(Kind {
            group: $group,
            name: $name,
            plural: $plural,
            namespaced: $namespaced,
            remove: |snapshot, object| {
                let key = (object.namespace.clone(), object.name.clone());
                snapshot.$field.contains_key(&key) && Arc::make_mut(&mut snapshot.$field).remove(&key).is_some()
            },
        },)*];

        // Does not compile while a field of the snapshot has no line in the table.
        const _: fn(&Snapshot) = |Snapshot { $($field: _),* }| {};

        impl Snapshot {
            /// Adds the objects of another one, each in place of one with the same kind and name.
            pub fn extend(&mut self, other: &Self) {
                $(Arc::make_mut(&mut self.$field)
                    .extend(other.$field.iter().map(|(key, object)| (key.clone(), Arc::clone(object))));)*
            }
        }
    };
}

kinds! {
    GATEWAY_API, "GatewayClass", "gatewayclasses", false, gateway_classes;
    GATEWAY_API, "Gateway", "gateways", true, gateways;
    GATEWAY_API, "ListenerSet", "listenersets", true, listener_sets;
    GATEWAY_API, "HTTPRoute", "httproutes", true, http_routes;
    GATEWAY_API, "GRPCRoute", "grpcroutes", true, grpc_routes;
    GATEWAY_API, "TLSRoute", "tlsroutes", true, tls_routes;
    GATEWAY_API, "TCPRoute", "tcproutes", true, tcp_routes;
    GATEWAY_API, "UDPRoute", "udproutes", true, udp_routes;
    GATEWAY_API, "BackendTLSPolicy", "backendtlspolicies", true, backend_tls_policies;
    GATEWAY_API, "ReferenceGrant", "referencegrants", true, reference_grants;
    ENVOY_GATEWAY, "Backend", "backends", true, backends;
    ENVOY_GATEWAY, "HTTPRouteFilter", "httproutefilters", true, http_route_filters;
    ENVOY_GATEWAY, "EnvoyProxy", "envoyproxies", true, envoy_proxies;
    ENVOY_GATEWAY, "BackendTrafficPolicy", "backendtrafficpolicies", true, backend_traffic_policies;
    ENVOY_GATEWAY, "SecurityPolicy", "securitypolicies", true, security_policies;
    "", "Namespace", "namespaces", false, namespaces;
    "", "Service", "services", true, services;
    "", "Node", "nodes", false, nodes;
    "", "Secret", "secrets", true, secrets;
    "", "ConfigMap", "configmaps", true, config_maps;
    "discovery.k8s.io", "EndpointSlice", "endpointslices", true, endpoint_slices;
    "multicluster.x-k8s.io", "ServiceImport", "serviceimports", true, service_imports;
    "certificates.k8s.io", "ClusterTrustBundle", "clustertrustbundles", false, cluster_trust_bundles;
    "apps", "Deployment", "deployments", true, deployments;
    "apps", "DaemonSet", "daemonsets", true, daemon_sets;
}

impl Kind {
    /// The kind that a manifest calls `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }
}

impl Snapshot {
    /// Takes an object away; whether it was there.
    pub fn remove(&mut self, object: &ObjectRef) -> bool {
        Kind::named(object.kind).is_some_and(|kind| (kind.remove)(self, object))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::{
        super::{Inserted, ObjectError},
        *,
    };

    #[test]
    fn what_is_inserted_can_be_removed() {
        let labels = json!({"app.kubernetes.io/name": "envoy", "app.kubernetes.io/component": "proxy",
            "app.kubernetes.io/managed-by": "envoy-gateway"});
        for kind in KINDS {
            let separator = if kind.group.is_empty() { "" } else { "/" };
            let object = json!({
                "apiVersion": format!("{}{separator}v1", kind.group),
                "kind": kind.name,
                "metadata": {"name": "a", "namespace": "ns", "labels": labels},
                "addressType": "IPv4", "endpoints": [],
                "spec": {"controllerName": "c", "gatewayClassName": "c", "listeners": [], "from": [], "to": [], "rules": [],
                    "targetRefs": [], "parentRef": {"name": "g"}, "validation": {"hostname": "h"}, "trustBundle": ""},
            });
            let mut snapshot = Snapshot::default();
            let known = match snapshot.insert(object) {
                Ok(Inserted::Known { object, replaced: false }) => object,
                Err(ObjectError::Invalid { object, .. }) => {
                    panic!("{object}: the test's object lacks what it requires")
                }
                other => panic!("{}: {other:?}", kind.name),
            };
            assert_eq!(known.kind, kind.name);
            let mut copy = Snapshot::default();
            copy.extend(&snapshot);
            assert!(copy.remove(&known), "{known}");
            assert!(snapshot.remove(&known), "{known}");
            assert!(!snapshot.remove(&known), "{known}");
        }
    }
}

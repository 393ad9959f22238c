//! The objects that a translation sees, as they stood at one moment.

use std::{collections::BTreeMap, sync::Arc};

use controller_api::{
    backend::Backend, backend_traffic_policy::BackendTrafficPolicy, envoy_proxy::EnvoyProxy, grpc_route::GrpcRoute,
    http_route_filter::HttpRouteFilter, security_policy::SecurityPolicy, tcp_route::TcpRoute, tls_route::TlsRoute,
    udp_route::UdpRoute,
};
use gateway_api::apis::{
    experimental::{
        gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute, referencegrants::ReferenceGrant,
    },
    standard::backendtlspolicies::BackendTlsPolicy,
};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{DaemonSet, Deployment},
        core::v1::{ConfigMap, Namespace, Node, Secret, Service},
        discovery::v1::EndpointSlice,
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;

mod listener_set;

pub use self::listener_set::ListenerSet;
use crate::{infra, ir::ObjectRef};

mod changes;
mod cluster_trust_bundle;
mod kind;
mod routes;
mod service_import;

pub(crate) use changes::{Changes, OWNER_LABELS};
pub use cluster_trust_bundle::ClusterTrustBundle;
pub use kind::{KINDS, Kind};
pub(crate) use routes::Route;
pub use service_import::ServiceImport;

/// Namespace and name; the namespace is empty for cluster-scoped kinds.
pub type Key = (String, String);
/// All objects of one kind. Snapshots share those of a kind until one of them changes it.
pub type Objects<T> = Arc<BTreeMap<Key, Arc<T>>>;

/// Every object that matters, by kind. Immutable once it is handed to [`crate::translate`].
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each field is the kind it is named after")]
pub struct Snapshot {
    pub gateway_classes: Objects<GatewayClass>,
    pub gateways: Objects<Gateway>,
    pub listener_sets: Objects<ListenerSet>,
    pub http_routes: Objects<HttpRoute>,
    pub grpc_routes: Objects<GrpcRoute>,
    pub tls_routes: Objects<TlsRoute>,
    pub tcp_routes: Objects<TcpRoute>,
    pub udp_routes: Objects<UdpRoute>,
    pub reference_grants: Objects<ReferenceGrant>,
    pub namespaces: Objects<Namespace>,
    pub services: Objects<Service>,
    pub service_imports: Objects<ServiceImport>,
    pub endpoint_slices: Objects<EndpointSlice>,
    pub secrets: Objects<Secret>,
    pub config_maps: Objects<ConfigMap>,
    pub cluster_trust_bundles: Objects<ClusterTrustBundle>,
    pub backend_tls_policies: Objects<BackendTlsPolicy>,
    pub backends: Objects<Backend>,
    pub http_route_filters: Objects<HttpRouteFilter>,
    pub nodes: Objects<Node>,
    /// Those of fleets only.
    pub deployments: Objects<Deployment>,
    /// Those of fleets only.
    pub daemon_sets: Objects<DaemonSet>,
    pub envoy_proxies: Objects<EnvoyProxy>,
    pub backend_traffic_policies: Objects<BackendTrafficPolicy>,
    pub security_policies: Objects<SecurityPolicy>,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is part of the snapshot now.
    Known {
        /// The object.
        object: ObjectRef,
        /// There was one of this kind and name before.
        replaced: bool,
    },
    /// Its kind means nothing to the translation.
    Ignored {
        /// As written in the manifest.
        api_version: String,
        /// As written in the manifest.
        kind: String,
    },
}

/// Why a manifest is no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Every object has these.
    #[error("an object of kind {kind:?} named {name:?} lacks the field {field}")]
    Missing {
        /// Empty when it is what is missing.
        kind: String,
        /// Empty when it is what is missing.
        name: String,
        /// Path of the field.
        field: &'static str,
    },
    /// A field is not what the kind's schema says.
    #[error("{object}: {field}: {cause}")]
    Invalid {
        /// The object.
        object: ObjectRef,
        /// Path of the field, such as `spec.rules[0].matches`.
        field: String,
        /// What is wrong with it.
        cause: String,
    },
}

const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// Kinds whose status is written by others than us.
const WITH_STATUS: [&str; 4] = ["Service", "Node", "Deployment", "DaemonSet"];
const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";

impl Snapshot {
    /// Adds an object of any kind, in any version of its group, in place of one with the same kind and name.
    ///
    /// Objects without a namespace are in `default`, as `kubectl apply` would put them there.
    pub fn insert(&mut self, object: Value) -> Result<Inserted, ObjectError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let required = [(&api_version, "apiVersion"), (&kind, "kind"), (&name, "metadata.name")];
        if let Some((_, field)) = required.into_iter().find(|(value, _)| value.is_empty()) {
            return Err(ObjectError::Missing { kind: kind.clone(), name: name.clone(), field });
        }
        let namespace = match text("/metadata/namespace") {
            empty if empty.is_empty() => "default".to_owned(),
            namespace => namespace,
        };
        let group = api_version.rsplit_once('/').map_or("", |(group, _version)| group);

        let namespaced = |kind| ObjectRef { kind, namespace: namespace.clone(), name: name.clone() };
        let cluster = |kind| ObjectRef { kind, namespace: String::new(), name: name.clone() };
        match (group, kind.as_str()) {
            (GATEWAY_API, "GatewayClass") => put(&mut self.gateway_classes, cluster("GatewayClass"), object),
            (GATEWAY_API, "Gateway") => put(&mut self.gateways, namespaced("Gateway"), object),
            (GATEWAY_API, "ListenerSet") => put(&mut self.listener_sets, namespaced("ListenerSet"), object),
            (GATEWAY_API, "HTTPRoute") => put(&mut self.http_routes, namespaced("HTTPRoute"), object),
            (GATEWAY_API, "GRPCRoute") => put(&mut self.grpc_routes, namespaced("GRPCRoute"), object),
            (GATEWAY_API, "TLSRoute") => put(&mut self.tls_routes, namespaced("TLSRoute"), object),
            (GATEWAY_API, "TCPRoute") => put(&mut self.tcp_routes, namespaced("TCPRoute"), object),
            (GATEWAY_API, "UDPRoute") => put(&mut self.udp_routes, namespaced("UDPRoute"), object),
            (GATEWAY_API, "BackendTLSPolicy") => {
                put(&mut self.backend_tls_policies, namespaced("BackendTLSPolicy"), object)
            }
            (GATEWAY_API, "ReferenceGrant") => put(&mut self.reference_grants, namespaced("ReferenceGrant"), object),
            (ENVOY_GATEWAY, "Backend") => put(&mut self.backends, namespaced("Backend"), object),
            (ENVOY_GATEWAY, "HTTPRouteFilter") => {
                put(&mut self.http_route_filters, namespaced("HTTPRouteFilter"), object)
            }
            (ENVOY_GATEWAY, "EnvoyProxy") => put(&mut self.envoy_proxies, namespaced("EnvoyProxy"), object),
            (ENVOY_GATEWAY, "BackendTrafficPolicy") => {
                put(&mut self.backend_traffic_policies, namespaced("BackendTrafficPolicy"), object)
            }
            (ENVOY_GATEWAY, "SecurityPolicy") => put(&mut self.security_policies, namespaced("SecurityPolicy"), object),
            ("", "Namespace") => put(&mut self.namespaces, cluster("Namespace"), object),
            ("", "Service") => put(&mut self.services, namespaced("Service"), object),
            ("", "Node") => put(&mut self.nodes, cluster("Node"), object),
            ("apps", _) if !infra::is_of_fleet(&object) => Ok(Inserted::Ignored { api_version, kind }),
            ("apps", "Deployment") => put(&mut self.deployments, namespaced("Deployment"), object),
            ("apps", "DaemonSet") => put(&mut self.daemon_sets, namespaced("DaemonSet"), object),
            ("", "ConfigMap") => put(&mut self.config_maps, namespaced("ConfigMap"), object),
            ("", "Secret") => {
                let secret = namespaced("Secret");
                let inserted = put(&mut self.secrets, secret.clone(), object)?;
                self.merge_string_data(&secret);
                Ok(inserted)
            }
            ("multicluster.x-k8s.io", "ServiceImport") => {
                put(&mut self.service_imports, namespaced("ServiceImport"), object)
            }
            ("certificates.k8s.io", "ClusterTrustBundle") => {
                put(&mut self.cluster_trust_bundles, cluster("ClusterTrustBundle"), object)
            }
            ("discovery.k8s.io", "EndpointSlice") => {
                put(&mut self.endpoint_slices, namespaced("EndpointSlice"), object)
            }
            _ => Ok(Inserted::Ignored { api_version, kind }),
        }
    }

    /// Does for `stringData` what the API server does on writing.
    fn merge_string_data(&mut self, object: &ObjectRef) {
        let key = (object.namespace.clone(), object.name.clone());
        let Some(secret) = Arc::make_mut(&mut self.secrets).get_mut(&key).map(Arc::make_mut) else { return };
        if let Some(texts) = secret.string_data.take() {
            let data = secret.data.get_or_insert_default();
            data.extend(texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        }
    }
}

fn put<T: DeserializeOwned>(
    objects: &mut Objects<T>,
    object: ObjectRef,
    value: Value,
) -> Result<Inserted, ObjectError> {
    let parsed = parse(&object, value)?;
    let key = (object.namespace.clone(), object.name.clone());
    let replaced = Arc::make_mut(objects).insert(key, Arc::new(parsed)).is_some();
    Ok(Inserted::Known { object, replaced })
}

fn parse<T: DeserializeOwned>(object: &ObjectRef, mut value: Value) -> Result<T, ObjectError> {
    if let Some(fields) = value.as_object_mut() {
        // What the last writer thought of it is no input, and need not even fit its schema; what others tell of addresses
        // and replicas is.
        if !WITH_STATUS.contains(&object.kind) {
            fields.remove("status");
        }
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".into(), object.namespace.clone().into());
        }
    }
    serde_path_to_error::deserialize(value).map_err(|error| ObjectError::Invalid {
        object: object.clone(),
        field: error.path().to_string(),
        // A parser's message may quote the value.
        cause: match object.kind {
            "Secret" => "has the wrong type or is not base64".to_owned(),
            _ => error.inner().to_string(),
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn takes_any_version_and_defaults_the_namespace() {
        let mut snapshot = Snapshot::default();
        let route = json!({"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "HTTPRoute",
            "metadata": {"name": "app"}, "spec": {}, "status": {"parents": null}});
        let object = ObjectRef { kind: "HTTPRoute", namespace: "default".into(), name: "app".into() };
        let first = snapshot.insert(route.clone()).unwrap();
        assert_eq!(first, Inserted::Known { object: object.clone(), replaced: false });
        assert_eq!(snapshot.insert(route).unwrap(), Inserted::Known { object, replaced: true });
        let stored = &snapshot.http_routes[&("default".into(), "app".into())];
        assert_eq!(stored.metadata.namespace.as_deref(), Some("default"));
    }

    #[test]
    fn names_the_object_and_the_field() {
        let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "app", "namespace": "web"},
            "spec": {"rules": [{"backendRefs": [{"name": "a", "port": "http"}]}]}});
        let error = Snapshot::default().insert(route).unwrap_err().to_string();
        assert!(error.starts_with("HTTPRoute web/app: spec.rules[0].backendRefs[0].port: invalid type"), "{error}");

        let nameless = json!({"apiVersion": "v1", "kind": "Service", "metadata": {}});
        let error = Snapshot::default().insert(nameless).unwrap_err().to_string();
        assert_eq!(error, r#"an object of kind "Service" named "" lacks the field metadata.name"#);
    }

    #[test]
    fn ignores_what_it_does_not_know() {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}});
        let ignored = Inserted::Ignored { api_version: "apps/v1".into(), kind: "Deployment".into() };
        assert_eq!(Snapshot::default().insert(deployment).unwrap(), ignored);
    }

    #[test]
    fn reads_string_data_of_secrets() {
        let mut snapshot = Snapshot::default();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
            "data": {"a": "YQ=="}, "stringData": {"b": "b"}});
        snapshot.insert(secret).unwrap();
        let data = snapshot.secrets[&("default".into(), "keys".into())].data.clone().unwrap();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(data["b"].0, b"b");
    }
}

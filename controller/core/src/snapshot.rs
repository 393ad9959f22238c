//! The objects that a translation sees, as they stood at one moment.

use std::{collections::BTreeMap, sync::Arc};

use controller_api::{backend::Backend, backend_traffic_policy::BackendTrafficPolicy, security_policy::SecurityPolicy};
use gateway_api::apis::experimental::{
    gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute, referencegrants::ReferenceGrant,
};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Secret, Service},
    discovery::v1::EndpointSlice,
};

/// Namespace and name; the namespace is empty for cluster-scoped kinds.
pub type Key = (String, String);
/// All objects of one kind.
pub type Objects<T> = BTreeMap<Key, Arc<T>>;

/// Every object that matters, by kind. Immutable once it is handed to [`crate::translate`].
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each field is the kind it is named after")]
pub struct Snapshot {
    pub gateway_classes: Objects<GatewayClass>,
    pub gateways: Objects<Gateway>,
    pub http_routes: Objects<HttpRoute>,
    pub reference_grants: Objects<ReferenceGrant>,
    pub namespaces: Objects<Namespace>,
    pub services: Objects<Service>,
    pub endpoint_slices: Objects<EndpointSlice>,
    pub secrets: Objects<Secret>,
    pub config_maps: Objects<ConfigMap>,
    pub backends: Objects<Backend>,
    pub backend_traffic_policies: Objects<BackendTrafficPolicy>,
    pub security_policies: Objects<SecurityPolicy>,
}

//! `ClusterTrustBundle` of the certificates API: authorities that all namespaces may trust. Its versions, of which clusters serve
//! one or the other, agree in what matters here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// Certificates of authorities.
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterTrustBundle {
    /// As of any object.
    pub metadata: ObjectMeta,
    /// What it holds.
    pub spec: Spec,
}

/// The part of a `ClusterTrustBundle` that matters here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// PEM.
    pub trust_bundle: String,
}

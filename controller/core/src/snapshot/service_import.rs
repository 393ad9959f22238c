//! `ServiceImport` of the multi-cluster API: a Service whose replicas are in other clusters.

use k8s_openapi::{api::core::v1::ServicePort, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::Deserialize;

/// What `EndpointSlice`s with the label `multicluster.kubernetes.io/service-name` are for.
#[derive(Clone, Debug, Deserialize)]
pub struct ServiceImport {
    /// As of any object.
    pub metadata: ObjectMeta,
    /// The part of it that matters here.
    #[serde(default)]
    pub spec: Spec,
}

/// The part of a ServiceImport that matters here.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Spec {
    /// As those of a Service.
    #[serde(default)]
    pub ports: Vec<ServicePort>,
}

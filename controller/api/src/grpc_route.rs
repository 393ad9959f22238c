//! `GRPCRoute`: calls by service and method.

use gateway_api::apis::experimental::{
    grpcroutes::GrpcRouteRulesMatches,
    httproutes::{HttpRouteRulesFilters, HttpRouteRulesSessionPersistence},
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::route::{BackendRef, ParentRef, Status};

/// Sends gRPC calls to backends, by host, service, method and headers.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "GRPCRoute",
    root = "GrpcRoute",
    plural = "grpcroutes",
    namespaced,
    status = "Status",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteSpec {
    /// Where it wants to attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_refs: Option<Vec<ParentRef>>,
    /// Hosts that it takes; every one that its listener takes when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostnames: Option<Vec<String>>,
    /// What it does with calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<GrpcRule>>,
}

/// One rule. Save for its matches it is a part of what `HTTPRoute`'s can say.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRule {
    /// The name that policies know it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which calls it takes, any of them; every call when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<GrpcRouteRulesMatches>>,
    /// `RequestHeaderModifier`, `ResponseHeaderModifier`, `RequestMirror` and `ExtensionRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<HttpRouteRulesFilters>>,
    /// Where to, by weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_refs: Option<Vec<BackendRef>>,
    /// Keeps a client with the backend that answered it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<HttpRouteRulesSessionPersistence>,
}

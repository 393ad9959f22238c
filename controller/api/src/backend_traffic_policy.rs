//! `BackendTrafficPolicy`: how traffic flows between Envoy and backends.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cluster_settings::{CircuitBreaker, Retry, Timeout},
    fault_injection::FaultInjection,
    policy::{PolicyStatus, PolicyTargets},
    rate_limit::RateLimitSpec,
};

/// Limits, retries and faults for the routes it targets.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "gateway.envoyproxy.io",
    version = "v1alpha1",
    kind = "BackendTrafficPolicy",
    namespaced,
    shortname = "btp",
    category = "envoy-gateway",
    status = "PolicyStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", remote = "Self")]
#[schemars(!remote)]
pub struct BackendTrafficPolicySpec {
    /// Where it applies.
    #[serde(flatten)]
    pub targets: PolicyTargets,
    /// How many requests are admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitSpec>,
    /// Limits on time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// When a request is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Limits on concurrency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Faults on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_injection: Option<FaultInjection>,
    /// Fields that are not translated, by name. The rest of the policy is in force, and a `Warning` condition names them:
    /// none of them decides who may pass.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, Value>,
    /// What kept the spec from being read; only the targets are set then, and the policy is in error.
    #[serde(skip)]
    pub malformed: Option<String>,
}

crate::lenient::lenient_spec!(BackendTrafficPolicySpec);

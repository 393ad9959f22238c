//! `SecurityPolicy`: who may pass.

pub mod api_key_auth;
pub mod authorization;
pub mod basic_auth;
pub mod cors;
pub mod csrf;
pub mod ext_auth;
pub mod jwt;
pub mod oidc;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{
    api_key_auth::ApiKeyAuth, authorization::Authorization, basic_auth::BasicAuth, cors::Cors, csrf::Csrf,
    ext_auth::ExtAuth, jwt::Jwt, oidc::Oidc,
};
use crate::policy::{PolicyStatus, PolicyTargets};

/// Authentication and authorization for the routes it targets. Everything that is set must let a request pass.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "gateway.envoyproxy.io",
    version = "v1alpha1",
    kind = "SecurityPolicy",
    namespaced,
    shortname = "sp",
    category = "envoy-gateway",
    status = "PolicyStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", remote = "Self")]
#[schemars(!remote)]
pub struct SecurityPolicySpec {
    /// Where it applies.
    #[serde(flatten)]
    pub targets: PolicyTargets,
    /// API keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_auth: Option<ApiKeyAuth>,
    /// Names and passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// Which other origins' pages may read responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Which other origins' pages may make browsers change something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<Csrf>,
    /// Logins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<Box<Oidc>>,
    /// Signed tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// A service that is asked about every request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ext_auth: Option<Box<ExtAuth>>,
    /// Rules on what is known about a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// Fields that are not translated, by name: whatever a newer release adds. A policy that uses one is refused and its routes
    /// answer 500, for leaving out a check would let requests pass.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, Value>,
    /// What kept the spec from being read; only the targets are set then, and the policy is in error.
    #[serde(skip)]
    pub malformed: Option<String>,
}

crate::lenient::lenient_spec!(SecurityPolicySpec);

//! Signed tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Duration,
    backend_ref::{BackendRef, LocalObjectRef},
    cluster_settings::ClusterSettings,
};

/// Requests must carry a token of one of the providers.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// A request without a token passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// A request without a token or with a bad one passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_open: Option<bool>,
    /// 1 to 16, with names of their own.
    #[serde(default)]
    #[schemars(length(min = 1, max = 16))]
    pub providers: Vec<JwtProvider>,
}

/// Who signs tokens, and what is read from them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtProvider {
    /// Also the key of the claims in the dynamic metadata.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Required value of `iss`; any when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub issuer: Option<String>,
    /// `aud` must name one of them; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub audiences: Vec<String>,
    /// Keys that Envoy fetches; exactly one of this and `localJWKS`.
    #[serde(rename = "remoteJWKS", default, skip_serializing_if = "Option::is_none")]
    pub remote_jwks: Option<RemoteJwks>,
    /// Keys that are given.
    #[serde(rename = "localJWKS", default, skip_serializing_if = "Option::is_none")]
    pub local_jwks: Option<LocalJwks>,
    /// Claims that go out as headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claim_to_headers: Vec<ClaimToHeader>,
    /// Choose the route again after claims became headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recompute_route: Option<bool>,
    /// Where tokens are looked for; `Authorization: Bearer` and the query parameter `access_token` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract_from: Option<JwtExtractor>,
}

/// A key set (RFC 7517) behind a URL.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteJwks {
    /// `http` or `https`.
    pub uri: String,
    /// How long a set is kept. The API server fills in 300 s; without it Envoy keeps a set for ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_duration: Option<Duration>,
    /// Pause before another attempt after one that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_refetch_duration: Option<Duration>,
    /// Where the set is fetched instead of at the URL's host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// The older spelling of `backendRefs`, which is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<BackendRef>,
    /// How Envoy deals with its hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_settings: Option<Box<ClusterSettings>>,
}

/// A key set (RFC 7517) as text.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalJwks {
    /// Which of the two others counts.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<LocalJwksType>,
    /// The set itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
    /// A ConfigMap that holds it under `jwks`, or under its first key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_ref: Option<LocalObjectRef>,
}

/// Where a [`LocalJwks`] is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "each is the field that it is named after")]
pub enum LocalJwksType {
    #[default]
    Inline,
    ValueRef,
}

/// A claim that goes out as a header.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// Header to set.
    pub header: String,
    /// Dotted path of the claim.
    pub claim: String,
}

/// Places where a token is looked for.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtExtractor {
    /// Request headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<JwtHeaderExtractor>,
    /// Cookies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
    /// Query parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<String>,
}

/// A request header that holds a token.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtHeaderExtractor {
    /// Header name.
    pub name: String,
    /// Text before the token, such as `Bearer ` with its space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_prefix: Option<String>,
}

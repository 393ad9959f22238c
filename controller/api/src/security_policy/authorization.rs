//! Rules on what is known about a request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rate_limit::{HttpMethod, PathMatch};

/// The first rule that matches decides.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// In order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<AuthorizationRule>,
    /// What happens when no rule matches; `Deny` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_action: Option<AuthorizationAction>,
}

/// What a rule does with the requests it matches.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum AuthorizationAction {
    /// They pass.
    Allow,
    /// They are answered with 403.
    #[default]
    Deny,
}

/// Everything that is set must match.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationRule {
    /// Shown in metrics and logs; `securitypolicy/<ns>/<name>/authorization/rule/<i>` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// What happens to requests that match.
    pub action: AuthorizationAction,
    /// What the request wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Who sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// A CEL expression over Envoy's attributes. One that has no result for a request does not match it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cel: Option<String>,
}

/// What a request wants.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// One of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub methods: Vec<HttpMethod>,
    /// The request's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
}

/// Who sends a request. Everything that is set must match.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// The client's address lies in one of them.
    #[serde(rename = "clientCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_cidrs: Vec<String>,
    /// What a verified token says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtPrincipal>,
    /// All of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub headers: Vec<AuthorizationHeaderMatch>,
    /// Where in the world the client is. Not translated: a policy that sets it is refused.
    #[serde(rename = "clientIPGeoLocations", default, skip_serializing_if = "Vec::is_empty")]
    pub client_ip_geo_locations: Vec<Value>,
}

/// What a token of one provider says. All claims and all scopes must match.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtPrincipal {
    /// Name of a provider of the same policy.
    pub provider: String,
    /// All of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub claims: Vec<JwtClaim>,
    /// All of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub scopes: Vec<String>,
}

/// A claim that has one of the values.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtClaim {
    /// Dotted path.
    pub name: String,
    /// What the claim is; `String` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_type: Option<JwtClaimValueType>,
    /// One of them.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub values: Vec<String>,
}

/// What a claim is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum JwtClaimValueType {
    /// One text.
    #[default]
    String,
    /// A list of texts, one of which must be among the values.
    StringArray,
}

/// A header that has one of the values.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationHeaderMatch {
    /// Header name.
    pub name: String,
    /// Compared as they stand.
    #[serde(default)]
    pub values: Vec<String>,
}

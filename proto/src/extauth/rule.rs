//! What somebody may do who is known.

use serde::{Deserialize, Serialize};

/// Allows or denies the requests that its conditions fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// For logs and explanations; unique in its policy.
    pub name: String,
    /// What becomes of a request that fits.
    pub action: Action,
    /// All of them must hold. A rule without any fits every request.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub when: Conditions,
    /// The rule does not fit when all of these hold.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub unless: Conditions,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It may pass.
    Allow,
    /// It may not.
    #[default]
    Deny,
}

/// Conditions of different kinds, which must all hold. Where a kind is a list of values, one of them is enough; each claim,
/// scope and header of the lists must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Conditions {
    /// Names of the methods of authentication, such as `api_key`, `jwt` or `anonymous`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authenticated_by: Vec<String>,
    /// Clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// Tiers of clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<String>,
    /// Tenants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
    /// Scopes, all of which must have been granted: those of a key, and those of the claims `scope` and `scp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Roles, of the claims `roles` and `realm_access.roles`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Groups, of the claim `groups`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Claims of a token or session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimCondition>,
    /// HTTP methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Host names without a port; `*.example.com` stands for all names below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Paths without query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathMatch>,
    /// Request headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderCondition>,
    /// Addresses and networks (CIDR) that the client may have; see the policy's `trustedHops`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_ips: Vec<String>,
    /// An expression in CEL (Common Expression Language) that must be true; one that fails denies the request, in a denying
    /// rule too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cel: Option<String>,
}

impl Conditions {
    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Exactly one of `exact`, `in`, `contains` and `present`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimCondition {
    /// The claim with that very name, else the one that the dots lead to.
    pub claim: String,
    /// Name of the provider whose claim it is; any provider's by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// It is this text, number or truth value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// It is one of these.
    #[serde(default, rename = "in", skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
    /// It is a list with this in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// It is there and not null, or it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
}

/// Which paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum PathMatch {
    /// This one.
    Exact(String),
    /// This one and those below it: `/a` is a prefix of `/a/b` and not of `/ab`.
    Prefix(String),
    /// All of the path fits the expression, in RE2's syntax.
    Regex(String),
}

/// Exactly one of `exact`, `in`, `prefix`, `regex`, `contains` and `present`. All but the last two look at every value of
/// the header, and deny when it has several that do not agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderCondition {
    /// Case-insensitive header name.
    pub name: String,
    /// The value is this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// The value is one of these.
    #[serde(default, rename = "in", skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
    /// The value starts so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// All of the value fits the expression, in RE2's syntax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// One of the header's values is this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// The header is there, or it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
}

//! JSON Web Tokens.

use serde::{Deserialize, Serialize};

use super::Source;

/// Tokens of one issuer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    /// Name of the provider, which is also the key of its claims in the dynamic metadata.
    pub name: String,
    /// Required value of `iss`.
    pub issuer: String,
    /// `aud` must name one of them; at least one.
    pub audiences: Vec<String>,
    /// Key set (RFC 7517) as text; exactly one of this and `jwks_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// Key set in a file beside the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<String>,
    /// JOSE names of the signature algorithms to accept; by default all asymmetric ones except ES512, which is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<String>,
    /// How far `exp` and `nbf` may be off, in seconds.
    #[serde(default = "default_leeway")]
    pub leeway_seconds: u64,
    /// Places to look in; `Authorization: Bearer` by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Source>,
    /// Take the token away before the upstream sees the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove: bool,
    /// Claims that go out as headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims_to_headers: Vec<ClaimToHeader>,
}

/// A claim that goes out as a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimToHeader {
    /// Dotted path of the claim, such as `realm.tenant`.
    pub claim: String,
    /// Header to set; a client's own copies of it are removed from every request.
    pub header: String,
}

fn default_leeway() -> u64 {
    60
}

//! JSON Web Tokens.

use serde::{Deserialize, Serialize};

use super::{Backends, Source};

/// Tokens of one issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    /// Name of the provider, which is also the key of its claims in the dynamic metadata.
    pub name: String,
    /// Required value of `iss`.
    pub issuer: String,
    /// `aud` must name one of them; at least one.
    pub audiences: Vec<String>,
    /// Key set (RFC 7517) as text. At most one of this, `jwks_file` and `jwks_uri`; without any of them the key set's
    /// address is discovered from the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// Key set in a file beside the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<String>,
    /// Where the issuer publishes its key set: an `https` or `http` URI without user or password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// Who answers when the key set is fetched, instead of the hosts in URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backends: Option<Backends>,
    /// How old a fetched key set may become, in seconds; it is fetched again ahead of that.
    #[serde(default = "default_cache_duration")]
    pub cache_duration_seconds: u64,
    /// JOSE names of the signature algorithms to accept; by default all asymmetric ones except ES512, which is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<String>,
    /// Values of the header's `typ` to accept, whatever their case and with or without `application/`. By default a token may
    /// say `JWT`, `JOSE`, `at+jwt` or nothing, so that tokens for other purposes are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// `sub` must be one of them; a `*` at the start or the end stands for anything. Any subject by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// Claims that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_claims: Vec<RequiredClaim>,
    /// Refuse tokens without `exp`; the default.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub require_expiration: bool,
    /// The longest time that a token may have left, in seconds; it must then have an `exp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifetime_seconds: Option<u64>,
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
    /// How the claim is written.
    #[serde(default)]
    pub format: Format,
}

/// How a claim is written into a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// Texts, numbers and truth values as they are, lists of them joined by commas, and objects not at all.
    #[default]
    Text,
    /// As JSON, whatever it is.
    Json,
}

/// A claim that a token must have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequiredClaim {
    /// Name of the claim, or its dotted path.
    pub claim: String,
    /// The claim, or an element of it when it is a list, must equal one of them; without any, it only has to be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<serde_json::Value>,
}

/// What serde gives a field that is not written.
impl Default for Jwt {
    fn default() -> Self {
        Self {
            name: String::new(),
            issuer: String::new(),
            audiences: Vec::new(),
            jwks: None,
            jwks_file: None,
            jwks_uri: None,
            backends: None,
            cache_duration_seconds: default_cache_duration(),
            algorithms: Vec::new(),
            types: Vec::new(),
            subjects: Vec::new(),
            required_claims: Vec::new(),
            require_expiration: true,
            max_lifetime_seconds: None,
            leeway_seconds: default_leeway(),
            from: Vec::new(),
            remove: false,
            claims_to_headers: Vec::new(),
        }
    }
}

fn default_cache_duration() -> u64 {
    300
}

fn yes() -> bool {
    true
}

fn default_leeway() -> u64 {
    60
}

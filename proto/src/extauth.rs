//! The policies that `extauth` serves: one schema for its YAML files and for what the controller hands it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A set of policies; the root of one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policies {
    /// Each with a name of its own, over all files.
    #[serde(default)]
    pub policies: Vec<Policy>,
}

/// How the requests of a route prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// What Envoy's context extension `policy` says for a route that this policy guards.
    pub name: String,
    /// Tried in order; the first whose credential is present decides. At least one.
    pub methods: Vec<Method>,
    /// Let requests without any credential pass as anonymous.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// One way of proving an identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Method {
    /// A key that was given to a client.
    ApiKey(ApiKey),
    /// A signed token of an issuer.
    Jwt(Jwt),
}

/// Where a credential is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Source {
    /// A request header; `prefix` (such as `Bearer `) is required and cut off when set.
    Header {
        /// Case-insensitive header name.
        name: String,
        /// Compared case-insensitively.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        prefix: String,
    },
    /// A query parameter.
    Query {
        /// Parameter name, compared as it stands.
        name: String,
    },
    /// A cookie.
    Cookie {
        /// Cookie name, compared as it stands.
        name: String,
    },
}

/// API keys and where they are looked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKey {
    /// Places to look in; a request with keys in two of them is denied.
    pub from: Vec<Source>,
    /// The keys themselves, as hashes.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// A file beside the policy's that holds more keys (`keys: […]`), so that they can lie in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_file: Option<String>,
    /// Let the credential through to the upstream; it is removed by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward: bool,
    /// Header that tells the upstream the client's id; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_header: Option<String>,
    /// Header that tells the upstream the key's tier; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier_header: Option<String>,
    /// Label name to the header that tells the upstream its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub label_headers: BTreeMap<String, String>,
}

/// One API key; the key's text itself is nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// `sha256:` and 64 hexadecimal digits of the key's hash.
    pub hash: String,
    /// Who it was given to.
    pub client: String,
    /// Class of service, such as `gold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Anything else that rules or rate limits want to know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

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

//! Tokens that their issuer is asked about (RFC 7662).

use serde::{Deserialize, Serialize};

use super::{ClaimToHeader, RequiredClaim, Secret, Source};

/// Tokens that one authorization server is asked about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Introspection {
    /// Name of the provider, which is also the key of its answers in the dynamic metadata.
    pub name: String,
    /// The introspection endpoint: an `https` or `http` URI without user or password.
    pub endpoint: String,
    /// Who we are at the authorization server.
    pub client_id: String,
    /// Our secret there; exactly one of this and `client_secret_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Our secret, in a file beside the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<String>,
    /// How we prove who we are.
    #[serde(default)]
    pub client_auth: SecretAuth,
    /// What `iss` must be where the answer has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// `aud` must name one of them where the answer has one; any by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// Members that the answer must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_claims: Vec<RequiredClaim>,
    /// How long an answer about an active token is good, in seconds; never beyond its `exp`. 0 asks each time.
    #[serde(default = "default_cache")]
    pub cache_seconds: u64,
    /// How long an answer about any other token is good, in seconds.
    #[serde(default = "default_negative_cache")]
    pub negative_cache_seconds: u64,
    /// Questions that may be open at a time; tokens beyond them are refused for now.
    #[serde(default = "default_concurrency")]
    pub max_concurrent: usize,
    /// Places to look in; `Authorization: Bearer` by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Source>,
    /// Take the token away before the upstream sees the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove: bool,
    /// Members of the answer that go out as headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims_to_headers: Vec<ClaimToHeader>,
}

/// How a client with a secret proves who it is (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SecretAuth {
    /// In the header `Authorization: Basic`.
    #[default]
    SecretBasic,
    /// In the body.
    SecretPost,
}

/// What serde gives a field that is not written.
impl Default for Introspection {
    fn default() -> Self {
        Self {
            name: String::new(),
            endpoint: String::new(),
            client_id: String::new(),
            client_secret: None,
            client_secret_file: None,
            client_auth: SecretAuth::default(),
            issuer: None,
            audiences: Vec::new(),
            required_claims: Vec::new(),
            cache_seconds: default_cache(),
            negative_cache_seconds: default_negative_cache(),
            max_concurrent: default_concurrency(),
            from: Vec::new(),
            remove: false,
            claims_to_headers: Vec::new(),
        }
    }
}

fn default_cache() -> u64 {
    60
}

fn default_negative_cache() -> u64 {
    10
}

fn default_concurrency() -> usize {
    64
}

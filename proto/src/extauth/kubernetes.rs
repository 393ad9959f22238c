//! Service-account tokens of Kubernetes.

use serde::{Deserialize, Serialize};

use super::Source;

/// Tokens that the Kubernetes API server is asked about (`TokenReview`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubernetes {
    /// Name of the provider, which is also the key of the account in the dynamic metadata.
    pub name: String,
    /// The token must be for one of them; at least one, so that a token for the API server itself is no use here.
    pub audiences: Vec<String>,
    /// Namespaces whose service accounts may pass; any by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Service accounts that may pass, as `namespace/name`; any by default. With `namespaces`, either is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<String>,
    /// How long an answer about a good token is good, in seconds. 0 asks each time.
    #[serde(default = "default_cache")]
    pub cache_seconds: u64,
    /// How long an answer about any other token is good, in seconds.
    #[serde(default = "default_cache")]
    pub negative_cache_seconds: u64,
    /// Questions that may be open at a time; tokens beyond them are refused for now.
    #[serde(default = "default_concurrency")]
    pub max_concurrent: usize,
    /// Places to look in; `Authorization: Bearer` by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Source>,
    /// Let the token through to the upstream; it is removed by default, as whoever has it is that account.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward: bool,
    /// Header that tells the upstream the account as `system:serviceaccount:NAMESPACE:NAME`; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_header: Option<String>,
}

/// What serde gives a field that is not written.
impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            name: String::new(),
            audiences: Vec::new(),
            namespaces: Vec::new(),
            service_accounts: Vec::new(),
            cache_seconds: default_cache(),
            negative_cache_seconds: default_cache(),
            max_concurrent: default_concurrency(),
            from: Vec::new(),
            forward: false,
            client_header: None,
        }
    }
}

fn default_cache() -> u64 {
    10
}

fn default_concurrency() -> usize {
    16
}

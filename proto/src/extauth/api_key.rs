//! API keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Source;

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

//! API keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FailedAttempts, Source};

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
    /// A directory beside the policy's file with a key in each file that bears its client's name: a mounted Secret as Envoy
    /// Gateway reads them. These keys are in plain text; only their hashes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_dir: Option<String>,
    /// Name of a set of keys in the store, as `extauth keys --set` calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_set: Option<String>,
    /// Let the credential through to the upstream; it is removed by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward: bool,
    /// Header that tells the upstream the client's id; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_header: Option<String>,
    /// Header that tells the upstream the key's tenant; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_header: Option<String>,
    /// Header that tells the upstream the key's tier; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier_header: Option<String>,
    /// Header that tells the upstream the key's scopes, separated by spaces; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes_header: Option<String>,
    /// Label name to the header that tells the upstream its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub label_headers: BTreeMap<String, String>,
    /// How often one may try a wrong key.
    #[serde(default, skip_serializing_if = "FailedAttempts::is_default")]
    pub failed_attempts: FailedAttempts,
}

/// One API key; the key's text itself is nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// `sha256:` or `hmac-sha256:`, and 64 hexadecimal digits.
    pub hash: String,
    /// Name of the key itself, which is no secret: the beginning of keys that `extauth keys add` makes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Who it was given to.
    pub client: String,
    /// Whom the client belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Class of service, such as `gold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// What the key is good for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Anything else that rules or rate limits want to know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it stops being good, as in RFC 3339: `2027-01-31T00:00:00Z`; never by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Not good for now, as if nobody had it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

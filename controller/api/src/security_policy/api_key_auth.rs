//! API keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backend_ref::SecretRef;

/// Requests must carry a known key.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyAuth {
    /// Secrets whose `data` maps a client's id to its key; the first Secret that names a client wins.
    #[serde(default)]
    pub credential_refs: Vec<SecretRef>,
    /// Where a key is looked for.
    #[serde(default)]
    pub extract_from: Vec<ApiKeyExtractFrom>,
    /// Header that tells the backend the client's id.
    #[serde(rename = "forwardClientIDHeader", default, skip_serializing_if = "Option::is_none")]
    pub forward_client_id_header: Option<String>,
    /// Take the key away before the backend sees the request; unset, it is passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sanitize: Option<bool>,
}

/// Exactly one of the three.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyExtractFrom {
    /// Header names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Query parameter names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<String>,
    /// Cookie names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
}

//! Names and passwords.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backend_ref::SecretRef;

/// Requests must carry the name and password of a user (RFC 7617).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// The Secret whose key `.htpasswd` lists the users.
    pub users: SecretRef,
    /// Header that tells the backend the user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_username_header: Option<String>,
}

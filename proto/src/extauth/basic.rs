//! User names and passwords.

use serde::{Deserialize, Serialize};

use super::{FailedAttempts, Secret};

/// Users and the hashes of their passwords (RFC 7617).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Basic {
    /// What the client is asked to log in to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// Lines `user:hash` as `htpasswd` writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub htpasswd: Option<Secret>,
    /// A file beside the policy's with such lines, or `DIRECTORY/.htpasswd` for a mounted Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub htpasswd_file: Option<String>,
    /// Header that tells the upstream the user's name; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_header: Option<String>,
    /// Let the credential through to the upstream; it is removed by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward: bool,
    /// Seconds for which a password that was right is not hashed again, 3600 at most; 300 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_seconds: Option<u64>,
    /// How often one may try a wrong password.
    #[serde(default, skip_serializing_if = "FailedAttempts::is_default")]
    pub failed_attempts: FailedAttempts,
}

//! Who answers instead of the hosts in URLs.

use serde::{Deserialize, Serialize};

/// Whom to connect to for requests to an authority, whatever host its URLs name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backends {
    /// `HOST:PORT`: one that can be reached, and nobody when there are none.
    pub addresses: Vec<String>,
    /// Speak to them without TLS, also where URLs say `https`. With TLS, certificates are those of the URLs' hosts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plaintext: bool,
}

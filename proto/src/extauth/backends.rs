//! Who answers instead of the hosts in URLs, and how.

use serde::{Deserialize, Serialize};

use super::Secret;

/// Whom to connect to for requests to an authority, whatever host its URLs name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backends {
    /// `HOST:PORT`: one that can be reached, and nobody when there are none.
    pub addresses: Vec<String>,
    /// Speak to them without TLS, also where URLs say `https`. With TLS, certificates are those of the URLs' hosts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plaintext: bool,
    /// Speak TLS with them, also where URLs say `http`, and like this. Not with `plaintext`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<BackendTls>>,
}

/// TLS with backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendTls {
    /// PEM of the authorities that may have signed their certificates; those of the system and of `EXTAUTH_CA_FILE` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Name that is asked for (SNI), and that their certificates must have; the URL's host by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// DNS names and URIs of which their certificates must have one, instead of `server_name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// Believe any certificate; whoever is in between can then read and change everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
    /// PEM of the certificate that is shown to them, and what leads to its authority; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// PEM of its private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
}

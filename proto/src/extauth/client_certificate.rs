//! Certificates of clients.

use serde::{Deserialize, Serialize};

/// Certificates that clients show to Envoy, or to a proxy before it. At least one of the fields that say which of them are
/// good must be set; all that are set must agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientCertificate {
    /// Whose certificate it is.
    #[serde(default)]
    pub from: CertificateSource,
    /// Certificate authorities in PEM, one of which must have signed the certificate; without any, whoever received the
    /// certificate must have verified it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The same, in a file beside the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// One of its DNS names must be one of them, whatever their case; a `*` at the start or the end stands for anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    /// One of its URIs must be one of them, with `*` as above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
    /// One of its e-mail addresses must be one of them, with `*` as above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<String>,
    /// Its subject, as RFC 4514 writes it, must be one of them, with `*` as above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// It must be the certificate of a SPIFFE workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<Spiffe>,
    /// Header that tells the upstream who the client is; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_header: Option<String>,
}

/// Where a client's certificate comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CertificateSource {
    /// From the TLS connection to Envoy (`include_peer_certificate`).
    #[default]
    Peer,
    /// From the header `x-forwarded-client-cert`, which only a trusted proxy before Envoy may set.
    Forwarded,
}

/// Which SPIFFE workloads are good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spiffe {
    /// Trust domains; at least one.
    pub trust_domains: Vec<String>,
    /// Paths such as `/ns/shop/*`; any by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

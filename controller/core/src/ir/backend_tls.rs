//! TLS between Envoy and backends.

use std::fmt;

use super::Certificate;

/// How Envoy speaks TLS with one backend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendTls {
    /// Who has to vouch for the backend's certificate; `None` believes any certificate.
    pub authorities: Option<Authorities>,
    /// Whom Envoy asks for.
    pub server_name: ServerName,
    /// Names of which the certificate must have one; with none, that of [`BackendTls::server_name`].
    pub subject_alt_names: Vec<SubjectAltName>,
    /// Protocols to offer; what the cluster's HTTP settings need when unset.
    pub alpn: Option<Vec<String>>,
    /// Cipher suites of TLS 1.2, in BoringSSL's words; its own when empty.
    pub ciphers: Vec<String>,
    /// Curves of the key exchange, likewise.
    pub ecdh_curves: Vec<String>,
    /// Signature algorithms, likewise.
    pub signature_algorithms: Vec<String>,
    /// Oldest version of TLS, as hundredths of 10: 12 is TLS 1.2; 12 when unset.
    pub min_version: Option<u8>,
    /// Newest version, likewise; 13 when unset.
    pub max_version: Option<u8>,
    /// What Envoy shows; the Gateway's own certificate when unset.
    pub client_certificate: Option<Certificate>,
}

/// Who vouches for a backend's certificate.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorities {
    /// Those that the proxies' containers come with.
    System,
    /// Given ones.
    Bundle {
        /// `<policy or backend>/<namespace>-ca`, under which Envoy asks for them.
        name: String,
        /// Certificates, PEM.
        pem: Vec<u8>,
    },
}

/// Leaves out the certificates, which are long.
impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::Bundle { name, .. } => f.debug_tuple("Bundle").field(name).finish(),
        }
    }
}

/// The server name (SNI) that Envoy asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServerName {
    /// The host of the request.
    #[default]
    OfRequest,
    /// The host name of the endpoint.
    OfEndpoint,
    /// This one.
    Fixed(String),
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectAltName {
    /// DNS name.
    Dns(String),
    /// URI.
    Uri(String),
}

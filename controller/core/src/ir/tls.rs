//! What Envoy shows clients over TLS, and what it asks them to show.

use std::fmt;

/// How the TLS connections of a listener that does not speak HTTP are treated.
#[derive(Clone, Debug, PartialEq)]
pub enum Tls {
    /// They are handed on as they are; only the server name is read.
    Passthrough,
    /// Envoy ends them.
    Terminate(Termination),
}

/// How Envoy ends the TLS of a listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Termination {
    /// Never empty; Envoy chooses among them by what the client can use.
    pub certificates: Vec<Certificate>,
    /// Protocols that are offered, most preferred first; empty where there is no choice.
    pub alpn: Vec<String>,
    /// What is asked of the client's own certificate; `None` asks for none.
    pub client: Option<ClientValidation>,
}

/// A certificate with its key, as a Secret of type `kubernetes.io/tls` holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// `<namespace>/<secret>`, under which Envoy asks for it.
    pub name: String,
    /// The certificate and what leads to its authority, PEM.
    pub chain: Vec<u8>,
    /// PEM.
    pub key: Vec<u8>,
}

/// Names it only: the key is a secret.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.name).finish()
    }
}

/// What is asked of clients' certificates.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientValidation {
    /// `gateway/<namespace>/<gateway>/<port or default>/ca.crt`, under which Envoy asks for the authorities.
    pub name: String,
    /// The authorities that are believed, PEM.
    pub authorities: Vec<u8>,
    /// Clients without a certificate, or with one that nobody vouches for, are let in too (`AllowInsecureFallback`).
    pub optional: bool,
}

/// Leaves out the authorities, which are long.
impl fmt::Debug for ClientValidation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, optional, .. } = self;
        f.debug_struct("ClientValidation").field("name", name).field("optional", optional).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_key() {
        let certificate = Certificate { name: "web/tls".into(), chain: b"chain".into(), key: b"secret".into() };
        let tls = Tls::Terminate(Termination { certificates: vec![certificate], ..Termination::default() });
        let text = format!("{tls:?}");
        assert!(text.contains("web/tls") && !text.contains("115, 101, 99") && !text.contains("secret"), "{text}");
    }
}

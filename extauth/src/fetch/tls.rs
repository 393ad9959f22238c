//! TLS with backends whose certificates need not be those of the URLs' hosts.

use std::sync::Arc;

use proto::extauth::BackendTls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Which field cannot be used, and why.
pub type Unusable = (&'static str, String);

/// What a TLS client needs; `roots` are believed unless the settings have authorities of their own.
pub(super) fn config(tls: &BackendTls, roots: &Arc<RootCertStore>) -> Result<ClientConfig, Unusable> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = match &tls.ca {
        Some(pem) => Arc::new(authorities(pem)?),
        None => Arc::clone(roots),
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ("tls", error.to_string()))?;
    let builder = match verifier(tls, &provider, &roots)? {
        None => builder.with_root_certificates(roots),
        Some(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
    };
    match (&tls.certificate, &tls.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates("tls.certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
            // What is wrong with a key is nobody's business.
            let key = key.map_err(|_| ("tls.key", "is no private key in PEM".to_owned()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| ("tls.certificate", error.to_string()))
        }
        _ => Err(("tls.certificate", "and `key` must be set both or neither".to_owned())),
    }
}

/// The name that is asked for, if it is not the URL's host.
pub(super) fn server_name(tls: &BackendTls) -> Result<Option<ServerName<'static>>, Unusable> {
    let Some(name) = &tls.server_name else { return Ok(None) };
    let parsed = ServerName::try_from(name.clone());
    parsed.map(Some).map_err(|_| ("tls.serverName", format!("`{name}` is no name of a server")))
}

fn authorities(pem: &str) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.ca", pem)? {
        roots.add(certificate).map_err(|error| ("tls.ca", error.to_string()))?;
    }
    Ok(roots)
}

fn certificates(field: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err((field, "holds no certificate in PEM".to_owned())),
        Err(error) => Err((field, error.to_string())),
    }
}

/// `None` where rustls' own check will do: the certificate is for the name that is asked for.
fn verifier(
    tls: &BackendTls,
    provider: &CryptoProvider,
    roots: &Arc<RootCertStore>,
) -> Result<Option<Verifier>, Unusable> {
    let algorithms = provider.signature_verification_algorithms;
    if tls.insecure_skip_verify {
        return Ok(Some(Verifier { algorithms, accepts: Accepts::Anybody }));
    }
    if tls.subject_alt_names.is_empty() {
        return Ok(None);
    }
    let names = tls.subject_alt_names.iter().map(|name| {
        if name.contains("://") {
            return Ok(Name::Uri(name.clone()));
        }
        let dns = ServerName::try_from(name.clone());
        dns.map(Name::Dns).map_err(|_| ("tls.subjectAltNames", format!("`{name}` is neither a DNS name nor a URI")))
    });
    let accepts = Accepts::Names { roots: Arc::clone(roots), names: names.collect::<Result<_, _>>()? };
    Ok(Some(Verifier { algorithms, accepts }))
}

#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    accepts: Accepts,
}

#[derive(Debug)]
enum Accepts {
    Anybody,
    /// Whoever has one of these names from one of these authorities.
    Names {
        roots: Arc<RootCertStore>,
        names: Vec<Name>,
    },
}

#[derive(Debug)]
enum Name {
    Dns(ServerName<'static>),
    Uri(String),
}

impl Name {
    fn is_in(&self, der: &CertificateDer<'_>, certificate: &ParsedCertificate<'_>) -> bool {
        match self {
            Self::Dns(name) => verify_server_name(certificate, name).is_ok(),
            Self::Uri(uri) => {
                let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
                let names = certificate.subject_alternative_name().ok().flatten();
                names.is_some_and(|names| names.value.general_names.contains(&GeneralName::URI(uri)))
            }
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Accepts::Names { roots, names } = &self.accepts {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
            if !names.iter().any(|name| name.is_in(end_entity, &certificate)) {
                return Err(CertificateError::NotValidForName.into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

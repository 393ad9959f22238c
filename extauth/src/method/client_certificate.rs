//! Certificates of clients, as Envoy or a proxy before it received them.

mod certificate;
mod forwarded;
mod spiffe;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use proto::extauth::CertificateSource;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use self::certificate::{Certificate, Names};
use self::spiffe::Id;
use crate::check::Check;
use crate::header;
use crate::method::Invalid;
use crate::pattern::starred;
use crate::policy::forbidden;
use crate::verdict::{Denial, Grant, text};

/// Why a certificate proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not one certificate, or one that cannot be read.
    #[error("no one well-formed client certificate")]
    Malformed,
    /// A name has control characters, is no text, or could be read in two ways.
    #[error("the client certificate has a name that is malformed")]
    Name,
    /// Its time has not come, or is over.
    #[error("the client certificate is not valid now")]
    Time,
    /// None of the authorities signed it for a client.
    #[error("the client certificate is of no known authority")]
    Authority,
    /// It is good, but none of those that may pass.
    #[error("the client certificate is none that may pass")]
    Forbidden,
}

/// Which certificates are good.
#[derive(Debug)]
pub struct ClientCertificate {
    from: CertificateSource,
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    dns_names: Vec<String>,
    uris: Vec<String>,
    emails: Vec<String>,
    subjects: Vec<String>,
    spiffe: Option<proto::extauth::Spiffe>,
    client_header: Option<HeaderName>,
}

impl ClientCertificate {
    /// Checks the configuration.
    pub fn compile(config: &proto::extauth::ClientCertificate) -> Result<Self, Invalid> {
        if config.ca_file.is_some() {
            return Err(Invalid::new("caFile", "is only known where policies are read from files"));
        }
        let lists = [&config.dns_names, &config.uris, &config.emails, &config.subjects];
        if config.ca.is_none() && config.spiffe.is_none() && lists.iter().all(|list| list.is_empty()) {
            let problem = "says of no certificate that it is good: set `ca`, `dnsNames`, `uris`, `emails`, `subjects` or `spiffe`";
            return Err(Invalid::new("from", problem));
        }
        for (name, list) in ["dnsNames", "uris", "emails", "subjects"].into_iter().zip(lists) {
            if let Some(index) = list.iter().position(String::is_empty) {
                return Err(Invalid::new(format!("{name}[{index}]"), "is empty"));
            }
        }
        if let Some(spiffe) = &config.spiffe {
            spiffe::check(spiffe)?;
        }
        let client_header = config.client_header.as_deref().map(header::name).transpose();
        Ok(Self {
            from: config.from,
            authorities: config.ca.as_deref().map(authorities).transpose()?,
            dns_names: config.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            uris: config.uris.clone(),
            emails: config.emails.clone(),
            subjects: config.subjects.clone(),
            spiffe: config.spiffe.clone(),
            client_header: client_header.map_err(|e| Invalid::new("clientHeader", &e))?,
        })
    }

    /// Whether the client showed a certificate that may pass.
    pub fn check(&self, check: &Check<'_>) -> Result<Option<Grant>, Error> {
        let names = match self.from {
            CertificateSource::Peer => self.peer(check)?,
            CertificateSource::Forwarded => self.forwarded(check)?,
        };
        names.map(|names| self.grant(&names)).transpose()
    }

    /// The header that tells the upstream who the client is.
    pub fn identity(&self) -> Vec<HeaderName> {
        self.client_header.iter().cloned().collect()
    }

    fn peer(&self, check: &Check<'_>) -> Result<Option<Names>, Error> {
        match (check.peer_certificate(), check.peer_principal()) {
            (Some(certificate), _) => self.names(&Certificate::decode(certificate)?, check.now()).map(Some),
            // Without the certificate nobody can tell who signed it.
            (None, Some(_)) if self.authorities.is_some() => Err(Error::Malformed),
            (None, Some(principal)) => Names::of_principal(principal).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn forwarded(&self, check: &Check<'_>) -> Result<Option<Names>, Error> {
        let Some(element) = forwarded::find(check)? else { return Ok(None) };
        match element.certificate {
            Some(certificate) => self.names(&Certificate::decode(&certificate)?, check.now()).map(Some),
            None if self.authorities.is_some() => Err(Error::Malformed),
            None => element.names.checked().map(Some),
        }
    }

    fn names(&self, certificate: &Certificate, now: u64) -> Result<Names, Error> {
        let names = certificate.names(now)?;
        if let Some(authorities) = &self.authorities {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
            authorities.verify_client_cert(&certificate.0, &[], now).map_err(|_| Error::Authority)?;
        }
        Ok(names)
    }

    fn grant(&self, names: &Names) -> Result<Grant, Error> {
        let any = |patterns: &[String], texts: &[String]| {
            patterns.is_empty() || texts.iter().any(|text| patterns.iter().any(|pattern| starred(pattern, text)))
        };
        let dns_names: Vec<String> = names.dns.iter().map(|name| name.to_ascii_lowercase()).collect();
        let spiffe = match &self.spiffe {
            Some(spiffe) => Id::of(&names.uris).is_some_and(|id| id.fits(spiffe)),
            None => true,
        };
        let fits = any(&self.dns_names, &dns_names)
            && any(&self.uris, &names.uris)
            && any(&self.emails, &names.emails)
            && any(&self.subjects, names.subject.as_slice());
        let client = names.client().filter(|client| header::value(client).is_ok());
        let Some(client) = client.filter(|_| fits && spiffe) else { return Err(Error::Forbidden) };
        Ok(Grant {
            headers: self.client_header.iter().map(|header| (header.clone(), client.to_owned())).collect(),
            metadata: [("client".to_owned(), text(client))].into(),
            ..Grant::default()
        })
    }
}

/// What the client is told.
pub fn denial(error: Error) -> Denial {
    let body = if error == Error::Forbidden { "Forbidden" } else { "the client certificate is not valid" };
    // There is no challenge to answer: the certificate belongs to the connection.
    Denial { body: body.to_owned(), ..forbidden(&error.to_string()) }
}

fn authorities(pem: &str) -> Result<Arc<dyn ClientCertVerifier>, Invalid> {
    let wrong = |problem: String| Invalid::new("ca", &problem);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(format!("is no PEM: {error}")))?;
        roots.add(certificate).map_err(|error| wrong(format!("has a certificate that cannot be used: {error}")))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| wrong(format!("cannot be used: {error}")))
}

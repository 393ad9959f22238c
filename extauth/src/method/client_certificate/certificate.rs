//! What a certificate (RFC 5280) says of its holder.

use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use super::Error;

/// The longest certificate that is looked at, in encoded bytes.
const LONGEST: usize = 64 * 1024;

/// One certificate, as it was signed.
pub(super) struct Certificate(pub(super) CertificateDer<'static>);

/// The names that a certificate gives its holder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) uris: Vec<String>,
    pub(super) dns: Vec<String>,
    pub(super) emails: Vec<String>,
    pub(super) subject: Option<String>,
}

impl Certificate {
    /// Reads PEM that is encoded as in a URI: exactly one certificate.
    pub(super) fn decode(encoded: &str) -> Result<Self, Error> {
        if encoded.len() > LONGEST {
            return Err(Error::Malformed);
        }
        let pem: Vec<u8> = percent_decode_str(encoded).collect();
        let mut certificates = CertificateDer::pem_slice_iter(&pem);
        match (certificates.next(), certificates.next()) {
            (Some(Ok(certificate)), None) => Ok(Self(certificate)),
            _ => Err(Error::Malformed),
        }
    }

    /// The names, if the certificate is valid at this time and each of them is what it seems to be.
    pub(super) fn names(&self, now: u64) -> Result<Names, Error> {
        let (rest, certificate) = X509Certificate::from_der(&self.0).map_err(|_| Error::Malformed)?;
        if !rest.is_empty() {
            return Err(Error::Malformed);
        }
        let now = i64::try_from(now).ok().and_then(|now| ASN1Time::from_timestamp(now).ok()).ok_or(Error::Time)?;
        if !certificate.validity().is_valid_at(now) {
            return Err(Error::Time);
        }
        let mut names = Names::default();
        let alternative = certificate.subject_alternative_name().map_err(|_| Error::Malformed)?;
        for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                GeneralName::RFC822Name(email) => names.emails.push((*email).to_owned()),
                GeneralName::Invalid(..) => return Err(Error::Name),
                // Nothing is decided by the others, whatever they hold.
                _ => {}
            }
        }
        let subject = certificate.subject();
        if subject.iter_rdn().next().is_some() {
            names.subject = Some(subject.to_string());
        }
        names.checked()
    }
}

impl Names {
    /// Reads what Envoy says of a peer whose certificate it does not pass on: the first URI, DNS name, or the subject.
    pub(super) fn of_principal(principal: &str) -> Result<Self, Error> {
        let name = principal.to_owned();
        let names = if principal.contains("://") {
            Self { uris: vec![name], ..Self::default() }
        } else if principal.contains('=') {
            Self { subject: Some(name), ..Self::default() }
        } else {
            Self { dns: vec![name], ..Self::default() }
        };
        names.checked()
    }

    /// The same names, if none of them could be read in two ways.
    pub(super) fn checked(self) -> Result<Self, Error> {
        let mut exact = self.uris.iter().chain(&self.dns).chain(&self.emails);
        let exact = exact.all(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
        let encoded = self.uris.iter().any(|uri| percent_decode_str(uri).any(|byte| byte.is_ascii_control()));
        let subject = self.subject.as_ref().is_none_or(|subject| !subject.chars().any(char::is_control));
        if exact && subject && !encoded { Ok(self) } else { Err(Error::Name) }
    }

    /// Who the holder is, by the name that says it best.
    pub(super) fn client(&self) -> Option<&str> {
        let mut names = self.uris.iter().chain(&self.dns).chain(&self.emails).chain(&self.subject);
        names.next().map(String::as_str)
    }
}

//! Certificate authorities, and the certificates that they sign.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use x509_parser::{extensions::GeneralName, pem::parse_x509_pem};

/// How long an authority is good for: five years.
pub(super) const AUTHORITY_LIFETIME: Duration = Duration::from_hours(5 * 365 * 24);
/// How long a certificate is good for: one year.
pub(super) const LIFETIME: Duration = Duration::from_hours(365 * 24);
/// How far back both begin to be good, for clocks that are behind.
const LEEWAY: Duration = Duration::from_hours(1);

/// A certificate with its key, both as PEM. The key is a secret: there is no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    /// The certificate.
    pub(super) certificate: String,
    /// Its private key.
    pub(super) key: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Making one fails.
    #[error("making a certificate")]
    Make(#[from] rcgen::Error),
    /// What is stored is no certificate.
    #[error("the certificate in {place} cannot be read: {cause}")]
    Read {
        /// Secret and key.
        place: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// A new authority.
pub(super) fn authority(now: SystemTime) -> Result<Pair, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("envoy-gateway");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = (now - LEEWAY).into();
    params.not_after = (now + AUTHORITY_LIFETIME).into();
    let key = KeyPair::generate()?;
    Ok(Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// A certificate of `authority` for `names`, for servers and clients.
pub(super) fn signed(authority: &Pair, common: &str, names: &[String], now: SystemTime) -> Result<Pair, Error> {
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = name(common);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - LEEWAY).into();
    // Never beyond the authority's own end.
    let end = expiry(&authority.certificate).map_or(now + LIFETIME, |end| end.min(now + LIFETIME));
    params.not_after = end.into();
    let key = KeyPair::generate()?;
    Ok(Pair { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// When the first certificate of `pem` ends; `None` when there is none that can be read.
pub(super) fn expiry(pem: &str) -> Option<SystemTime> {
    let (_, block) = parse_x509_pem(pem.as_bytes()).ok()?;
    let end = block.parse_x509().ok()?.validity().not_after.timestamp();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(end).ok()?))
}

/// The first certificate of `pem` is for all of these DNS names.
pub(super) fn is_for(pem: &str, names: &[String]) -> bool {
    let Ok((_, block)) = parse_x509_pem(pem.as_bytes()) else { return false };
    let Ok(certificate) = block.parse_x509() else { return false };
    let Ok(Some(known)) = certificate.subject_alternative_name() else { return names.is_empty() };
    names.iter().all(|name| known.value.general_names.contains(&GeneralName::DNSName(name)))
}

/// The certificates of `pem`, one PEM text each.
pub(super) fn split(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = pem.split_inclusive(END).map(str::trim).filter(|block| block.ends_with(END));
    blocks.map(|block| format!("{block}\n")).collect()
}

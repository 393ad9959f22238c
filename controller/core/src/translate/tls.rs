//! Certificates and keys: whether Envoy could use them. What is said about them never quotes them.

use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Whether `chain` and `key`, both PEM, are a certificate and its key. The error is a sentence without its full stop.
pub(super) fn check_pair(chain: &[u8], key: &[u8]) -> Result<(), &'static str> {
    let chain = certificates(chain)?;
    // Envoy reads all of them.
    let parsed: Result<Vec<_>, _> = chain.iter().map(|der| X509Certificate::from_der(der)).collect();
    let parsed = parsed.map_err(|_| "unable to parse certificate in tls.crt")?;
    let (_, leaf) = parsed.first().ok_or("unable to parse certificate in tls.crt")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "unable to decode pem data in tls.key")?;
    let key =
        any_supported_type(&key).map_err(|_| "unable to parse private key in tls.key, or its kind is too weak")?;
    let public = key.public_key().ok_or("the kind of private key in tls.key is not supported")?;
    if public.ends_with(&leaf.public_key().subject_public_key.data) {
        Ok(())
    } else {
        Err("private key does not match public key")
    }
}

/// Whether `bundle` is one or more certificates in PEM. The error is a sentence without its full stop.
pub(super) fn check_authorities(bundle: &[u8]) -> Result<(), &'static str> {
    let parses = |der: &CertificateDer<'_>| X509Certificate::from_der(der).is_ok();
    if certificates(bundle)?.iter().all(parses) { Ok(()) } else { Err("unable to parse certificate") }
}

/// The DNS names that the first certificate of `chain`, PEM, is for.
pub(super) fn dns_names(chain: &[u8]) -> Vec<String> {
    let first = CertificateDer::from_pem_slice(chain).ok();
    let parsed = first.as_ref().and_then(|der| X509Certificate::from_der(der).ok());
    let names = parsed.as_ref().and_then(|(_, leaf)| leaf.subject_alternative_name().ok().flatten());
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_lowercase()),
        _ => None,
    };
    names.into_iter().flat_map(|names| names.value.general_names.iter().filter_map(dns)).collect()
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let decoded: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let decoded = decoded.ok().filter(|decoded| !decoded.is_empty());
    decoded.ok_or("unable to decode pem data for certificate")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};

    use super::*;

    fn pair(key: &KeyPair) -> (String, String) {
        let params = CertificateParams::new(["www.example.com".to_owned()]).unwrap();
        (params.self_signed(key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_key_must_be_that_of_the_certificate() {
        let (chain, key) = pair(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        let (other_chain, other_key) = pair(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
        assert_eq!(check_pair(chain.as_bytes(), key.as_bytes()), Ok(()));
        assert_eq!(check_pair((chain.clone() + &other_chain).as_bytes(), key.as_bytes()), Ok(()));
        let mismatch = Err("private key does not match public key");
        assert_eq!(check_pair(chain.as_bytes(), other_key.as_bytes()), mismatch);
        assert_eq!(check_pair((other_chain + &chain).as_bytes(), key.as_bytes()), mismatch);
    }

    #[test]
    fn what_is_no_pem_is_told_without_quoting_it() {
        let (chain, key) = pair(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        let undecodable = Err("unable to decode pem data for certificate");
        for bad in ["", "Hello world", &key, &chain.replace("MII", "!!!"), &chain.replace("END", "FIN")] {
            assert_eq!(check_pair(bad.as_bytes(), key.as_bytes()), undecodable, "{bad}");
            assert_eq!(check_authorities(bad.as_bytes()), undecodable, "{bad}");
        }
        assert_eq!(check_authorities(chain.as_bytes()), Ok(()));
        assert_eq!(check_pair(chain.as_bytes(), b"Hello"), Err("unable to decode pem data in tls.key"));
        let no_key = "-----BEGIN PRIVATE KEY-----\nSGVsbG8gd29ybGQK\n-----END PRIVATE KEY-----\n";
        assert!(check_pair(chain.as_bytes(), no_key.as_bytes()).is_err());
        let no_certificate = "-----BEGIN CERTIFICATE-----\nSGVsbG8gd29ybGQK\n-----END CERTIFICATE-----\n";
        assert_eq!(check_authorities(no_certificate.as_bytes()), Err("unable to parse certificate"));
        let unparsable = Err("unable to parse certificate in tls.crt");
        assert_eq!(check_pair((chain + no_certificate).as_bytes(), key.as_bytes()), unparsable);
    }
}

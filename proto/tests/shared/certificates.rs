//! Certificates that live as long as a test. The suites of the services have it as a module of their own.

#![allow(dead_code, reason = "no suite uses all of it")]

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// For servers and clients called `name`.
    pub(crate) fn issue(&self, name: &str) -> Pair {
        self.sign(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    /// For a client with that URI.
    pub(crate) fn issue_uri(&self, uri: &str) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        self.sign(params)
    }

    /// It ended some years ago.
    pub(crate) fn issue_expired(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Pair {
        // OpenSSL takes a certificate with its authority's name for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, "a server or client");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }
}

impl Pair {
    /// Writes `tls.crt`, `tls.key` and the authority's `ca.crt`, as a secret has them, and returns their paths.
    pub(crate) fn write(&self, dir: &Path, authority: &Authority) -> [PathBuf; 3] {
        let files = [("tls.crt", &self.cert), ("tls.key", &self.key), ("ca.crt", &authority.pem())];
        files.map(|(name, pem)| {
            fs::write(dir.join(name), pem).unwrap();
            dir.join(name)
        })
    }
}

//! Secrets: certificates and authorities, which Envoy asks for by name.

use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, SdsSecretConfig, Secret, TlsCertificate, secret::Type,
    },
};

use super::{Resources, value::ads_without_deadline};
use crate::ir::{Certificate, Termination};

/// How to ask for the secret `name`.
pub(crate) fn reference(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(ads_without_deadline()) }
}

/// The secrets that a listener's TLS needs.
pub(crate) fn add(resources: &mut Resources, tls: &Termination) {
    for certificate in &tls.certificates {
        resources.add(&pair(certificate));
    }
    if let Some(client) = &tls.client {
        resources.add(&authorities(&client.name, &client.authorities));
    }
}

/// A certificate and its key.
pub(crate) fn pair(certificate: &Certificate) -> Secret {
    let pair = TlsCertificate {
        certificate_chain: Some(inline(&certificate.chain)),
        private_key: Some(inline(&certificate.key)),
        ..Default::default()
    };
    Secret { name: certificate.name.clone(), r#type: Some(Type::TlsCertificate(pair)) }
}

/// Authorities that are believed.
pub(crate) fn authorities(name: &str, bundle: &[u8]) -> Secret {
    let context = CertificateValidationContext { trusted_ca: Some(inline(bundle)), ..Default::default() };
    Secret { name: name.to_owned(), r#type: Some(Type::ValidationContext(context)) }
}

/// Those in a file of the proxies' containers.
pub(crate) fn authorities_file(name: &str, file: &str) -> Secret {
    let file = DataSource { specifier: Some(Specifier::Filename(file.to_owned())), ..Default::default() };
    let context = CertificateValidationContext { trusted_ca: Some(file), ..Default::default() };
    Secret { name: name.to_owned(), r#type: Some(Type::ValidationContext(context)) }
}

fn inline(bytes: &[u8]) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())), ..Default::default() }
}

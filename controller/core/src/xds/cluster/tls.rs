//! TLS towards the hosts of a cluster.
//!
//! Each backend has its own socket, which its endpoints choose by metadata. Where all of them speak TLS the cluster's
//! default is one that reaches nobody, so that no request leaves in clear text by mistake.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{Cluster, cluster::TransportSocketMatch},
            core::v3::{Metadata, TransportSocket, transport_socket::ConfigType},
        },
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
            common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
            subject_alt_name_matcher::SanType,
            tls_parameters::TlsProtocol,
        },
    },
    google::protobuf::Struct,
};

use crate::{
    ir::{Authorities, Backend, BackendTls, Certificate, ServerName, SubjectAltName},
    xds::{Resources, matcher::exact, metadata::structure, secret, service::SYSTEM_CA_FILE, value::any},
};

/// The secret with them.
const SYSTEM_CA: &str = "system_ca_certificates";
/// The metadata by which an endpoint chooses its socket.
const MATCH: &str = "envoy.transport_socket_match";

/// Whether every backend is spoken to over TLS.
pub(super) fn is_everywhere(backends: &[&Backend]) -> bool {
    !backends.is_empty() && backends.iter().all(|backend| backend.tls.is_some())
}

/// Gives `cluster` the sockets that its backends need. `own` is the certificate that the Gateway shows backends.
pub(super) fn apply(
    cluster: &mut Cluster,
    backends: &[&Backend],
    own: Option<&Certificate>,
    resources: &mut Resources,
) {
    for backend in backends {
        let Some(tls) = &backend.tls else { continue };
        let name = socket_name(backend);
        add_secrets(tls, own, resources);
        cluster.transport_socket_matches.push(TransportSocketMatch {
            r#match: Some(structure([("name", name.as_str())])),
            transport_socket: Some(socket("envoy.transport_sockets.tls", &context(tls, own))),
            name,
        });
    }
    if is_everywhere(backends) {
        let nobody = UpstreamTlsContext { common_tls_context: Some(CommonTlsContext::default()), ..Default::default() };
        cluster.transport_socket = Some(socket("dummy.transport_socket", &nobody));
    }
}

/// The metadata of a backend's endpoints; none without TLS.
pub(crate) fn endpoint_metadata(backend: &Backend) -> Option<Metadata> {
    backend.tls.as_ref()?;
    let chosen: Struct = structure([("name", socket_name(backend).as_str())]);
    Some(Metadata { filter_metadata: HashMap::from([(MATCH.to_owned(), chosen)]), ..Default::default() })
}

/// `<destination>/tls/<index of the backendRef>`.
fn socket_name(backend: &Backend) -> String {
    backend.name.replacen("/backend/", "/tls/", 1)
}

fn socket(name: &str, context: &UpstreamTlsContext) -> TransportSocket {
    TransportSocket { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(any(context))) }
}

fn context(tls: &BackendTls, own: Option<&Certificate>) -> UpstreamTlsContext {
    let shown = tls.client_certificate.as_ref().or(own);
    let common = CommonTlsContext {
        tls_params: Some(parameters(tls)),
        alpn_protocols: tls.alpn.clone().unwrap_or_default(),
        tls_certificate_sds_secret_configs: shown.map(|shown| secret::reference(&shown.name)).into_iter().collect(),
        validation_context_type: tls.authorities.as_ref().map(|authorities| validation(tls, authorities)),
        ..Default::default()
    };
    UpstreamTlsContext {
        sni: match &tls.server_name {
            ServerName::Fixed(name) => name.clone(),
            ServerName::OfRequest | ServerName::OfEndpoint => String::new(),
        },
        auto_host_sni: tls.server_name == ServerName::OfEndpoint,
        auto_sni_san_validation: tls.authorities.is_some() && tls.subject_alt_names.is_empty(),
        common_tls_context: Some(common),
        ..Default::default()
    }
}

fn parameters(tls: &BackendTls) -> TlsParameters {
    let version = |version: Option<u8>, default| match version {
        Some(10) => TlsProtocol::TlSv10,
        Some(11) => TlsProtocol::TlSv11,
        Some(12) => TlsProtocol::TlSv12,
        Some(13) => TlsProtocol::TlSv13,
        _ => default,
    };
    let newest = version(tls.max_version, TlsProtocol::TlSv13);
    let oldest = version(tls.min_version, TlsProtocol::TlSv12);
    TlsParameters {
        // A limit from above alone must not leave nothing.
        tls_minimum_protocol_version: (oldest as i32).min(newest as i32),
        tls_maximum_protocol_version: newest.into(),
        cipher_suites: tls.ciphers.clone(),
        ecdh_curves: tls.ecdh_curves.clone(),
        signature_algorithms: tls.signature_algorithms.clone(),
        ..Default::default()
    }
}

fn validation(tls: &BackendTls, authorities: &Authorities) -> ValidationContextType {
    let matcher = |kind: SanType, name: &str| SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(exact(name)),
        ..Default::default()
    };
    let names = tls.subject_alt_names.iter().map(|name| match name {
        SubjectAltName::Dns(name) => matcher(SanType::Dns, name),
        SubjectAltName::Uri(name) => matcher(SanType::Uri, name),
    });
    let default = CertificateValidationContext { match_typed_subject_alt_names: names.collect(), ..Default::default() };
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(default),
        validation_context_sds_secret_config: Some(secret::reference(authorities_name(authorities))),
        ..Default::default()
    })
}

fn authorities_name(authorities: &Authorities) -> &str {
    match authorities {
        Authorities::System => SYSTEM_CA,
        Authorities::Bundle { name, .. } => name,
    }
}

fn add_secrets(tls: &BackendTls, own: Option<&Certificate>, resources: &mut Resources) {
    match &tls.authorities {
        Some(Authorities::System) => resources.add(&secret::authorities_file(SYSTEM_CA, SYSTEM_CA_FILE)),
        Some(Authorities::Bundle { name, pem }) => resources.add(&secret::authorities(name, pem)),
        None => {}
    }
    if let Some(certificate) = tls.client_certificate.as_ref().or(own) {
        resources.add(&secret::pair(certificate));
    }
}

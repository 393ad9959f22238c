//! TLS of clients: which chain a connection takes, and how its TLS ends.

use envoy_types::pb::envoy::{
    config::{
        core::v3::{TransportSocket, transport_socket},
        listener::v3::{FilterChainMatch, ListenerFilter, listener_filter::ConfigType},
    },
    extensions::{
        filters::listener::tls_inspector::v3::TlsInspector,
        transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, DownstreamTlsContext,
            certificate_validation_context::TrustChainVerification,
            common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
            downstream_tls_context::SessionTicketKeysType,
        },
    },
};

use crate::{
    ir::{ClientValidation, Termination},
    xds::{
        secret,
        value::{any, boolean},
    },
};

/// Takes the connections that ask for one of `names`; without names, those that no other chain takes.
pub(in crate::xds) fn matching(names: &[String]) -> Option<FilterChainMatch> {
    (!names.is_empty()).then(|| FilterChainMatch { server_names: names.to_vec(), ..Default::default() })
}

/// Reads the name that a client asks for before a chain is chosen.
pub(in crate::xds) fn inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".into(),
        config_type: Some(ConfigType::TypedConfig(any(&TlsInspector::default()))),
        ..Default::default()
    }
}

/// Ends TLS. Sessions are not resumed, so that each connection is judged by its own handshake.
pub(in crate::xds) fn termination(tls: &Termination) -> TransportSocket {
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: tls
                .certificates
                .iter()
                .map(|one| secret::reference(&one.name))
                .collect(),
            alpn_protocols: tls.alpn.clone(),
            validation_context_type: tls.client.as_ref().map(validation),
            ..Default::default()
        }),
        require_client_certificate: tls.client.as_ref().and_then(|client| boolean(!client.optional)),
        disable_stateful_session_resumption: true,
        session_ticket_keys_type: Some(SessionTicketKeysType::DisableStatelessSessionResumption(true)),
        ..Default::default()
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
    }
}

fn validation(client: &ClientValidation) -> ValidationContextType {
    let authorities = secret::reference(&client.name);
    if !client.optional {
        return ValidationContextType::ValidationContextSdsSecretConfig(authorities);
    }
    let lenient = CertificateValidationContext {
        trust_chain_verification: TrustChainVerification::AcceptUntrusted.into(),
        ..Default::default()
    };
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(lenient),
        validation_context_sds_secret_config: Some(authorities),
        ..Default::default()
    })
}

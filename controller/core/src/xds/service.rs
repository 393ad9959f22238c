//! Clusters of Tollgate's own gRPC services, which filters ask about requests.

use std::net::IpAddr;

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType},
        },
        core::v3::{Address, DataSource, Locality, TransportSocket, data_source, transport_socket},
        endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints},
    },
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, CommonTlsContext, SdsSecretConfig, SubjectAltNameMatcher, TlsParameters,
        UpstreamTlsContext, common_tls_context::ValidationContextType, subject_alt_name_matcher::SanType,
        tls_parameters::TlsProtocol,
    },
};

use super::{
    Resources, cluster,
    endpoint::lb_endpoint,
    matcher::exact,
    value::{ads_without_deadline, any, pipe, socket_address, uint32},
};
use crate::{ServiceAddress, Settings};

/// Where the proxies' containers hold the certificate authority of the control plane.
const CA_FILE: &str = "/certs/ca.crt";

/// Where the proxies' containers hold the authorities of the system.
pub(super) const SYSTEM_CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The cluster `name` for a service at `address`, over HTTP/2.
pub(crate) fn add(resources: &mut Resources, name: &str, address: &ServiceAddress, settings: &Settings) {
    let plain = Cluster { typed_extension_protocol_options: cluster::http2(), ..cluster::named(name) };
    let cluster = match address {
        ServiceAddress::Dns { host, port } => {
            let tls = Cluster { transport_socket: Some(mutual_tls(&settings.namespace)), ..plain };
            cluster::with_dns(tls, assignment(name, socket_address(host, *port)))
        }
        ServiceAddress::Ip(ip, port) => fixed(plain, assignment(name, socket_address(&ip.to_string(), *port))),
        ServiceAddress::Unix(path) => fixed(plain, assignment(name, pipe(path))),
    };
    resources.add(&cluster);
}

fn fixed(mut cluster: Cluster, assignment: ClusterLoadAssignment) -> Cluster {
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
    cluster.load_assignment = Some(assignment);
    cluster
}

fn assignment(cluster: &str, address: Address) -> ClusterLoadAssignment {
    let locality = LocalityLbEndpoints {
        locality: Some(Locality { region: format!("{cluster}/backend/-1"), ..Default::default() }),
        lb_endpoints: vec![lb_endpoint(address)],
        load_balancing_weight: uint32(1),
        ..Default::default()
    };
    ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints: vec![locality], ..Default::default() }
}

/// The proxy shows the certificate that is served to it as `<namespace>/envoy`.
fn mutual_tls(namespace: &str) -> TransportSocket {
    let certificate = SdsSecretConfig { name: format!("{namespace}/envoy"), sds_config: Some(ads_without_deadline()) };
    let authority =
        DataSource { specifier: Some(data_source::Specifier::Filename(CA_FILE.into())), ..Default::default() };
    let trusted = CertificateValidationContext { trusted_ca: Some(authority), ..Default::default() };
    tls(certificate, ValidationContextType::ValidationContext(trusted))
}

/// TLS to a site whose certificate the system's authorities vouch for.
pub(super) fn site_tls(server_name: &str) -> TransportSocket {
    let authorities =
        DataSource { specifier: Some(data_source::Specifier::Filename(SYSTEM_CA_FILE.into())), ..Default::default() };
    let mut trusted = CertificateValidationContext { trusted_ca: Some(authorities), ..Default::default() };
    // Envoy sends no address as SNI, and compares no certificate with one by itself.
    let name = server_name.trim_matches(['[', ']']);
    let (sni, kind) = match name.parse::<IpAddr>() {
        Ok(_) => (String::new(), SanType::IpAddress),
        Err(_) => (name.to_owned(), SanType::Dns),
    };
    trusted.match_typed_subject_alt_names =
        vec![SubjectAltNameMatcher { san_type: kind.into(), matcher: Some(exact(name)), ..Default::default() }];
    let context = UpstreamTlsContext {
        sni,
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(newest()),
            validation_context_type: Some(ValidationContextType::ValidationContext(trusted)),
            ..Default::default()
        }),
        ..Default::default()
    };
    socket(&context)
}

fn newest() -> TlsParameters {
    TlsParameters { tls_maximum_protocol_version: TlsProtocol::TlSv13.into(), ..Default::default() }
}

fn socket(context: &UpstreamTlsContext) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(context))),
    }
}

/// TLS 1.3 at most, with a certificate of our own if there is one.
pub(super) fn tls(
    certificate: impl Into<Option<SdsSecretConfig>>,
    validation: ValidationContextType,
) -> TransportSocket {
    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(newest()),
            tls_certificate_sds_secret_configs: certificate.into().into_iter().collect(),
            validation_context_type: Some(validation),
            ..Default::default()
        }),
        ..Default::default()
    };
    socket(&context)
}

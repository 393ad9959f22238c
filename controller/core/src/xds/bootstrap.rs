//! What Envoy is started with; all else comes over xDS.

use envoy_types::pb::{
    envoy::{
        config::{
            bootstrap::v3::{
                Admin, Bootstrap, LayeredRuntime, RuntimeLayer,
                bootstrap::{DeferredStatOptions, DynamicResources, StaticResources},
                runtime_layer::LayerSpecifier,
            },
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            core::v3::{
                Address, ApiConfigSource, ApiVersion, ConfigSource, GrpcService, PathConfigSource,
                api_config_source::ApiType,
                config_source::ConfigSourceSpecifier,
                grpc_service::{EnvoyGrpc, TargetSpecifier},
            },
            endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints},
            overload::v3::{OverloadManager, ResourceMonitor, resource_monitor},
        },
        extensions::{
            resource_monitors::downstream_connections::v3::DownstreamConnectionsConfig,
            transport_sockets::tls::v3::{SdsSecretConfig, common_tls_context::ValidationContextType},
        },
    },
    google::protobuf::{Struct, Value, value::Kind},
};

use super::{
    cluster,
    endpoint::{self, lb_endpoint},
    service,
    value::{ads_without_deadline, any, millis, pipe, socket_address},
};
use crate::{ServiceAddress, ir::Endpoint};

mod pod;

pub use pod::{Options, in_pod};

/// The static cluster that the configuration comes from.
pub const XDS_CLUSTER: &str = "xds_cluster";
const MAX_DOWNSTREAM_CONNECTIONS: i64 = 50_000;
/// Files of the proxies' containers that tell Envoy where its certificate and its authorities are.
const CERTIFICATE_FILE: &str = "/sds/xds-certificate.json";
const TRUSTED_CA_FILE: &str = "/sds/xds-trusted-ca.json";

/// A bootstrap for an Envoy that gets everything from the control plane at `xds` and serves its admin interface at `admin`.
///
/// Its node id and cluster are given on the command line: `--service-node` and `--service-cluster`.
pub fn bootstrap(xds: &ServiceAddress, admin: &Endpoint) -> Bootstrap {
    Bootstrap {
        admin: Some(Admin { address: Some(endpoint::address(admin)), ..Default::default() }),
        dynamic_resources: Some(DynamicResources {
            ads_config: Some(delta_ads()),
            lds_config: Some(ads_without_deadline()),
            cds_config: Some(ads_without_deadline()),
            ..Default::default()
        }),
        static_resources: Some(StaticResources { clusters: vec![control_plane(xds)], ..Default::default() }),
        layered_runtime: Some(runtime()),
        overload_manager: Some(overload_manager()),
        deferred_stat_options: Some(DeferredStatOptions { enable_deferred_creation_stats: true }),
        ..Default::default()
    }
}

fn delta_ads() -> ApiConfigSource {
    let target = EnvoyGrpc { cluster_name: XDS_CLUSTER.into(), ..Default::default() };
    ApiConfigSource {
        api_type: ApiType::DeltaGrpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        set_node_on_first_message_only: true,
        grpc_services: vec![GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(target)),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// In clear text on this machine, with mutual TLS to a Kubernetes Service. Keepalive finds out that a peer has vanished.
fn control_plane(xds: &ServiceAddress) -> Cluster {
    let mut cluster = Cluster {
        name: XDS_CLUSTER.into(),
        connect_timeout: Some(millis(10_000)),
        typed_extension_protocol_options: cluster::http2_with_keepalive(),
        ..Default::default()
    };
    let (discovery, address) = match xds {
        ServiceAddress::Dns { host, port } => {
            cluster.transport_socket = Some(mutual_tls());
            (DiscoveryType::StrictDns, socket_address(host, *port))
        }
        ServiceAddress::Ip(ip, port) => (DiscoveryType::Static, socket_address(&ip.to_string(), *port)),
        ServiceAddress::Unix(path) => (DiscoveryType::Static, pipe(path)),
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(discovery.into()));
    cluster.load_assignment = Some(assignment(address));
    cluster
}

fn assignment(address: Address) -> ClusterLoadAssignment {
    let locality = LocalityLbEndpoints { lb_endpoints: vec![lb_endpoint(address)], ..Default::default() };
    ClusterLoadAssignment { cluster_name: XDS_CLUSTER.into(), endpoints: vec![locality], ..Default::default() }
}

fn mutual_tls() -> envoy_types::pb::envoy::config::core::v3::TransportSocket {
    service::tls(secret("xds_certificate", CERTIFICATE_FILE), authorities())
}

fn authorities() -> ValidationContextType {
    ValidationContextType::ValidationContextSdsSecretConfig(secret("xds_trusted_ca", TRUSTED_CA_FILE))
}

/// A secret that Envoy reads from a file, again whenever it changes.
fn secret(name: &str, path: &str) -> SdsSecretConfig {
    let path = PathConfigSource { path: path.into(), ..Default::default() };
    let source = ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::PathConfigSource(path)),
        resource_api_version: ApiVersion::V3.into(),
        ..Default::default()
    };
    SdsSecretConfig { name: name.into(), sds_config: Some(source) }
}

/// Lets a regular expression be as large as RE2 compiles: by default Envoy refuses, with the route, the whole listener.
fn runtime() -> LayeredRuntime {
    let number = |value| Value { kind: Some(Kind::NumberValue(value)) };
    let fields =
        [("re2.max_program_size.error_level", f64::from(u32::MAX)), ("re2.max_program_size.warn_level", 1000.0)];
    let layer = Struct { fields: fields.map(|(key, value)| (key.to_owned(), number(value))).into() };
    let layer =
        RuntimeLayer { name: "global_config".into(), layer_specifier: Some(LayerSpecifier::StaticLayer(layer)) };
    LayeredRuntime { layers: vec![layer] }
}

fn overload_manager() -> OverloadManager {
    let connections = DownstreamConnectionsConfig { max_active_downstream_connections: MAX_DOWNSTREAM_CONNECTIONS };
    OverloadManager {
        resource_monitors: vec![ResourceMonitor {
            name: "envoy.resource_monitors.global_downstream_max_connections".into(),
            config_type: Some(resource_monitor::ConfigType::TypedConfig(any(&connections))),
        }],
        ..Default::default()
    }
}

//! Asks a real Envoy whether it takes what was built.

#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use controller_core::{
    ServiceAddress,
    ir::Endpoint,
    xds::{Resources, bootstrap, name::INVALID_BACKEND_CLUSTER},
};
use envoy_types::pb::{
    envoy::{
        config::{
            bootstrap::v3::Bootstrap,
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            core::v3::{Node, transport_socket},
            endpoint::v3::ClusterLoadAssignment,
            listener::v3::{Listener, filter::ConfigType},
            route::v3::RouteConfiguration,
        },
        extensions::{
            filters::network::http_connection_manager::v3::{
                HttpConnectionManager, http_connection_manager::RouteSpecifier,
            },
            transport_sockets::tls::v3::{
                CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext, common_tls_context::ValidationContextType,
            },
        },
    },
    google::protobuf::Any,
};
use prost::{Message, Name};

/// The Envoy to test with: `$ENVOY`, `envoy` on the path, or what `make tools` has put into `.tools`.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ENVOY") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file());
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/envoy");
    installed.or_else(|| fetched.is_file().then_some(fetched)).expect("no Envoy: set ENVOY, or run make")
}

/// Panics with Envoy's own words unless it accepts all of `resources`.
pub(crate) fn validate(resources: &Resources) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap.pb");
    std::fs::write(&file, static_bootstrap(resources).encode_to_vec()).unwrap();
    let output = Command::new(binary())
        .args(["--mode", "validate", "--disable-hot-restart", "--log-level", "error", "--config-path"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The same resources without a control plane: what Envoy would fetch stands where it is referred to.
pub(crate) fn static_bootstrap(resources: &Resources) -> Bootstrap {
    let routes: Vec<RouteConfiguration> = resources.messages().unwrap();
    let endpoints: Vec<ClusterLoadAssignment> = resources.messages().unwrap();
    let listeners: Vec<Listener> = resources.messages().unwrap();
    let clusters: Vec<Cluster> = resources.messages().unwrap();
    let missing = Cluster {
        name: INVALID_BACKEND_CLUSTER.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        ..Default::default()
    };
    let (xds, admin) = (ServiceAddress::Unix("xds.sock".into()), Endpoint::Unix("admin.sock".into()));
    let mut bootstrap = bootstrap::bootstrap(&xds, &admin);
    bootstrap.node = Some(Node { id: "test".into(), cluster: "test".into(), ..Default::default() });
    let fixed = bootstrap.static_resources.get_or_insert_default();
    fixed.listeners.extend(listeners.into_iter().map(|listener| with_routes(listener, &routes)));
    fixed.clusters.extend(clusters.into_iter().map(|cluster| with_endpoints(cluster, &endpoints)).chain([missing]));
    fixed.secrets = resources.messages().unwrap();
    bootstrap
}

fn with_routes(mut listener: Listener, routes: &[RouteConfiguration]) -> Listener {
    for chain in listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain) {
        if let Some(transport_socket::ConfigType::TypedConfig(any)) =
            chain.transport_socket.as_mut().and_then(|socket| socket.config_type.as_mut())
        {
            with_secrets(any);
        }
        for filter in &mut chain.filters {
            let Some(ConfigType::TypedConfig(any)) = &mut filter.config_type else { continue };
            if any.type_url != HttpConnectionManager::type_url() {
                continue;
            }
            let mut manager = HttpConnectionManager::decode(any.value.as_slice()).unwrap();
            if let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier {
                let configuration = routes.iter().find(|routes| routes.name == rds.route_config_name);
                let configuration = configuration.expect("a listener without routes").clone();
                manager.route_specifier = Some(RouteSpecifier::RouteConfig(configuration));
            }
            *any = Any { type_url: HttpConnectionManager::type_url(), value: manager.encode_to_vec() };
        }
    }
    listener
}

/// Secrets without a source are those of the bootstrap.
fn with_secrets(any: &mut Any) {
    let mut context = DownstreamTlsContext::decode(any.value.as_slice()).unwrap();
    fix_secrets(context.common_tls_context.as_mut().unwrap());
    any.value = context.encode_to_vec();
}

fn fix_secrets(common: &mut CommonTlsContext) {
    for certificate in &mut common.tls_certificate_sds_secret_configs {
        certificate.sds_config = None;
    }
    match &mut common.validation_context_type {
        Some(ValidationContextType::ValidationContextSdsSecretConfig(sds)) => sds.sds_config = None,
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            combined.validation_context_sds_secret_config.as_mut().unwrap().sds_config = None;
        }
        _ => {}
    }
}

fn with_endpoints(mut cluster: Cluster, endpoints: &[ClusterLoadAssignment]) -> Cluster {
    if let Some(eds) = cluster.eds_cluster_config.take() {
        let assignment = endpoints.iter().find(|assignment| assignment.cluster_name == eds.service_name);
        cluster.load_assignment = Some(assignment.expect("an EDS cluster without endpoints").clone());
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
    }
    for one in &mut cluster.transport_socket_matches {
        let socket = one.transport_socket.as_mut().unwrap();
        if let Some(transport_socket::ConfigType::TypedConfig(any)) = &mut socket.config_type {
            let mut context = UpstreamTlsContext::decode(any.value.as_slice()).unwrap();
            fix_secrets(context.common_tls_context.as_mut().unwrap());
            any.value = context.encode_to_vec();
        }
    }
    if let Some(transport_socket::ConfigType::TypedConfig(any)) =
        cluster.transport_socket.as_mut().and_then(|socket| socket.config_type.as_mut())
    {
        let mut context = UpstreamTlsContext::decode(any.value.as_slice()).unwrap();
        let common = context.common_tls_context.as_mut().unwrap();
        // The certificate authority lies in a file that only the proxies' containers have.
        common.validation_context_type = None;
        any.value = context.encode_to_vec();
    }
    cluster
}

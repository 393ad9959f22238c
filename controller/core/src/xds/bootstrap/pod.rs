//! What the Envoys of a pod have beside their control plane: statistics for Prometheus, a bound on the heap, and
//! a token that says which fleet they are of.

use envoy_types::pb::envoy::{
    config::{
        bootstrap::v3::Bootstrap,
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType},
        },
        core::v3::{Http2ProtocolOptions, KeepaliveSettings},
        endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints},
        listener::v3::{FilterChain, Listener},
        overload::v3::{
            OverloadAction, ResourceMonitor, ThresholdTrigger, Trigger, resource_monitor, trigger::TriggerOneof,
        },
        route::v3::{
            HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
            header_matcher::HeaderMatchSpecifier, route::Action, route_action::ClusterSpecifier,
            route_match::PathSpecifier,
        },
    },
    extensions::{
        filters::{
            http::{credential_injector::v3::CredentialInjector, upstream_codec::v3::UpstreamCodec},
            network::http_connection_manager::v3::{HttpConnectionManager, http_connection_manager::RouteSpecifier},
        },
        http::injected_credentials::generic::v3::Generic,
        resource_monitors::fixed_heap::v3::FixedHeapConfig,
        upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
            },
        },
    },
};

use super::{XDS_CLUSTER, authorities, bootstrap, secret};
use crate::{
    Credentials, ServiceAddress,
    ir::Endpoint,
    xds::{
        endpoint::{self, lb_endpoint},
        filter,
        listener::network_filter,
        matcher::exact,
        service,
        value::{any, boolean, extension, millis, socket_address},
    },
};

const STATISTICS: &str = "prometheus_stats";
const STATISTICS_PORT: u16 = 19001;
const HEAP_MONITOR: &str = "envoy.resource_monitors.fixed_heap";
/// Secret that holds the token of the pod's ServiceAccount.
const TOKEN: &str = "jwt-sa-bearer";
const TOKEN_FILE: &str = "/sds/xds-service-account-token.json";

/// What a fleet's Envoys have beside their control plane.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `GET /stats/prometheus` on port 19001.
    pub statistics: bool,
    /// The heap that Envoy must not outgrow, in bytes: near it memory is given back, and then requests are refused.
    pub max_heap_bytes: Option<u64>,
    /// How Envoy shows the control plane who it is.
    pub credentials: Credentials,
}

/// The bootstrap of an Envoy in a pod.
pub fn in_pod(xds: &ServiceAddress, admin: &Endpoint, options: &Options) -> Bootstrap {
    let mut bootstrap = bootstrap(xds, admin);
    if options.statistics {
        let resources = bootstrap.static_resources.get_or_insert_default();
        resources.listeners.push(statistics_listener());
        resources.clusters.insert(0, statistics_cluster(admin));
    }
    if let Some(bytes) = options.max_heap_bytes {
        let manager = bootstrap.overload_manager.get_or_insert_default();
        let config = FixedHeapConfig { max_heap_size_bytes: bytes, ..Default::default() };
        manager.resource_monitors.push(ResourceMonitor {
            name: HEAP_MONITOR.into(),
            config_type: Some(resource_monitor::ConfigType::TypedConfig(any(&config))),
        });
        manager.actions = vec![overload_action("shrink_heap", 0.95), overload_action("stop_accepting_requests", 0.98)];
    }
    if options.credentials.has_token() {
        let clusters = bootstrap.static_resources.iter_mut().flat_map(|resources| &mut resources.clusters);
        for cluster in clusters.filter(|cluster| cluster.name == XDS_CLUSTER) {
            let http2 = any(&http2_with_token());
            cluster.typed_extension_protocol_options = [(PROTOCOL_OPTIONS.to_owned(), http2)].into();
            if !options.credentials.has_certificate() {
                cluster.transport_socket = Some(service::tls(None, authorities()));
            }
        }
    }
    bootstrap
}

const PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Nothing but the statistics passes from outside to the admin interface.
fn statistics_listener() -> Listener {
    let method = HeaderMatcher {
        name: ":method".into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exact("GET"))),
        ..Default::default()
    };
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Path("/stats/prometheus".into())),
            headers: vec![method],
            ..Default::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(STATISTICS.into())),
            ..Default::default()
        })),
        ..Default::default()
    };
    let host =
        VirtualHost { name: STATISTICS.into(), domains: vec!["*".into()], routes: vec![route], ..Default::default() };
    let routes = RouteConfiguration { name: "local_route".into(), virtual_hosts: vec![host], ..Default::default() };
    let manager = HttpConnectionManager {
        stat_prefix: "eg-stats-http".into(),
        normalize_path: boolean(true),
        route_specifier: Some(RouteSpecifier::RouteConfig(routes)),
        http_filters: vec![filter::router()],
        ..Default::default()
    };
    Listener {
        name: format!("envoy-gateway-proxy-stats-0.0.0.0-{STATISTICS_PORT}"),
        address: Some(socket_address("0.0.0.0", STATISTICS_PORT)),
        bypass_overload_manager: true,
        filter_chains: vec![FilterChain { filters: vec![network_filter(&manager)], ..Default::default() }],
        ..Default::default()
    }
}

fn statistics_cluster(admin: &Endpoint) -> Cluster {
    let locality =
        LocalityLbEndpoints { lb_endpoints: vec![lb_endpoint(endpoint::address(admin))], ..Default::default() };
    Cluster {
        name: STATISTICS.into(),
        connect_timeout: Some(millis(250)),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: STATISTICS.into(),
            endpoints: vec![locality],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn overload_action(name: &str, threshold: f64) -> OverloadAction {
    let trigger = TriggerOneof::Threshold(ThresholdTrigger { value: threshold });
    OverloadAction {
        name: format!("envoy.overload_actions.{name}"),
        triggers: vec![Trigger { name: HEAP_MONITOR.into(), trigger_oneof: Some(trigger) }],
        ..Default::default()
    }
}

/// HTTP/2 with keepalive, and the token in each request's `authorization`.
fn http2_with_token() -> HttpProtocolOptions {
    let credential = Some(secret(TOKEN, TOKEN_FILE));
    let generic = Generic { credential, header_value_prefix: "Bearer ".into(), ..Default::default() };
    let injector = CredentialInjector {
        overwrite: true,
        credential: Some(extension("envoy.http.injected_credentials.generic", &generic)),
        ..Default::default()
    };
    let keepalive =
        KeepaliveSettings { interval: Some(millis(30_000)), timeout: Some(millis(5_000)), ..Default::default() };
    let http2 = Http2ProtocolOptions { connection_keepalive: Some(keepalive), ..Default::default() };
    let explicit = ExplicitHttpConfig { protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2)) };
    HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        http_filters: vec![
            filter::enabled("envoy.filters.http.credential_injector", &injector),
            filter::enabled("envoy.filters.http.upstream_codec", &UpstreamCodec {}),
        ],
        ..Default::default()
    }
}

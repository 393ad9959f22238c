//! Envoy listeners: one for each port, however many listeners of the Gateway share it.

use std::net::IpAddr;

use envoy_types::pb::envoy::{
    config::{
        core::v3::{HttpProtocolOptions, http_protocol_options::HeadersWithUnderscoresAction},
        listener::v3::{Filter, FilterChain, Listener, filter::ConfigType},
    },
    extensions::filters::network::http_connection_manager::v3::{
        HttpConnectionManager, HttpFilter, Rds,
        http_connection_manager::{PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation},
    },
};

use super::{
    access_log, cluster, filter, name,
    value::{ads_without_deadline, any, boolean, socket_address, uint32},
};
use crate::{
    Settings,
    ir::{HttpListener, HttpRoute, Proxy},
};

const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const BUFFER_LIMIT_BYTES: u32 = 32_768;
const MAX_CONCURRENT_STREAMS: u32 = 100;

/// The HTTP listeners of a Gateway that share a port, hence a socket, a filter chain and a route configuration.
pub(crate) struct Port<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) settings: &'a Settings,
    /// Never empty.
    pub(crate) listeners: Vec<&'a HttpListener>,
    address: IpAddr,
    number: u16,
    name: &'a str,
}

impl<'a> Port<'a> {
    /// The ports of `proxy` in the order of its listeners.
    pub(crate) fn all(proxy: &'a Proxy, settings: &'a Settings) -> Vec<Self> {
        let mut ports: Vec<Self> = Vec::new();
        for listener in &proxy.http {
            let (address, number) = (listener.address, listener.port);
            if let Some(known) = ports.iter_mut().find(|known| (known.address, known.number) == (address, number)) {
                known.listeners.push(listener);
            } else {
                let name = &listener.name;
                ports.push(Self { proxy, settings, listeners: vec![listener], address, number, name });
            }
        }
        ports
    }

    /// Name of the Envoy listener and of its route configuration: the first listener's.
    pub(crate) fn name(&self) -> &'a str {
        self.name
    }

    /// Every route on the port.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &'a HttpRoute> {
        self.listeners.iter().flat_map(|listener| &listener.routes)
    }
}

/// The Envoy listener of a port.
pub(crate) fn listener(port: &Port<'_>) -> Listener {
    let log = port.settings.access_log.as_deref();
    let chain = FilterChain {
        name: port.name().to_owned(),
        filters: vec![network_filter(&connection_manager(port))],
        ..Default::default()
    };
    Listener {
        name: port.name().to_owned(),
        address: Some(socket_address(&port.address.to_string(), port.number)),
        access_log: log.map(access_log::unrouted_connections).into_iter().collect(),
        default_filter_chain: Some(chain),
        per_connection_buffer_limit_bytes: uint32(BUFFER_LIMIT_BYTES),
        max_connections_to_accept_per_socket_event: uint32(1),
        ..Default::default()
    }
}

/// The connection manager as the one network filter of a chain.
pub(crate) fn network_filter(manager: &HttpConnectionManager) -> Filter {
    Filter { name: CONNECTION_MANAGER.into(), config_type: Some(ConfigType::TypedConfig(any(manager))) }
}

fn connection_manager(port: &Port<'_>) -> HttpConnectionManager {
    let log = port.settings.access_log.as_deref();
    let mut http2 = cluster::http2_windows();
    http2.max_concurrent_streams = uint32(MAX_CONCURRENT_STREAMS);
    HttpConnectionManager {
        stat_prefix: name::http_stat_prefix(port.number),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads_without_deadline()),
            route_config_name: port.name().to_owned(),
        })),
        http_filters: http_filters(port),
        access_log: log.map(access_log::requests).into_iter().collect(),
        // The client's address is what routes, limits and rules decide by, so only its connection is believed.
        use_remote_address: boolean(true),
        // One spelling of each path, or a rule on `/admin` could be passed by as `//admin` or `/%2fadmin`.
        normalize_path: boolean(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::UnescapeAndRedirect.into(),
        common_http_protocol_options: Some(HttpProtocolOptions {
            // Many backends read `_` as `-`, so a client could forge a header that a filter has vetted.
            headers_with_underscores_action: HeadersWithUnderscoresAction::RejectRequest.into(),
            ..Default::default()
        }),
        http2_protocol_options: Some(http2),
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        ..Default::default()
    }
}

fn http_filters(port: &Port<'_>) -> Vec<HttpFilter> {
    filter::FILTERS.iter().flat_map(|filter| filter.chain(port)).collect()
}

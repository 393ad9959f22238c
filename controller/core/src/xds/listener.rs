//! Envoy listeners: one for each port, however many listeners of the fleet share it.

use std::{net::IpAddr, sync::Arc};

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

pub(super) mod tls;

use super::{
    access_log, cluster, filter, name,
    piece::Piece,
    tcp,
    value::{ads_without_deadline, any, boolean, socket_address, uint32},
};
use crate::{
    Settings,
    ir::{Certificate, HttpListener, HttpRoute, Proxy, Termination},
};

const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const BUFFER_LIMIT_BYTES: u32 = 32_768;
const MAX_CONCURRENT_STREAMS: u32 = 100;

/// The HTTP listeners that share a filter chain and a route configuration: all those in clear text on a port, or one that
/// speaks HTTPS.
pub(crate) struct Port<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) settings: &'a Settings,
    /// Never empty; each with its index in the proxy.
    listeners: Vec<(usize, &'a HttpListener)>,
    /// What was made of the routes of all listeners of the proxy.
    pieces: &'a [Vec<Arc<Piece>>],
    address: IpAddr,
    number: u16,
    name: &'a str,
    is_sketch: bool,
}

impl<'a> Port<'a> {
    /// Those of `proxy` in the order of its listeners.
    pub(crate) fn all(proxy: &'a Proxy, settings: &'a Settings, pieces: &'a [Vec<Arc<Piece>>]) -> Vec<Self> {
        let mut ports: Vec<Self> = Vec::new();
        for (index, listener) in proxy.http.iter().enumerate() {
            let (address, number) = (listener.address, listener.port);
            let shares = |known: &&mut Self| {
                (known.address, known.number) == (address, number) && known.tls().is_none() && listener.tls.is_none()
            };
            if let Some(known) = ports.iter_mut().find(shares) {
                known.listeners.push((index, listener));
            } else {
                let name = &listener.name;
                let listeners = vec![(index, listener)];
                ports.push(Self { proxy, settings, listeners, pieces, address, number, name, is_sketch: false });
            }
        }
        ports
    }

    /// The same with something that stands in for what its routes ask of tokens, which is large.
    pub(crate) fn sketch(&self) -> Self {
        Self { listeners: self.listeners.clone(), is_sketch: true, ..*self }
    }

    /// Something stands in for what routes ask of tokens.
    pub(crate) fn is_sketch(&self) -> bool {
        self.is_sketch
    }

    /// Name of its route configuration and filter chain: the first listener's.
    pub(crate) fn name(&self) -> &'a str {
        self.name
    }

    /// The listeners, each with its index in the proxy.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (usize, &'a HttpListener)> {
        self.listeners.iter().copied()
    }

    /// The first of them.
    pub(crate) fn first(&self) -> Option<&'a HttpListener> {
        self.listeners.first().map(|(_, listener)| *listener)
    }

    /// What the Gateway of the first of them shows to backends.
    pub(crate) fn client_certificate(&self) -> Option<&'a Certificate> {
        self.proxy.client_certificate(&self.first()?.gateway)
    }

    /// How its TLS ends, if it speaks HTTPS.
    pub(crate) fn tls(&self) -> Option<&'a Termination> {
        self.first().and_then(|listener| listener.tls.as_ref())
    }

    /// Every route on the port.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &'a HttpRoute> {
        self.listeners.iter().flat_map(|(_, listener)| &listener.routes)
    }

    /// What was made of every route on the port.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &'a Piece> {
        let pieces = self.pieces;
        self.listeners.iter().filter_map(move |(index, _)| pieces.get(*index)).flatten().map(AsRef::as_ref)
    }

    /// The HTTPS listeners on the same socket, for each of which there is another certificate.
    pub(crate) fn https_siblings(&self) -> impl Iterator<Item = &'a HttpListener> {
        let (own, socket) = (self.name, (self.address, self.number));
        let all = self.proxy.http.iter().filter(|listener| listener.tls.is_some());
        all.filter(move |listener| (listener.address, listener.port) == socket && listener.name != own)
    }

    fn chain(&self) -> FilterChain {
        let names: Vec<String> = match (self.tls(), self.first()) {
            (Some(_), Some(listener)) if listener.hostname != "*" => vec![listener.hostname.clone()],
            _ => Vec::new(),
        };
        FilterChain {
            name: self.name.to_owned(),
            filter_chain_match: tls::matching(&names),
            filters: vec![network_filter(&connection_manager(self))],
            transport_socket: self.tls().map(tls::termination),
            ..Default::default()
        }
    }
}

/// What Envoy binds, with all that is done with the connections that it accepts there.
struct Socket<'a> {
    name: &'a str,
    address: IpAddr,
    number: u16,
    /// For connections that nothing else takes.
    default: Option<FilterChain>,
    chains: Vec<FilterChain>,
}

/// The Envoy listeners for `ports` and the TCP listeners of `proxy`: one for each address and port.
pub(crate) fn listeners(proxy: &Proxy, ports: &[Port<'_>], settings: &Settings) -> Vec<Listener> {
    let mut sockets: Vec<Socket<'_>> = Vec::new();
    for port in ports {
        let socket = socket(&mut sockets, port.name, (port.address, port.number));
        if port.tls().is_some() {
            socket.chains.push(port.chain());
        } else {
            socket.default = Some(port.chain());
        }
    }
    for listener in &proxy.tcp {
        let chains = tcp::chains(listener, settings);
        // Envoy refuses a listener that has nothing to do.
        if !chains.is_empty() {
            socket(&mut sockets, &listener.name, (listener.address, listener.port)).chains.extend(chains);
        }
    }
    sockets.into_iter().map(|socket| socket.listener(settings)).collect()
}

fn socket<'v, 'a>(
    sockets: &'v mut Vec<Socket<'a>>,
    name: &'a str,
    (address, number): (IpAddr, u16),
) -> &'v mut Socket<'a> {
    let known = sockets.iter().position(|socket| (socket.address, socket.number) == (address, number));
    let index = known.unwrap_or_else(|| {
        sockets.push(Socket { name, address, number, default: None, chains: Vec::new() });
        sockets.len() - 1
    });
    &mut sockets[index]
}

impl Socket<'_> {
    fn listener(self, settings: &Settings) -> Listener {
        let log = settings.access_log.as_deref();
        let by_name = self.chains.iter().any(|chain| chain.filter_chain_match.is_some());
        Listener {
            name: self.name.to_owned(),
            address: Some(socket_address(&self.address.to_string(), self.number)),
            access_log: log.map(access_log::unrouted_connections).into_iter().collect(),
            listener_filters: by_name.then(tls::inspector).into_iter().collect(),
            filter_chains: self.chains,
            default_filter_chain: self.default,
            per_connection_buffer_limit_bytes: uint32(BUFFER_LIMIT_BYTES),
            max_connections_to_accept_per_socket_event: uint32(1),
            ..Default::default()
        }
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
        stat_prefix: name::http_stat_prefix(port.number, port.tls().is_some()),
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

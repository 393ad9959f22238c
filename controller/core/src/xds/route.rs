//! Route configurations: one for each port, with a virtual host for each hostname of its listeners.

use std::{collections::BTreeMap, sync::Arc};

use ahash::{HashMap, HashSet};
use envoy_types::pb::{
    envoy::config::{
        core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
        route::v3::{Route, RouteConfiguration, VirtualHost},
    },
    google::protobuf::Any,
};
use prost::{Message, Name};
use sha2::{Digest, Sha256};

use super::{
    Resource, Type, canonical, filter,
    listener::Port,
    metadata, name,
    piece::Piece,
    resources::{frame_start, hex},
};
use crate::ir::{HeaderMutations, HttpListener, HttpRoute, PathMatch};

mod action;
mod matching;
mod misdirected;
mod retry;
mod rewrite;

/// A route configuration, not encoded yet.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// Named like its Envoy listener.
    pub(super) name: String,
    /// A hash of its content.
    pub(super) version: String,
    shell: Vec<u8>,
    hosts: Vec<Host>,
}

/// A virtual host: everything but its routes, encoded, and where those are among the pieces, by listener and route.
#[derive(Debug)]
struct Host {
    domains: Vec<String>,
    shell: Vec<u8>,
    routes: Vec<(usize, usize)>,
}

/// Most bytes that the start of a field takes: a tag and a length.
const MAX_FRAME: usize = 1 + 10;
/// Number of the field `virtual_hosts` of a `RouteConfiguration`.
const VIRTUAL_HOSTS: u32 = 2;

/// The route configuration of all listeners on a port, whose pieces are among `pieces`.
pub(crate) fn configuration(port: &Port<'_>, pieces: &[Vec<Arc<Piece>>]) -> Configuration {
    // Translation has given each hostname to the listener that matches it best; Envoy refuses a second one.
    let mut taken = HashSet::default();
    let hosts = port.listeners().flat_map(|(index, listener)| hosts(index, listener));
    let hosts = hosts.chain(misdirected::virtual_hosts(port).into_iter().map(|host| Host::new(&host, Vec::new())));
    let hosts: Vec<Host> =
        hosts.filter(|host| host.domains.iter().all(|domain| taken.insert(domain.clone()))).collect();
    let name = port.name().to_owned();
    let shell = RouteConfiguration { name: name.clone(), ignore_port_in_host_matching: true, ..Default::default() };
    let shell = shell.encode_to_vec();
    let mut content = Sha256::new();
    content.update(&shell);
    for host in &hosts {
        content.update(Sha256::digest(&host.shell));
        host.pieces(pieces).for_each(|piece| content.update(piece.digest));
    }
    Configuration { name, version: hex(&content.finalize()), shell, hosts }
}

impl Configuration {
    /// The resource, whose routes are among `pieces`.
    pub(super) fn encode(&self, pieces: &[Vec<Arc<Piece>>]) -> Resource {
        let lengths = self
            .hosts
            .iter()
            .map(|host| host.shell.len() + host.pieces(pieces).map(|piece| piece.routes.len()).sum::<usize>());
        let lengths: Vec<usize> = lengths.collect();
        let framed = lengths.iter().map(|length| length + MAX_FRAME).sum::<usize>();
        let mut value = Vec::with_capacity(self.shell.len() + framed);
        value.extend_from_slice(&self.shell);
        for (host, length) in self.hosts.iter().zip(lengths) {
            frame_start(VIRTUAL_HOSTS, length, &mut value);
            value.extend_from_slice(&host.shell);
            host.pieces(pieces).for_each(|piece| value.extend_from_slice(&piece.routes));
        }
        let type_url = Type::RouteConfiguration.url().to_owned();
        Resource { any: Any { type_url, value }, version: self.version.clone() }
    }
}

impl Host {
    fn new(host: &VirtualHost, routes: Vec<(usize, usize)>) -> Self {
        let mut shell = host.encode_to_vec();
        canonical::sort(&VirtualHost::full_name(), &mut shell);
        Self { domains: host.domains.clone(), shell, routes }
    }

    fn pieces<'p>(&'p self, pieces: &'p [Vec<Arc<Piece>>]) -> impl Iterator<Item = &'p Piece> {
        self.routes.iter().filter_map(|(listener, route)| Some(pieces.get(*listener)?.get(*route)?.as_ref()))
    }
}

/// The virtual hosts of the listener at `index`.
fn hosts(index: usize, listener: &HttpListener) -> Vec<Host> {
    let mut order: Vec<&str> = Vec::new();
    let mut by_hostname: HashMap<&str, Vec<(usize, usize)>> = HashMap::default();
    for (number, route) in listener.routes.iter().enumerate() {
        let routes = by_hostname.entry(&route.hostname).or_insert_with(|| {
            order.push(&route.hostname);
            Vec::new()
        });
        routes.push((index, number));
    }
    let host = |hostname: &str| {
        let host = VirtualHost {
            name: name::virtual_host(&listener.name, hostname),
            domains: vec![hostname.to_owned()],
            metadata: Some(metadata::of(&listener.gateway, Some(&listener.section), &BTreeMap::new())),
            ..Default::default()
        };
        Host::new(&host, by_hostname.remove(hostname).unwrap_or_default())
    };
    order.into_iter().map(host).collect()
}

/// One route on the listener of this name.
pub(super) fn envoy_route(listener: &str, route: &HttpRoute) -> Route {
    Route {
        name: route.name.clone(),
        r#match: Some(matching::route_match(&route.matches)),
        metadata: Some(metadata::route(route)),
        typed_per_filter_config: filter::route(listener, route),
        request_headers_to_add: headers_to_add(&route.request_headers),
        request_headers_to_remove: route.request_headers.remove.clone(),
        response_headers_to_add: headers_to_add(&route.response_headers),
        response_headers_to_remove: route.response_headers.remove.clone(),
        action: Some(action::action(route)),
        ..Default::default()
    }
}

/// The part of a route to which an OpenID provider posts that a session has ended. It is a route of its own, for `extauth`
/// needs the bodies there, and those of all other requests flow through without being gathered.
pub(super) fn logout(route: &HttpRoute) -> Option<HttpRoute> {
    let path = route.security.as_ref()?.back_channel_logout.as_ref()?;
    let covered = match &route.matches.path {
        None => true,
        Some(PathMatch::Prefix(prefix)) => {
            let below = path.strip_prefix(prefix.trim_end_matches('/'));
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        }
        Some(_) => false,
    };
    covered.then(|| {
        let mut logout = route.clone();
        logout.name.push_str("/backchannel-logout");
        logout.matches.path = Some(PathMatch::Exact(path.clone()));
        logout
    })
}

fn headers_to_add(headers: &HeaderMutations) -> Vec<HeaderValueOption> {
    let option = |(key, value): &(String, String), action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue { key: key.clone(), value: value.clone(), ..Default::default() }),
        append_action: action.into(),
        ..Default::default()
    };
    let set = headers.set.iter().map(|header| option(header, HeaderAppendAction::OverwriteIfExistsOrAdd));
    set.chain(headers.add.iter().map(|header| option(header, HeaderAppendAction::AppendIfExistsOrAdd))).collect()
}

//! Route configurations: one for each port, with a virtual host for each hostname of its listeners.

use std::collections::{BTreeMap, HashMap, HashSet};

use envoy_types::pb::envoy::config::{
    core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
    route::v3::{Route, RouteConfiguration, VirtualHost},
};

use super::{filter, listener::Port, metadata, name};
use crate::ir::{HeaderMutations, HttpListener, HttpRoute, Match, PathMatch};

mod action;
mod matching;
mod misdirected;
mod retry;
mod rewrite;

/// The route configuration of all listeners on a port, named like their Envoy listener.
pub(crate) fn configuration(port: &Port<'_>) -> RouteConfiguration {
    // Translation has given each hostname to the listener that matches it best; Envoy refuses a second one.
    let mut taken = HashSet::new();
    let virtual_hosts = port.listeners.iter().flat_map(|listener| virtual_hosts(port, listener));
    let virtual_hosts = virtual_hosts.chain(misdirected::virtual_hosts(port));
    RouteConfiguration {
        name: port.name().to_owned(),
        virtual_hosts: virtual_hosts
            .filter(|host| host.domains.iter().all(|domain| taken.insert(domain.clone())))
            .collect(),
        ignore_port_in_host_matching: true,
        ..Default::default()
    }
}

fn virtual_hosts(port: &Port<'_>, listener: &HttpListener) -> Vec<VirtualHost> {
    let mut order: Vec<&str> = Vec::new();
    let mut by_hostname: HashMap<&str, Vec<Route>> = HashMap::new();
    for route in &listener.routes {
        let routes = by_hostname.entry(&route.hostname).or_insert_with(|| {
            order.push(&route.hostname);
            Vec::new()
        });
        routes.extend(logout(route).map(|logout| envoy_route(port, listener, &logout)));
        routes.push(envoy_route(port, listener, route));
    }
    let host = |hostname: &str| VirtualHost {
        name: name::virtual_host(&listener.name, hostname),
        domains: vec![hostname.to_owned()],
        routes: by_hostname.remove(hostname).unwrap_or_default(),
        metadata: Some(metadata::of(&port.proxy.gateway, Some(&listener.section), &BTreeMap::new())),
        ..Default::default()
    };
    order.into_iter().map(host).collect()
}

fn envoy_route(port: &Port<'_>, listener: &HttpListener, route: &HttpRoute) -> Route {
    Route {
        name: route.name.clone(),
        r#match: Some(matching::route_match(&route.matches)),
        metadata: Some(metadata::route(route)),
        typed_per_filter_config: filter::route(port, listener, route),
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
fn logout(route: &HttpRoute) -> Option<HttpRoute> {
    let path = route.security.as_ref()?.back_channel_logout.as_ref()?;
    let covered = match &route.matches.path {
        None => true,
        Some(PathMatch::Prefix(prefix)) => {
            let below = path.strip_prefix(prefix.trim_end_matches('/'));
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        }
        Some(_) => false,
    };
    let matches = Match { path: Some(PathMatch::Exact(path.clone())), ..route.matches.clone() };
    covered.then(|| HttpRoute { name: format!("{}/backchannel-logout", route.name), matches, ..route.clone() })
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

//! Requests for a host of one HTTPS listener on a connection that was made to another one (RFC 9110, section 15.5.20):
//! a client that reuses connections learns by 421 to make its own.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteMatch, VirtualHost, route::Action, route_match::PathSpecifier,
};

use crate::{
    ir::HttpListener,
    xds::{listener::Port, metadata, name},
};

const MISDIRECTED_REQUEST: u32 = 421;

/// Virtual hosts that answer for the hosts of the other HTTPS listeners on the port.
///
/// Envoy takes the most specific host, so a host that is nobody's, or the listener's own, is not caught by them.
pub(super) fn virtual_hosts(port: &Port<'_>) -> Vec<VirtualHost> {
    let (Some(_), Some(own)) = (port.tls(), port.first()) else { return Vec::new() };
    let others: Vec<&HttpListener> = port.https_siblings().filter(|sibling| sibling.hostname != own.hostname).collect();
    let elsewhere = |sibling: &&HttpListener| host(own, &sibling.hostname, vec![answer(own)]);
    let mut hosts: Vec<VirtualHost> = others.iter().map(elsewhere).collect();
    let has_routes = own.routes.iter().any(|route| route.hostname == own.hostname);
    if !others.is_empty() && !has_routes && own.hostname != "*" {
        // Its own hosts without a route answer 404, even where another listener takes every host.
        hosts.push(host(own, &own.hostname, Vec::new()));
    }
    hosts
}

fn host(own: &HttpListener, hostname: &str, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: name::virtual_host(&own.name, hostname),
        domains: vec![hostname.to_owned()],
        routes,
        metadata: Some(metadata::of(&own.gateway, Some(&own.section), &BTreeMap::new())),
        ..Default::default()
    }
}

fn answer(own: &HttpListener) -> Route {
    Route {
        name: format!("{}/misdirected", own.name),
        r#match: Some(RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..Default::default() }),
        action: Some(Action::DirectResponse(DirectResponseAction {
            status: MISDIRECTED_REQUEST,
            ..Default::default()
        })),
        ..Default::default()
    }
}

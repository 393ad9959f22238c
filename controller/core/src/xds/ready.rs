//! The listener that answers readiness probes. It comes over xDS, so a proxy is ready only once it has been configured.

use envoy_types::pb::envoy::{
    config::{
        listener::v3::{FilterChain, Listener},
        route::v3::{
            DirectResponseAction, HeaderMatcher, Route, RouteConfiguration, RouteMatch, VirtualHost,
            header_matcher::HeaderMatchSpecifier, route::Action, route_match::PathSpecifier,
        },
    },
    extensions::filters::{
        http::health_check::v3::HealthCheck,
        network::http_connection_manager::v3::{HttpConnectionManager, http_connection_manager::RouteSpecifier},
    },
};

use super::{
    filter,
    listener::network_filter,
    matcher::exact,
    value::{boolean, socket_address},
};

/// The probes of Deployments name it.
const PORT: u16 = 19003;

/// `GET /ready`: 200, and 503 while Envoy drains.
pub(crate) fn listener(address: &str) -> Listener {
    let manager = HttpConnectionManager {
        stat_prefix: "eg-ready-http".into(),
        route_specifier: Some(RouteSpecifier::RouteConfig(nothing_else())),
        http_filters: vec![health_check(), filter::router()],
        ..Default::default()
    };
    Listener {
        name: format!("envoy-gateway-proxy-ready-{address}-{PORT}"),
        address: Some(socket_address(address, PORT)),
        filter_chains: vec![FilterChain { filters: vec![network_filter(&manager)], ..Default::default() }],
        bypass_overload_manager: true,
        ..Default::default()
    }
}

fn health_check() -> envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter {
    let path = HeaderMatcher {
        name: ":path".into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exact("/ready"))),
        ..Default::default()
    };
    let check = HealthCheck { pass_through_mode: boolean(false), headers: vec![path], ..Default::default() };
    filter::enabled("envoy.filters.http.health_check", &check)
}

fn nothing_else() -> RouteConfiguration {
    let name = "ready_route";
    let route = Route {
        r#match: Some(RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..Default::default() }),
        action: Some(Action::DirectResponse(DirectResponseAction { status: 500, ..Default::default() })),
        ..Default::default()
    };
    let host = VirtualHost { name: name.into(), domains: vec!["*".into()], routes: vec![route], ..Default::default() };
    RouteConfiguration { name: name.into(), virtual_hosts: vec![host], ..Default::default() }
}

//! The last filter, which sends the request away.

use envoy_types::pb::envoy::extensions::filters::{http::router::v3, network::http_connection_manager::v3::HttpFilter};

use super::{Filter, enabled};
use crate::xds::listener::Port;

pub(super) struct Router;

/// The router; Envoy's own `x-envoy-*` headers are nobody's business outside.
pub(crate) fn router() -> HttpFilter {
    let config = v3::Router { suppress_envoy_headers: true, ..Default::default() };
    enabled("envoy.filters.http.router", &config)
}

impl Filter for Router {
    fn chain(&self, _port: &Port<'_>) -> Vec<HttpFilter> {
        vec![router()]
    }
}

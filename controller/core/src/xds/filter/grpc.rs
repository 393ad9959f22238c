//! gRPC-Web for browsers, and statistics by gRPC method.

use envoy_types::pb::envoy::extensions::filters::{
    http::{
        grpc_stats::v3::{FilterConfig, filter_config::PerMethodStatSpecifier},
        grpc_web::v3::GrpcWeb,
    },
    network::http_connection_manager::v3::HttpFilter,
};

use super::{Filter, enabled};
use crate::xds::{listener::Port, value::boolean};

pub(super) struct Web;

impl Filter for Web {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        if !is_wanted(port) {
            return Vec::new();
        }
        vec![enabled("envoy.filters.http.grpc_web", &GrpcWeb::default())]
    }
}

pub(super) struct Stats;

impl Filter for Stats {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        if !is_wanted(port) {
            return Vec::new();
        }
        let config = FilterConfig {
            emit_filter_state: true,
            per_method_stat_specifier: boolean(true).map(PerMethodStatSpecifier::StatsForAllMethods),
            ..Default::default()
        };
        vec![enabled("envoy.filters.http.grpc_stats", &config)]
    }
}

fn is_wanted(port: &Port<'_>) -> bool {
    port.routes().any(|route| route.route.kind == "GRPCRoute")
}

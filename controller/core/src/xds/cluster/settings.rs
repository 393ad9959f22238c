//! How Envoy deals with the hosts of a cluster: timeouts of connections, limits on concurrency, the protocol.

use std::collections::HashMap;

use controller_api::cluster_settings::{CircuitBreaker, HttpTimeout, RetryBudget, Timeout};
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster,
                circuit_breakers::{Thresholds, thresholds},
            },
            core::v3::{
                Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions, KeepaliveSettings,
                UpstreamHttpProtocolOptions,
            },
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                AutoHttpConfig, ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
            },
        },
        r#type::v3::Percent,
    },
    google::protobuf::Any,
};

use super::tls;
use crate::{
    ir::{Backend, ServerName, Traffic},
    xds::value::{any, duration, millis, uint32},
};

const HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const MAX_RETRIES: u32 = 1024;

/// What a policy says about a cluster.
#[derive(Default)]
pub(super) struct Settings<'a> {
    pub(super) timeout: Option<&'a Timeout>,
    pub(super) circuit_breaker: Option<&'a CircuitBreaker>,
    /// Not for HTTP.
    pub(super) raw: bool,
}

impl<'a> Settings<'a> {
    /// Those of a BackendTrafficPolicy.
    pub(super) fn of(traffic: &'a Traffic) -> Self {
        Self {
            timeout: traffic.spec.timeout.as_ref(),
            circuit_breaker: traffic.spec.circuit_breaker.as_ref(),
            raw: false,
        }
    }

    /// Writes them into the `cluster` of `backends`.
    pub(super) fn apply(&self, cluster: &mut Cluster, backends: &[&Backend]) {
        let timeout = self.timeout.and_then(|timeout| timeout.tcp.as_ref()).and_then(|tcp| tcp.connect_timeout);
        // Envoy refuses to wait for no time at all.
        if let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero()) {
            cluster.connect_timeout = Some(duration(timeout));
        }
        if let Some(breaker) = self.circuit_breaker {
            cluster.circuit_breakers = Some(circuit_breakers(breaker));
        }
        if !self.raw {
            cluster.typed_extension_protocol_options = self.protocol_options(backends);
        }
    }

    /// HTTP/2 where a backend says so; over TLS what the handshake settles; else Envoy's default.
    fn protocol_options(&self, backends: &[&Backend]) -> HashMap<String, Any> {
        let common = self.common_options();
        let names =
            |backend: &&Backend| backend.tls.as_ref().is_some_and(|tls| tls.server_name == ServerName::OfRequest);
        // The server name is the request's host, so a connection is for one host only.
        let upstream =
            backends.iter().any(names).then(|| UpstreamHttpProtocolOptions { auto_sni: true, ..Default::default() });
        let explicit = |protocol| {
            UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(protocol) })
        };
        let protocol = if backends.iter().any(|backend| backend.http2) {
            explicit(ProtocolConfig::Http2ProtocolOptions(http2_windows()))
        } else if tls::is_everywhere(backends) {
            UpstreamProtocolOptions::AutoConfig(AutoHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(http2_windows()),
                ..Default::default()
            })
        } else if common.is_some() || upstream.is_some() {
            explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()))
        } else {
            return HashMap::new();
        };
        packed(&HttpProtocolOptions {
            common_http_protocol_options: common,
            upstream_http_protocol_options: upstream,
            upstream_protocol_options: Some(protocol),
            ..Default::default()
        })
    }

    fn common_options(&self) -> Option<CommonOptions> {
        let http: Option<&HttpTimeout> = self.timeout.and_then(|timeout| timeout.http.as_ref());
        let idle = http.and_then(|http| http.connection_idle_timeout);
        let longest = http.and_then(|http| http.max_connection_duration);
        let requests = self.circuit_breaker.and_then(|breaker| breaker.max_requests_per_connection);
        (idle.is_some() || longest.is_some() || requests.is_some()).then(|| CommonOptions {
            idle_timeout: idle.map(duration),
            max_connection_duration: longest.map(duration),
            max_requests_per_connection: requests.and_then(uint32),
            ..Default::default()
        })
    }
}

fn circuit_breakers(breaker: &CircuitBreaker) -> CircuitBreakers {
    let threshold = Thresholds {
        max_connections: breaker.max_connections.and_then(uint32),
        max_pending_requests: breaker.max_pending_requests.and_then(uint32),
        max_requests: breaker.max_parallel_requests.and_then(uint32),
        max_retries: uint32(breaker.max_parallel_retries.unwrap_or(MAX_RETRIES)),
        retry_budget: breaker.retry_budget.as_ref().map(retry_budget),
        ..Default::default()
    };
    let per_host = breaker.per_endpoint.as_ref().and_then(|endpoint| endpoint.max_connections);
    let per_host =
        per_host.map(|connections| Thresholds { max_connections: uint32(connections), ..Default::default() });
    CircuitBreakers { thresholds: vec![threshold], per_host_thresholds: per_host.into_iter().collect() }
}

fn retry_budget(budget: &RetryBudget) -> thresholds::RetryBudget {
    let denominator = f64::from(budget.percent.denominator.unwrap_or(100).max(1));
    let percent = (f64::from(budget.percent.numerator) * 100.0 / denominator).min(100.0);
    thresholds::RetryBudget {
        budget_percent: Some(Percent { value: percent }),
        min_retry_concurrency: budget.min_retry_concurrency.and_then(uint32),
        ..Default::default()
    }
}

fn protocol_options(common: Option<CommonOptions>, protocol: ProtocolConfig) -> HashMap<String, Any> {
    let explicit = ExplicitHttpConfig { protocol_config: Some(protocol) };
    let options = HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..Default::default()
    };
    packed(&options)
}

fn packed(options: &HttpProtocolOptions) -> HashMap<String, Any> {
    HashMap::from([(HTTP_PROTOCOL_OPTIONS.to_owned(), any(options))])
}

/// HTTP/2 towards the hosts, whatever the client speaks.
pub(crate) fn http2() -> HashMap<String, Any> {
    protocol_options(None, ProtocolConfig::Http2ProtocolOptions(http2_windows()))
}

/// The same for a connection that stays open for ever: a peer that does not answer pings is gone.
pub(crate) fn http2_with_keepalive() -> HashMap<String, Any> {
    let keepalive =
        KeepaliveSettings { interval: Some(millis(30_000)), timeout: Some(millis(5_000)), ..Default::default() };
    let http2 = Http2ProtocolOptions { connection_keepalive: Some(keepalive), ..http2_windows() };
    protocol_options(None, ProtocolConfig::Http2ProtocolOptions(http2))
}

/// Flow control windows that bound the memory of one connection: 64 KiB for a stream, 1 MiB for all.
pub(crate) fn http2_windows() -> Http2ProtocolOptions {
    Http2ProtocolOptions {
        initial_stream_window_size: uint32(65_536),
        initial_connection_window_size: uint32(1_048_576),
        ..Default::default()
    }
}

//! Global rate limits: Envoy asks `ratelimit`.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{
                ApiVersion, GrpcService,
                grpc_service::{EnvoyGrpc, TargetSpecifier},
            },
            ratelimit::v3::RateLimitServiceConfig,
            route::v3::RateLimit,
        },
        extensions::filters::{
            http::ratelimit::v3::{RateLimit as Config, RateLimitPerRoute, rate_limit::XRateLimitHeadersRfcVersion},
            network::http_connection_manager::v3::HttpFilter,
        },
    },
    google::protobuf::{Any, Duration},
};

use super::{Filter, enabled};
use crate::{
    RateLimitService,
    ir::HttpRoute,
    xds::{
        Resources,
        listener::Port,
        name,
        rate_limit::{self, action},
        service,
        value::any,
    },
};

const NAME: &str = "envoy.filters.http.ratelimit";

/// One instance for the limits of the routes, which each say their listener's domain, and one for each policy with shared
/// limits, whose domain is the policy: Envoy asks about one domain with one instance.
pub(super) struct Ratelimit;

impl Filter for Ratelimit {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        let Some(settings) = &port.settings.rate_limit else { return Vec::new() };
        let shared = shared_domains(port);
        let has_own = port.pieces().any(|piece| !piece.limits.is_empty());
        let own = has_own.then(|| enabled(NAME, &config(port.name(), settings)));
        own.into_iter()
            .chain(shared.iter().map(|domain| enabled(&instance(domain), &config(domain, settings))))
            .collect()
    }

    fn route(&self, listener: &str, route: &HttpRoute) -> Vec<(String, Any)> {
        let mut domains: BTreeMap<String, Vec<RateLimit>> = BTreeMap::new();
        for limit in rate_limit::global(listener, route) {
            let rate_limits = action::rate_limits(Some(&limit.root), &limit.links, limit.rule);
            domains.entry(limit.domain).or_default().extend(rate_limits);
        }
        let per_route = |(domain, rate_limits): (String, _)| {
            let name = if domain == listener { NAME.to_owned() } else { instance(&domain) };
            (name, any(&RateLimitPerRoute { domain, rate_limits, ..Default::default() }))
        };
        domains.into_iter().map(per_route).collect()
    }

    fn resources(&self, port: &Port<'_>, resources: &mut Resources) {
        let Some(settings) = &port.settings.rate_limit else { return };
        if !self.chain(port).is_empty() {
            service::add(resources, name::RATE_LIMIT_CLUSTER, &settings.address, port.settings);
        }
    }
}

fn instance(domain: &str) -> String {
    format!("{NAME}/{domain}")
}

/// The domains of shared limits on the port, in order.
fn shared_domains<'a>(port: &Port<'a>) -> BTreeSet<&'a str> {
    let own: BTreeSet<&str> = port.listeners().map(|(_, listener)| listener.name.as_str()).collect();
    let domains = port.pieces().flat_map(|piece| &piece.limits).map(|limit| limit.domain.as_str());
    domains.filter(|domain| !own.contains(domain)).collect()
}

fn config(domain: &str, settings: &RateLimitService) -> Config {
    let target = EnvoyGrpc { cluster_name: name::RATE_LIMIT_CLUSTER.into(), ..Default::default() };
    Config {
        domain: domain.to_owned(),
        rate_limit_service: Some(RateLimitServiceConfig {
            transport_api_version: ApiVersion::V3.into(),
            grpc_service: Some(GrpcService {
                target_specifier: Some(TargetSpecifier::EnvoyGrpc(target)),
                ..Default::default()
            }),
        }),
        timeout: settings.timeout.and_then(|timeout| {
            let nanos = i32::try_from(timeout.subsec_nanos()).ok()?;
            Some(Duration { seconds: i64::try_from(timeout.as_secs()).ok()?, nanos })
        }),
        failure_mode_deny: settings.fail_closed,
        disable_x_envoy_ratelimited_header: true,
        enable_x_ratelimit_headers: XRateLimitHeadersRfcVersion::DraftVersion03.into(),
        ..Default::default()
    }
}

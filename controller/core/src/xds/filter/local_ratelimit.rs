//! Local rate limits: each Envoy counts by itself.

use controller_api::rate_limit::{LocalRateLimit as Limits, RateLimitRule, RateLimitUnit, RateLimitValue};
use envoy_types::pb::{
    envoy::{
        config::core::v3::RuntimeFractionalPercent,
        extensions::{
            common::ratelimit::v3::{LocalRateLimitDescriptor, rate_limit_descriptor::Entry},
            filters::{http::local_ratelimit::v3::LocalRateLimit, network::http_connection_manager::v3::HttpFilter},
        },
        r#type::v3::{FractionalPercent, TokenBucket, fractional_percent::DenominatorType},
    },
    google::protobuf::Any,
};

use super::{Filter, enabled};
use crate::{
    ir::{Action, HttpRoute},
    xds::{
        listener::Port,
        rate_limit::{self, Link, action},
        value::{any, boolean, millis, uint32},
    },
};

const NAME: &str = "envoy.filters.http.local_ratelimit";
const STAT_PREFIX: &str = "http_local_rate_limiter";
/// Buckets that a rule may have at a time when each value has its own; Envoy's default is 20.
const MAX_DYNAMIC_DESCRIPTORS: u32 = 10_000;
/// `DRAFT_VERSION_03` of Envoy's `XRateLimitHeadersRFCVersion`.
const DRAFT_VERSION_03: i32 = 1;

pub(super) struct LocalRatelimit;

impl Filter for LocalRatelimit {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        let idle = LocalRateLimit {
            stat_prefix: STAT_PREFIX.into(),
            max_dynamic_descriptors: uint32(MAX_DYNAMIC_DESCRIPTORS),
            ..Default::default()
        };
        let is_used = port.routes().any(|route| limits(route).is_some());
        is_used.then(|| enabled(NAME, &idle)).into_iter().collect()
    }

    fn route(&self, _listener: &str, route: &HttpRoute) -> Vec<(String, Any)> {
        limits(route).map(|limits| (NAME.to_owned(), any(&config(limits)))).into_iter().collect()
    }
}

fn limits(route: &HttpRoute) -> Option<&Limits> {
    let (Action::Forward(_), Some(traffic)) = (&route.action, &route.traffic) else { return None };
    traffic.spec.rate_limit.as_ref()?.local()
}

fn config(limits: &Limits) -> LocalRateLimit {
    let (default, rules): (Vec<_>, Vec<_>) = limits.rules.iter().partition(|rule| rule.client_selectors.is_empty());
    let rules: Vec<(Vec<Link>, &RateLimitRule)> =
        rules.into_iter().enumerate().map(|(number, rule)| (rate_limit::local(rule, number), rule)).collect();
    let unlimited = RateLimitValue { requests: u32::MAX, unit: RateLimitUnit::Second, from_metadata: None };
    LocalRateLimit {
        stat_prefix: STAT_PREFIX.into(),
        token_bucket: Some(token_bucket(default.first().map_or(&unlimited, |rule| &rule.limit))),
        filter_enabled: Some(always()),
        filter_enforced: Some(always()),
        descriptors: rules.iter().map(|(links, rule)| descriptor(links, rule)).collect(),
        rate_limits: rules.iter().flat_map(|(links, rule)| action::rate_limits(None, links, rule)).collect(),
        enable_x_ratelimit_headers: DRAFT_VERSION_03,
        always_consume_default_token_bucket: boolean(false),
        max_dynamic_descriptors: uint32(MAX_DYNAMIC_DESCRIPTORS),
        ..Default::default()
    }
}

fn descriptor(links: &[Link], rule: &RateLimitRule) -> LocalRateLimitDescriptor {
    let entry = |link: &Link| Entry { key: link.key.clone(), value: link.value.clone().unwrap_or_default() };
    LocalRateLimitDescriptor {
        entries: links.iter().map(entry).collect(),
        token_bucket: Some(token_bucket(&rule.limit)),
        shadow_mode: rule.shadow_mode == Some(true),
    }
}

fn token_bucket(limit: &RateLimitValue) -> TokenBucket {
    TokenBucket {
        max_tokens: limit.requests,
        tokens_per_fill: uint32(limit.requests),
        fill_interval: Some(millis(limit.unit.seconds() * 1000)),
    }
}

fn always() -> RuntimeFractionalPercent {
    let all = FractionalPercent { numerator: 100, denominator: DenominatorType::Hundred.into() };
    RuntimeFractionalPercent { default_value: Some(all), ..Default::default() }
}

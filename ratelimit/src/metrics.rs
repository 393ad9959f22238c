//! The names that dashboards of envoyproxy/ratelimit know. Label values come from the configuration, and every handle is
//! resolved before the first request; only [`ByValue`] takes values of requests, up to a bound.

use metrics::{Counter, Histogram, Label, counter, histogram};

pub(crate) use self::by_value::ByValue;

mod by_value;

/// Counters of one rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) total_hits: Counter,
    pub(crate) over_limit: Counter,
    pub(crate) near_limit: Counter,
    pub(crate) within_limit: Counter,
    pub(crate) shadow_mode: Counter,
}

impl Rule {
    /// Labels are the domain and, as upstream has it, the first two levels of the descriptor.
    pub(crate) fn new(domain: &str, levels: &[String]) -> Self {
        let mut labels = vec![Label::new("domain", domain.to_owned())];
        labels.extend(["key1", "key2"].into_iter().zip(levels).map(|(key, level)| Label::new(key, level.clone())));
        Self {
            total_hits: counter!("ratelimit_service_rate_limit_total_hits", labels.clone()),
            over_limit: counter!("ratelimit_service_rate_limit_over_limit", labels.clone()),
            near_limit: counter!("ratelimit_service_rate_limit_near_limit", labels.clone()),
            within_limit: counter!("ratelimit_service_rate_limit_within_limit", labels.clone()),
            shadow_mode: counter!("ratelimit_service_rate_limit_shadow_mode", labels),
        }
    }
}

/// Counters of the service as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) total_requests: Counter,
    pub(crate) response_time: Histogram,
    pub(crate) redis_error: Counter,
    pub(crate) request_error: Counter,
    pub(crate) global_shadow_mode: Counter,
    pub(crate) domain_not_found: Counter,
}

impl Service {
    pub(crate) fn new() -> Self {
        let error = |kind: &'static str| counter!("ratelimit_service_should_rate_limit_error", "err_type" => kind);
        Self {
            total_requests: counter!("ratelimit_service_total_requests", "grpc_method" => "ShouldRateLimit"),
            response_time: histogram!("ratelimit_service_response_time_seconds", "grpc_method" => "ShouldRateLimit"),
            redis_error: error("redis_error"),
            request_error: error("service_error"),
            global_shadow_mode: counter!("ratelimit_service_global_shadow_mode"),
            domain_not_found: counter!("ratelimit_service_rate_limit_domain_not_found"),
        }
    }
}

/// Counters of configuration loads.
#[derive(Clone, Debug)]
pub(crate) struct ConfigLoad {
    pub(crate) success: Counter,
    pub(crate) error: Counter,
}

impl ConfigLoad {
    pub(crate) fn new() -> Self {
        Self {
            success: counter!("ratelimit_service_config_load_success"),
            error: counter!("ratelimit_service_config_load_error"),
        }
    }
}

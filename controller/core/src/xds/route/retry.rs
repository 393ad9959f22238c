//! How long a route waits for its backend and how often it asks again.

use controller_api::{
    Duration,
    cluster_settings::{BackOff, HttpTimeout, Retry, RetryTrigger},
};
use envoy_types::pb::envoy::{
    config::route::v3::{
        RetryPolicy, RouteAction,
        retry_policy::{RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority},
        route_action::MaxStreamDuration,
    },
    extensions::retry::{
        host::previous_hosts::v3::PreviousHostsPredicate, priority::previous_priorities::v3::PreviousPrioritiesConfig,
    },
};

use crate::{
    ir::{HttpRoute, Traffic},
    xds::value::{any, duration, millis, uint32},
};

/// A route with a deadline must not be cut off for silence before it.
const IDLE_TIMEOUT_MS: u64 = 3_600_000;
/// What is worth another attempt when a policy does not say: nothing that a backend may have acted on.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const RETRIABLE_STATUS_CODE: u32 = 503;
const NUM_RETRIES: u32 = 2;
/// How often another host is drawn when the drawn one has failed already.
const HOST_SELECTION_ATTEMPTS: i64 = 5;
const BASE_INTERVAL_MS: u64 = 25;

/// Deadlines and retries. What the route itself says wins over its policy.
pub(super) fn apply(action: &mut RouteAction, route: &HttpRoute) {
    let traffic = route.traffic.as_deref();
    let retry = route.retry.as_ref().or_else(|| traffic?.spec.retry.as_ref());
    action.retry_policy = retry.map(retry_policy);
    let http = traffic.and_then(http_timeout);
    let policy_timeout = http.and_then(|http| http.request_timeout).map(Duration::as_millis);
    let request = route.timeouts.request_ms.or(policy_timeout);
    let timeout = match (&mut action.retry_policy, route.timeouts.backend_request_ms) {
        (Some(retry), Some(attempt)) => {
            retry.per_try_timeout.get_or_insert(millis(attempt));
            request
        }
        // Without retries the one attempt is the whole exchange.
        (None, Some(attempt)) => Some(attempt),
        (_, None) => request,
    };
    let stream_idle = http.and_then(|http| http.stream_idle_timeout).map(Duration::as_millis);
    let idle = stream_idle.or(timeout.map(|timeout| if timeout == 0 { 0 } else { timeout.max(IDLE_TIMEOUT_MS) }));
    action.timeout = timeout.map(millis);
    action.idle_timeout = idle.map(millis);
    action.max_stream_duration = http
        .and_then(|http| http.max_stream_duration)
        .map(|longest| MaxStreamDuration { max_stream_duration: Some(duration(longest)), ..Default::default() });
}

fn http_timeout(traffic: &Traffic) -> Option<&HttpTimeout> {
    traffic.spec.timeout.as_ref()?.http.as_ref()
}

fn retry_policy(retry: &Retry) -> RetryPolicy {
    let (retry_on, retriable_status_codes) = conditions(retry);
    let per_retry = retry.per_retry.as_ref();
    let previous_hosts = any(&PreviousHostsPredicate::default());
    RetryPolicy {
        retry_on,
        retriable_status_codes,
        num_retries: uint32(retry.num_retries.unwrap_or(NUM_RETRIES)),
        per_try_timeout: per_retry.and_then(|per_retry| per_retry.timeout).map(duration),
        retry_back_off: per_retry.and_then(|per_retry| per_retry.back_off.as_ref()).map(back_off),
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".into(),
            config_type: Some(retry_host_predicate::ConfigType::TypedConfig(previous_hosts)),
        }],
        host_selection_retry_max_attempts: HOST_SELECTION_ATTEMPTS,
        retry_priority: retry.num_attempts_per_priority.map(retry_priority),
        ..Default::default()
    }
}

/// Envoy's `retry_on` and the statuses it covers.
fn conditions(retry: &Retry) -> (String, Vec<u32>) {
    let Some(on) = retry.retry_on.as_ref().filter(|on| !on.triggers.is_empty() || !on.http_status_codes.is_empty())
    else {
        return (RETRY_ON.to_owned(), vec![RETRIABLE_STATUS_CODE]);
    };
    let mut triggers: Vec<&str> = on.triggers.iter().map(|trigger| trigger.as_str()).collect();
    if !on.http_status_codes.is_empty() && !on.triggers.contains(&RetryTrigger::RetriableStatusCodes) {
        triggers.push(RetryTrigger::RetriableStatusCodes.as_str());
    }
    (triggers.join(","), on.http_status_codes.iter().map(|status| u32::from(*status)).collect())
}

/// Envoy refuses a base of zero and a longest pause below the base.
fn back_off(back_off: &BackOff) -> RetryBackOff {
    let base = back_off.base_interval.map_or(BASE_INTERVAL_MS, Duration::as_millis).max(1);
    let longest = back_off.max_interval.map(|longest| longest.as_millis().max(base));
    RetryBackOff { base_interval: Some(millis(base)), max_interval: longest.map(millis) }
}

fn retry_priority(attempts: u32) -> RetryPriority {
    let update_frequency = i32::try_from(attempts).unwrap_or(i32::MAX).max(1);
    let config = any(&PreviousPrioritiesConfig { update_frequency });
    RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".into(),
        config_type: Some(retry_priority::ConfigType::TypedConfig(config)),
    }
}

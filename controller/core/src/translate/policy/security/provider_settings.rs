//! How `extauth` asks a provider: what `backendSettings` says about time and further attempts.

use controller_api::{
    Duration,
    cluster_settings::{self, ClusterSettings, RetryTrigger},
};
use proto::extauth;

/// Attempts after the first, and Envoy's pauses, where a policy says nothing of them.
const RETRIES: u32 = 2;
const BASE_INTERVAL_MS: u64 = 25;

/// Milliseconds for a request with all its attempts.
pub(super) fn request_timeout_ms(settings: &ClusterSettings) -> Option<u64> {
    let http = settings.timeout.as_ref()?.http.as_ref()?;
    http.request_timeout.map(Duration::as_millis)
}

/// When a request is sent once more.
pub(super) fn retry(settings: &ClusterSettings) -> Option<extauth::Retry> {
    let retry = settings.retry.as_ref()?;
    let per_retry = retry.per_retry.as_ref();
    let back_off = per_retry.and_then(|limits| limits.back_off.as_ref());
    let base = back_off.and_then(|back_off| back_off.base_interval).map_or(BASE_INTERVAL_MS, Duration::as_millis);
    let longest = back_off.and_then(|back_off| back_off.max_interval).map(Duration::as_millis);
    let mut attempts = extauth::Retry {
        num_retries: retry.num_retries.unwrap_or(RETRIES),
        connect_failure: false,
        reset: false,
        status_codes: Vec::new(),
        per_try_timeout_ms: per_retry.and_then(|limits| limits.timeout).map(Duration::as_millis),
        base_interval_ms: base,
        max_interval_ms: longest.unwrap_or(base.saturating_mul(10)).max(base),
    };
    conditions(retry, &mut attempts);
    Some(attempts)
}

fn conditions(retry: &cluster_settings::Retry, attempts: &mut extauth::Retry) {
    let said = retry.retry_on.as_ref().filter(|on| !on.triggers.is_empty() || !on.http_status_codes.is_empty());
    let Some(on) = said else {
        (attempts.connect_failure, attempts.status_codes) = (true, vec![503]);
        return;
    };
    attempts.status_codes.clone_from(&on.http_status_codes);
    for trigger in &on.triggers {
        match trigger {
            RetryTrigger::Error5xx => attempts.status_codes.extend(500..=599),
            RetryTrigger::GatewayError => attempts.status_codes.extend(502..=504),
            RetryTrigger::Retriable4xx => attempts.status_codes.push(409),
            RetryTrigger::ConnectFailure | RetryTrigger::RefusedStream | RetryTrigger::ResetBeforeRequest => {
                attempts.connect_failure = true;
            }
            RetryTrigger::Reset
            | RetryTrigger::RetriableStatusCodes
            // Those of gRPC, which no provider speaks.
            | RetryTrigger::Cancelled
            | RetryTrigger::DeadlineExceeded
            | RetryTrigger::Internal
            | RetryTrigger::ResourceExhausted
            | RetryTrigger::Unavailable => {}
        }
        // Envoy counts an answer that never came among these.
        let without_answer = [RetryTrigger::Error5xx, RetryTrigger::GatewayError, RetryTrigger::Reset];
        attempts.reset |= without_answer.contains(trigger);
    }
    attempts.status_codes.sort_unstable();
    attempts.status_codes.dedup();
}

/// Fields without effect, below `backendSettings`.
pub(super) fn ignored(settings: &ClusterSettings) -> Vec<String> {
    let timeout = settings.timeout.as_ref();
    let http = timeout.and_then(|timeout| timeout.http.as_ref());
    let retry = settings.retry.as_ref();
    let known = [
        ("timeout.tcp", timeout.is_some_and(|timeout| timeout.tcp.is_some())),
        ("timeout.http.connectionIdleTimeout", http.is_some_and(|http| http.connection_idle_timeout.is_some())),
        ("timeout.http.maxConnectionDuration", http.is_some_and(|http| http.max_connection_duration.is_some())),
        ("timeout.http.maxStreamDuration", http.is_some_and(|http| http.max_stream_duration.is_some())),
        ("timeout.http.streamIdleTimeout", http.is_some_and(|http| http.stream_idle_timeout.is_some())),
        ("retry.numAttemptsPerPriority", retry.is_some_and(|retry| retry.num_attempts_per_priority.is_some())),
        ("circuitBreaker", settings.circuit_breaker.is_some()),
    ];
    let known = known.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field.to_owned());
    known.chain(settings.unsupported.keys().cloned()).collect()
}

//! How filters try again to reach the backend of their policy.

use controller_api::cluster_settings::Retry;
use envoy_types::pb::envoy::config::core::v3::{BackoffStrategy, RetryPolicy};

use crate::xds::value::{millis, uint32};

/// What a policy's `backendSettings.retry` says.
pub(super) fn retry_policy(retry: &Retry) -> RetryPolicy {
    let triggers = retry.retry_on.iter().flat_map(|on| &on.triggers).map(|trigger| trigger.as_str());
    let back_off = retry.per_retry.as_ref().and_then(|per_retry| per_retry.back_off.as_ref());
    // Envoy refuses a longest pause below the base.
    let back_off = back_off.and_then(|back_off| {
        let base = back_off.base_interval?.as_millis().max(1);
        let longest = back_off.max_interval.map(|longest| millis(longest.as_millis().max(base)));
        Some(BackoffStrategy { base_interval: Some(millis(base)), max_interval: longest })
    });
    RetryPolicy {
        retry_on: triggers.collect::<Vec<_>>().join(","),
        num_retries: retry.num_retries.and_then(uint32),
        retry_back_off: back_off,
        ..Default::default()
    }
}

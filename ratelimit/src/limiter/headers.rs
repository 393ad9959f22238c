//! What clients are told about their limit.

use envoy_types::pb::envoy::{
    config::core::v3::HeaderValue,
    service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus},
};

/// Names of the response headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Carries `requests_per_unit`.
    pub limit: String,
    /// Carries the hits left in this window.
    pub remaining: String,
    /// Carries the seconds until the window ends.
    pub reset: String,
}

impl Headers {
    /// About the last descriptor over its limit, else about the first one with the least remaining.
    pub(super) fn of(&self, statuses: &[DescriptorStatus]) -> Vec<HeaderValue> {
        let limited = || statuses.iter().filter_map(|status| Some((status, status.current_limit.as_ref()?)));
        let over = limited().rfind(|(status, _)| status.code() == Code::OverLimit);
        let Some((status, limit)) = over.or_else(|| limited().min_by_key(|(status, _)| status.limit_remaining)) else {
            return vec![];
        };
        let reset = status.duration_until_reset.as_ref().map_or(0, |duration| duration.seconds);
        let header = |key: &str, value: String| HeaderValue { key: key.to_owned(), value, ..HeaderValue::default() };
        vec![
            header(&self.limit, limit.requests_per_unit.to_string()),
            header(&self.remaining, status.limit_remaining.to_string()),
            header(&self.reset, reset.to_string()),
        ]
    }
}

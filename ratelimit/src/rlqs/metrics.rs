//! What the quota service tells about itself.

use ::metrics::{Counter, Gauge, counter, gauge};

/// Counters and gauges of the quota service.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    /// Streams that are open.
    pub(super) clients: Gauge,
    /// Limits that are divided.
    pub(super) buckets: Gauge,
    /// Requests that clients report.
    pub(super) allowed: Counter,
    pub(super) denied: Counter,
    pub(super) assigned_share: Counter,
    pub(super) assigned_allow: Counter,
    pub(super) assigned_deny: Counter,
    pub(super) abandoned: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let reported = |result: &'static str| counter!("ratelimit_rlqs_reported_requests", "result" => result);
        let assigned = |kind: &'static str| counter!("ratelimit_rlqs_assignments", "kind" => kind);
        Self {
            clients: gauge!("ratelimit_rlqs_clients"),
            buckets: gauge!("ratelimit_rlqs_buckets"),
            allowed: reported("allowed"),
            denied: reported("denied"),
            assigned_share: assigned("share"),
            assigned_allow: assigned("allow_all"),
            assigned_deny: assigned("deny_all"),
            abandoned: assigned("abandon"),
        }
    }
}

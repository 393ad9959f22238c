//! What leases save, and what they could cost.

use metrics::{Counter, Gauge, counter, gauge};

#[derive(Debug)]
pub(super) struct Metrics {
    /// Requests by who decided them.
    pub(super) by_lease: Counter,
    pub(super) by_denial: Counter,
    pub(super) by_store: Counter,
    /// What was asked of Redis.
    pub(super) charge_calls: Counter,
    pub(super) renew_calls: Counter,
    pub(super) return_calls: Counter,
    pub(super) greet_calls: Counter,
    pub(super) assert_calls: Counter,
    /// Hits debited and not spent yet.
    pub(super) outstanding: Gauge,
    /// Hits that would be admitted above limits if this replica and the counts in Redis were lost at once.
    pub(super) bound: Gauge,
    /// Counters in the ledger.
    pub(super) counters: Gauge,
    /// Hits above a limit, as told by Redis.
    pub(super) overshoot: Counter,
    /// Charges that the ledger had no room for.
    pub(super) unremembered: Counter,
    /// Epochs seen.
    pub(super) epochs: Counter,
    pub(super) members: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let decided = |by: &'static str| counter!("ratelimit_lease_decisions", "by" => by);
        let calls = |kind: &'static str| counter!("ratelimit_lease_store_operations", "kind" => kind);
        Self {
            by_lease: decided("lease"),
            by_denial: decided("denial"),
            by_store: decided("store"),
            charge_calls: calls("charge"),
            renew_calls: calls("renew"),
            return_calls: calls("return"),
            greet_calls: calls("greet"),
            assert_calls: calls("assert"),
            outstanding: gauge!("ratelimit_lease_outstanding_hits"),
            bound: gauge!("ratelimit_lease_overadmission_bound_hits"),
            counters: gauge!("ratelimit_lease_counters"),
            overshoot: counter!("ratelimit_lease_overshoot_hits"),
            unremembered: counter!("ratelimit_lease_unremembered_charges"),
            epochs: counter!("ratelimit_lease_epochs"),
            members: gauge!("ratelimit_lease_members"),
        }
    }
}

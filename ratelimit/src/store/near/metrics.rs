//! What the near-cache saves, in upstream's names.

use metrics::{Counter, Gauge, counter, gauge};

#[derive(Debug)]
pub(super) struct Metrics {
    /// Counters that were looked for, of which some were found.
    pub(super) lookups: Counter,
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    /// Counters that are remembered, some of which may have ended.
    pub(super) entries: Gauge,
    /// Forgotten to make room.
    pub(super) evacuated: Counter,
    /// Forgotten after their end.
    pub(super) expired: Counter,
    /// Told again before their end.
    pub(super) overwritten: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            lookups: counter!("ratelimit_localcache_lookupCount"),
            hits: counter!("ratelimit_localcache_hitCount"),
            misses: counter!("ratelimit_localcache_missCount"),
            entries: gauge!("ratelimit_localcache_entryCount"),
            evacuated: counter!("ratelimit_localcache_evacuateCount"),
            expired: counter!("ratelimit_localcache_expiredCount"),
            overwritten: counter!("ratelimit_localcache_overwriteCount"),
        }
    }
}

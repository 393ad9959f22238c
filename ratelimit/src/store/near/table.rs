//! A bounded memory of counters.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::metrics::Metrics;
use crate::key::Key;

/// Entries that a key may lie in.
const WAYS: usize = 8;

/// Counters that are used up, of one process. Takes all its memory at once; each few entries have a lock of their own.
#[derive(Debug)]
pub struct Table {
    sets: Vec<Mutex<[Entry; WAYS]>>,
    /// How often hits were given back. A count that was told before may be too high after.
    refunds: AtomicU64,
    /// Milliseconds after which a count is asked for again.
    longest: u64,
    start: Instant,
    metrics: Metrics,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// In halves, which need no padding.
    key: [u64; 2],
    count: u64,
    /// In milliseconds since the start; zero for none.
    end: u64,
}

const NONE: Entry = Entry { key: [0; 2], count: 0, end: 0 };

impl Table {
    /// Takes about so many bytes. Counts are believed for as long as `longest`, if their windows last longer.
    pub fn new(bytes: usize, longest: Option<Duration>) -> Self {
        let sets = (bytes / size_of::<Mutex<[Entry; WAYS]>>()).max(1);
        Self {
            sets: (0..sets).map(|_| Mutex::new([NONE; WAYS])).collect(),
            refunds: AtomicU64::new(0),
            longest: longest.map_or(u64::MAX, millis),
            start: Instant::now(),
            metrics: Metrics::new(),
        }
    }

    /// Milliseconds since the start.
    pub(super) fn now(&self) -> u64 {
        // Never the zero of what has no end.
        millis(self.start.elapsed()) + 1
    }

    pub(super) fn refunds(&self) -> u64 {
        self.refunds.load(Relaxed)
    }

    /// A counter and the seconds that its window lasts, rounded up.
    pub(super) fn find(&self, key: Key, now: u64) -> Option<(u64, u32)> {
        self.metrics.lookups.increment(1);
        let found = self.look(key, now);
        let counted = if found.is_some() { &self.metrics.hits } else { &self.metrics.misses };
        counted.increment(1);
        found
    }

    fn look(&self, key: Key, now: u64) -> Option<(u64, u32)> {
        let key = halves(key);
        let mut entries = self.set(key)?.lock();
        let entry = entries.iter_mut().find(|entry| entry.end > 0 && entry.key == key)?;
        if entry.end <= now {
            *entry = NONE;
            self.metrics.expired.increment(1);
            self.metrics.entries.decrement(1);
            return None;
        }
        Some((entry.count, u32::try_from((entry.end - now).div_ceil(1000)).unwrap_or(u32::MAX)))
    }

    /// Remembers a count that was asked for at `sent`, after so many refunds, in place of what ends first. Does not if hits
    /// have been given back since.
    pub(super) fn insert(&self, key: Key, count: u64, end: u64, sent: u64, refunds: u64) {
        let key = halves(key);
        let end = end.min(sent.saturating_add(self.longest));
        let now = self.now();
        let Some(ways) = self.set(key) else { return };
        let mut entries = ways.lock();
        if end <= now || self.refunds() != refunds {
            return;
        }
        let old = entries.iter().position(|entry| entry.end > 0 && entry.key == key);
        let Some(at) = old.or_else(|| (0..WAYS).min_by_key(|at| entries.get(*at).map(|entry| entry.end))) else {
            return;
        };
        let Some(entry) = entries.get_mut(at) else { return };
        match entry.end {
            0 => self.metrics.entries.increment(1),
            _ if old.is_some() => self.metrics.overwritten.increment(1),
            ended if ended <= now => self.metrics.expired.increment(1),
            _ => self.metrics.evacuated.increment(1),
        }
        *entry = Entry { key, count, end };
    }

    /// Forgets a counter, and what is still to be told about any.
    pub(super) fn remove(&self, key: Key) {
        let key = halves(key);
        let Some(set) = self.set(key) else { return };
        let mut entries = set.lock();
        self.refunds.fetch_add(1, Relaxed);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.end > 0 && entry.key == key) {
            *entry = NONE;
            self.metrics.entries.decrement(1);
        }
    }

    fn set(&self, key: [u64; 2]) -> Option<&Mutex<[Entry; WAYS]>> {
        let at = key[1] % u64::try_from(self.sets.len()).unwrap_or(1);
        self.sets.get(usize::try_from(at).ok()?)
    }
}

fn halves(Key(key): Key) -> [u64; 2] {
    [0, 64].map(|by| u64::try_from(key >> by & u128::from(u64::MAX)).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: u64 = 1 << 40;

    fn key(number: u128) -> Key {
        Key(number << 64 | number)
    }

    #[test]
    fn it_takes_the_bytes_it_may_and_forgets_what_ends_first() {
        let table = Table::new(512 << 10, None);
        assert!(size_of::<Mutex<[Entry; WAYS]>>() <= 264 && (1980..=2048).contains(&table.sets.len()));
        let one = Table::new(0, None);
        for number in 0..9 {
            one.insert(key(number), 5, LATE - 1000 * u64::try_from(number).unwrap_or(0), 1, 0);
        }
        let known: Vec<_> = (0..9).filter(|number| one.find(key(*number), 1).is_some()).collect();
        assert_eq!(known, [0, 1, 2, 3, 4, 5, 6, 8]);
    }

    #[test]
    fn counts_end_with_their_windows_or_before() {
        let table = Table::new(1000, Some(Duration::from_hours(1)));
        table.insert(key(1), 5, 500_000, 1, 0);
        assert_eq!(table.find(key(1), 499_000), Some((5, 1)));
        assert_eq!(table.find(key(1), 498_999), Some((5, 2)));
        assert_eq!(table.find(key(1), 500_000), None);
        table.insert(key(2), 5, LATE, 1, 0);
        assert!(table.find(key(2), 3_600_000).is_some() && table.find(key(2), 3_600_001).is_none());
    }

    #[test]
    fn a_count_from_before_a_refund_is_not_believed() {
        let table = Table::new(1000, None);
        let before = table.refunds();
        table.insert(key(1), 5, LATE, 1, before);
        table.remove(key(1));
        assert!(table.find(key(1), 1).is_none());
        table.insert(key(1), 5, LATE, 1, before);
        assert!(table.find(key(1), 1).is_none());
        table.insert(key(1), 5, LATE, 1, table.refunds());
        assert!(table.find(key(1), 1).is_some());
    }
}

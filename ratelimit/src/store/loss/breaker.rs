//! When a store counts as lost.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// So many failures in a row open it.
const MOST_FAILURES: u32 = 5;
/// Fewer do when they span this time.
const LONGEST_FAILING: Duration = Duration::from_millis(100);
/// Parts of a store with a breaker of their own; in a larger one, some share theirs.
const PARTS: usize = 256;

/// One for each part of a store.
#[derive(Debug)]
pub(super) struct Breakers {
    first: Breaker,
    further: Vec<Breaker>,
}

impl Breakers {
    pub(super) fn new(start: Instant) -> Self {
        Self { first: Breaker::new(start), further: (1..PARTS).map(|_| Breaker::new(start)).collect() }
    }

    pub(super) fn of(&self, part: usize) -> &Breaker {
        (part % PARTS).checked_sub(1).and_then(|place| self.further.get(place)).unwrap_or(&self.first)
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        [&self.first].into_iter().chain(&self.further).filter(|breaker| breaker.is_open()).count()
    }
}

/// Opens after failures in a row. Without locks; threads that race open it once.
#[derive(Debug)]
pub(super) struct Breaker {
    open: AtomicBool,
    /// In a row.
    failures: AtomicU32,
    /// When the first of them was, in milliseconds since `start`.
    first: AtomicU64,
    start: Instant,
}

impl Breaker {
    pub(super) fn new(start: Instant) -> Self {
        Self { open: AtomicBool::new(false), failures: AtomicU32::new(0), first: AtomicU64::new(0), start }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    pub(super) fn succeeded(&self) {
        // Most often nothing has failed, and what is only read is not passed between the cores' caches.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Returns whether this failure has opened it.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let now = u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX);
        let before = self.failures.fetch_add(1, Relaxed);
        if before == 0 {
            self.first.store(now, Relaxed);
        }
        let failing = Duration::from_millis(now.saturating_sub(self.first.load(Relaxed)));
        let opens = before + 1 >= MOST_FAILURES || failing >= LONGEST_FAILING;
        opens && !self.open.swap(true, Relaxed)
    }

    pub(super) fn close(&self) {
        self.failures.store(0, Relaxed);
        self.open.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it_once() {
        let now = Instant::now();
        let breaker = Breaker::new(now);
        for _ in 0..4 {
            assert!(!breaker.failed(now));
        }
        breaker.succeeded();
        let opened: Vec<_> = (0..7).map(|_| breaker.failed(now)).collect();
        assert_eq!(opened, [false, false, false, false, true, false, false]);
        assert!(breaker.is_open());
        breaker.succeeded();
        assert!(breaker.is_open(), "an answer that was on its way says nothing");
        breaker.close();
        assert!(!breaker.is_open() && !breaker.failed(now));
    }

    #[test]
    fn two_failures_open_it_when_nothing_succeeded_for_long() {
        let now = Instant::now();
        let breaker = Breaker::new(now);
        assert!(!breaker.failed(now));
        assert!(!breaker.failed(now + Duration::from_millis(99)));
        assert!(breaker.failed(now + Duration::from_millis(100)));
    }
}

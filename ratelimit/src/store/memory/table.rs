//! Counters of one algorithm.

use hashbrown::HashTable;

use crate::{
    key::Key,
    store::{Charge, Outcome, algorithm::State},
};

/// Least pause between two looks through a table that is as full as it may be, in milliseconds.
const SWEEP_PAUSE: u64 = 1000;

/// Counters by the hash of their keys. Those that have ended are removed when there is no room left.
#[derive(Debug)]
pub(super) struct Table<S> {
    counters: HashTable<Counter<S>>,
    /// No counter ends before.
    first_end: u64,
    /// When it was last looked through.
    swept: u64,
}

#[derive(Debug)]
struct Counter<S> {
    /// Two halves, so that it takes no more room than its bits.
    key: [u64; 2],
    /// When it counts nothing any more, in milliseconds since the epoch.
    end: u64,
    state: S,
}

/// What a shard wants of its tables.
pub(super) trait Counters {
    /// Decides about a charge that is alone in its request, if its counter is here, and counts it. Returns the outcome but for
    /// its time, and when the counter ends.
    fn charge(&mut self, charge: &Charge, hash: u64, now: u64) -> Option<(Outcome, u64)>;

    /// Hits that count now, and until when they do.
    fn count(&self, charge: &Charge, hash: u64, now: u64) -> (u64, u64);

    /// Whether adding the charge would make a new counter.
    fn is_new(&self, charge: &Charge, hash: u64) -> bool;

    /// Counts the charge, and returns when the counter ends. `hash_of` hashes keys when the table grows.
    fn add(&mut self, charge: &Charge, hash: u64, now: u64, hash_of: &dyn Fn(Key) -> u64) -> u64;

    /// Removes what has ended, if it is worth another look.
    fn sweep(&mut self, now: u64, hash_of: &dyn Fn(Key) -> u64);

    fn len(&self) -> usize;

    fn bytes(&self) -> usize;
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self { counters: HashTable::new(), first_end: u64::MAX, swept: 0 }
    }
}

impl<S: State> Counters for Table<S> {
    #[inline]
    fn charge(&mut self, charge: &Charge, hash: u64, now: u64) -> Option<(Outcome, u64)> {
        let counter = self.counters.find_mut(hash, |counter| counter.key == halves(charge.key))?;
        let before = if counter.end > now { counter.state.count(charge, now) } else { 0 };
        let outcome = charge.alone(before);
        if outcome.charged {
            self.first_end = self.first_end.min(counter.add(charge, now));
        }
        Some((outcome, counter.end))
    }

    #[inline]
    fn count(&self, charge: &Charge, hash: u64, now: u64) -> (u64, u64) {
        let found = self.counters.find(hash, |counter| counter.key == halves(charge.key));
        let alive = found.filter(|counter| counter.end > now);
        alive.map_or((0, 0), |counter| (counter.state.count(charge, now), counter.end))
    }

    fn is_new(&self, charge: &Charge, hash: u64) -> bool {
        charge.hits > 0 && self.counters.find(hash, |counter| counter.key == halves(charge.key)).is_none()
    }

    #[inline]
    fn add(&mut self, charge: &Charge, hash: u64, now: u64, hash_of: &dyn Fn(Key) -> u64) -> u64 {
        let key = halves(charge.key);
        if let Some(counter) = self.counters.find_mut(hash, |counter| counter.key == key) {
            let end = counter.add(charge, now);
            self.first_end = self.first_end.min(end);
            return end;
        }
        if charge.hits <= 0 {
            return 0;
        }
        let mut state = S::default();
        let end = state.add(charge, 0, now);
        self.grow(now, hash_of);
        self.first_end = self.first_end.min(end);
        self.counters.insert_unique(hash, Counter { key, end, state }, rehash(hash_of));
        end
    }

    fn sweep(&mut self, now: u64, hash_of: &dyn Fn(Key) -> u64) {
        if now >= self.swept.saturating_add(SWEEP_PAUSE) {
            self.remove_ended(now);
            if self.counters.len() < self.counters.capacity() / 4 {
                self.counters.shrink_to(self.counters.len() * 2, rehash(hash_of));
            }
        }
    }

    fn len(&self) -> usize {
        self.counters.len()
    }

    fn bytes(&self) -> usize {
        self.counters.allocation_size()
    }
}

impl<S: State> Counter<S> {
    fn add(&mut self, charge: &Charge, now: u64) -> u64 {
        if self.end <= now {
            (self.state, self.end) = (S::default(), 0);
        }
        self.end = self.state.add(charge, self.end, now);
        self.end
    }
}

impl<S: State> Table<S> {
    /// Makes room for one more: where many have ended, by removing these instead of growing.
    fn grow(&mut self, now: u64, hash_of: &dyn Fn(Key) -> u64) {
        if self.counters.len() < self.counters.capacity() {
            return;
        }
        self.remove_ended(now);
        if self.counters.len() > self.counters.capacity() / 4 * 3 {
            self.counters.reserve(self.counters.len() / 4 + 1, rehash(hash_of));
        }
    }

    fn remove_ended(&mut self, now: u64) {
        if self.first_end > now {
            return;
        }
        let mut first_end = u64::MAX;
        self.counters.retain(|counter| {
            let alive = counter.end > now;
            if alive {
                first_end = first_end.min(counter.end);
            }
            alive
        });
        (self.first_end, self.swept) = (first_end, now);
    }
}

fn rehash<S>(hash_of: &dyn Fn(Key) -> u64) -> impl Fn(&Counter<S>) -> u64 {
    move |counter| {
        let [high, low] = counter.key;
        hash_of(Key(u128::from(high) << 64 | u128::from(low)))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each half is 64 bits")]
fn halves(Key(bits): Key) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

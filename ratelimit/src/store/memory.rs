//! Counters in this process.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hasher},
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::{Mutex, MutexGuard};

use super::{Charge, CounterStore, Outcome, StoreError, is_denied};
use crate::key::Key;

const SHARDS: usize = 64;

/// Sharded counters behind short locks. Memory is bounded: each new counter makes room by removing up to two whose
/// windows have ended, and when all windows still run, new ones are refused while the known ones keep counting.
#[derive(Debug)]
pub struct Memory {
    shards: Vec<Mutex<Shard>>,
    max_counters: usize,
}

#[derive(Debug, Default)]
struct Shard {
    counters: HashMap<u128, Counter, BuildHasherDefault<KeyBits>>,
    /// Keys by the end of a window they were counted in. A key that lives on in a later window is here twice.
    ends: BTreeMap<u64, Vec<u128>>,
}

#[derive(Debug)]
struct Counter {
    count: u64,
    /// End of its window in seconds since the epoch.
    end: u64,
}

impl Memory {
    /// A store of at most about so many counters, about 80 bytes each.
    pub fn new(max_counters: usize) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), max_counters }
    }

    /// Counts as of `now`, in seconds since the epoch.
    fn charge_at(&self, charges: &[Charge], now: u64) -> Result<Vec<Outcome>, StoreError> {
        let mut shards = self.lock(charges);
        let mut apply = |charge: &Charge| {
            let found = shards.binary_search_by_key(&shard_of(charge.key), |(index, _)| *index);
            let (_, shard) = found.ok().and_then(|at| shards.get_mut(at))?;
            shard.charge(charge, window_end(charge, now), now, self.max_counters / SHARDS)
        };
        let counts = charges.iter().map(&mut apply).collect::<Option<Vec<_>>>();
        let counts = counts.ok_or(StoreError::Full(self.max_counters))?;
        let denied = is_denied(charges, &counts);
        let outcomes = charges.iter().zip(counts).map(|(charge, count)| {
            let seconds_left = u32::try_from(window_end(charge, now) - now).unwrap_or(u32::MAX);
            charge.outcome(count, denied, seconds_left)
        });
        let outcomes: Vec<_> = outcomes.collect();
        for (charge, _) in charges.iter().zip(&outcomes).filter(|(charge, outcome)| !outcome.charged && charge.hits > 0)
        {
            apply(&Charge { hits: -charge.hits, ..*charge });
        }
        Ok(outcomes)
    }

    /// The shards of all charges, by index. Everybody locks them in this order, so nobody waits in a circle.
    fn lock(&self, charges: &[Charge]) -> Vec<(usize, MutexGuard<'_, Shard>)> {
        let mut indices: Vec<_> = charges.iter().map(|charge| shard_of(charge.key)).collect();
        indices.sort_unstable();
        indices.dedup();
        indices.into_iter().filter_map(|index| Some((index, self.shards.get(index)?.lock()))).collect()
    }
}

/// The low bits choose the shard; the map uses the others.
fn shard_of(key: Key) -> usize {
    (key.0 % SHARDS as u128) as usize
}

/// End of the charge's window in seconds since the epoch.
fn window_end(charge: &Charge, now: u64) -> u64 {
    let window = u64::from(charge.window.max(1));
    now - now % window + window
}

impl CounterStore for Memory {
    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.charge_at(charges, now)
    }
}

impl Shard {
    /// The count after the charge, `None` when a new counter would be one too many.
    fn charge(&mut self, charge: &Charge, end: u64, now: u64, max_counters: usize) -> Option<u64> {
        let key = charge.key.0;
        if let Some(counter) = self.counters.get_mut(&key) {
            // Another thread may have read the clock just before the window ended and come here just after.
            if counter.end == end || counter.end == end + u64::from(charge.window) {
                counter.count = counter.count.saturating_add_signed(charge.hits);
                return Some(counter.count);
            }
        }
        let count = u64::try_from(charge.hits).unwrap_or_default();
        if count == 0 {
            return Some(0);
        }
        self.reclaim(now);
        let full = self.counters.len() >= max_counters;
        match self.counters.entry(key) {
            Entry::Occupied(mut counter) => *counter.get_mut() = Counter { count, end },
            Entry::Vacant(_) if full => return None,
            Entry::Vacant(vacant) => drop(vacant.insert(Counter { count, end })),
        }
        self.ends.entry(end).or_default().push(key);
        Some(count)
    }

    /// Looks at two keys whose windows have ended and removes those that did not live on.
    fn reclaim(&mut self, now: u64) {
        for _ in 0..2 {
            let Some(mut oldest) = self.ends.first_entry().filter(|oldest| *oldest.key() <= now) else { return };
            if let Some(key) = oldest.get_mut().pop()
                && self.counters.get(&key).is_some_and(|counter| counter.end <= now)
            {
                self.counters.remove(&key);
            }
            if oldest.get().is_empty() {
                oldest.remove();
            }
        }
    }
}

/// Keys are hashes already.
#[derive(Default)]
struct KeyBits(u64);

impl Hasher for KeyBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = (key >> 64) as u64;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::store::{Algorithm, Denies, OnStoreLoss, Undo};

    fn charge(key: u128, hits: i64, window: u32) -> Charge {
        Charge {
            key: Key(key << 64),
            hits,
            limit: 0,
            denies: Denies::Nothing,
            undo: Undo::Never,
            algorithm: Algorithm::FixedWindow,
            window,
            on_store_loss: OnStoreLoss::Error,
        }
    }

    fn count(store: &Memory, charge: Charge, now: u64) -> u64 {
        store.charge_at(&[charge], now).unwrap().first().unwrap().count
    }

    fn counters(store: &Memory) -> usize {
        store.shards.iter().map(|shard| shard.lock().counters.len()).sum()
    }

    #[test]
    fn windows_are_aligned_to_the_epoch() {
        let store = Memory::new(1000);
        let outcome = store.charge_at(&[charge(1, 1, 60)], 119).unwrap();
        assert_eq!(outcome, [Outcome { count: 1, charged: true, seconds_left: 1 }]);
        let outcome = store.charge_at(&[charge(1, 1, 60)], 120).unwrap();
        assert_eq!(outcome, [Outcome { count: 1, charged: true, seconds_left: 60 }]);
    }

    #[test]
    fn a_late_thread_counts_in_the_window_that_has_begun() {
        let store = Memory::new(1000);
        assert_eq!(count(&store, charge(1, 1, 60), 120), 1);
        assert_eq!(count(&store, charge(1, 1, 60), 119), 2);
        assert_eq!(count(&store, charge(1, 1, 60), 120), 3);
    }

    #[test]
    fn a_clock_set_back_by_more_than_a_window_starts_anew() {
        let store = Memory::new(1000);
        assert_eq!(count(&store, charge(1, 5, 60), 10_000), 5);
        assert_eq!(count(&store, charge(1, 1, 60), 1_000), 1);
    }

    #[test]
    fn ended_windows_make_room_for_new_ones() {
        let store = Memory::new(10 * SHARDS);
        for now in 0..10_000 {
            count(&store, charge(u128::from(now), 1, 1), now);
        }
        assert!(counters(&store) <= 2, "{} counters are left", counters(&store));
    }

    #[test]
    fn a_counter_that_lives_on_is_not_reclaimed() {
        let store = Memory::new(100 * SHARDS);
        assert_eq!(count(&store, charge(1, 1, 10), 0), 1);
        assert_eq!(count(&store, charge(1, 1, 10), 10), 1);
        for other in 2..20 {
            count(&store, charge(other, 1, 1), 11);
        }
        assert_eq!(count(&store, charge(1, 1, 10), 12), 2);
    }

    #[test]
    fn full_of_running_windows_refuses_new_counters_only() {
        let store = Memory::new(2 * SHARDS);
        assert_eq!(count(&store, charge(1, 1, 60), 0), 1);
        assert_eq!(count(&store, charge(2, 1, 60), 0), 1);
        assert!(matches!(store.charge_at(&[charge(3, 1, 60)], 0), Err(StoreError::Full(_))));
        assert_eq!(count(&store, charge(1, 1, 60), 0), 2);
        assert_eq!(count(&store, charge(3, 0, 60), 0), 0, "reading needs no room");
        assert_eq!(count(&store, charge(3, 1, 60), 60), 1);
    }
}

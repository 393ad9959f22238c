//! Counters in this process.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};

use self::table::{Counters, Table};
use super::{
    Algorithm, Charge, CounterStore, Outcome, StoreError,
    algorithm::{Buckets, Fixed, Gcra, window_end},
    is_denied,
};
use crate::key::Key;

mod table;

const SHARDS: usize = 64;

/// Sharded counters behind short locks. Memory is bounded: room is made by removing counters that count nothing any more,
/// and when all still do, new ones are refused while the known ones keep counting.
#[derive(Debug)]
pub struct Memory {
    shards: Vec<Mutex<Shard>>,
    max_counters: usize,
    clock: Clock,
    /// Random for each process, so that nobody can choose values that fall into one shard or next to each other.
    seed: ahash::RandomState,
}

#[derive(Debug, Default)]
struct Shard {
    fixed: Table<Fixed>,
    buckets: Table<Buckets>,
    gcra: Table<Gcra>,
}

/// Wall time at the start, and from there on the time that has really passed: the wall clock may jump, windows do not.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start: Instant,
    /// Milliseconds since the epoch at the start.
    wall: u64,
}

impl Clock {
    fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), wall: u64::try_from(since.as_millis()).unwrap_or_default() }
    }

    /// Milliseconds since the epoch.
    fn now(self) -> u64 {
        self.wall.saturating_add(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl Memory {
    /// A store of at most about so many counters.
    pub fn new(max_counters: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            max_counters,
            clock: Clock::start(),
            seed: ahash::RandomState::new(),
        }
    }

    /// What [`CounterStore::charge`] does, without waiting.
    pub fn charge_now(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        self.charge_at(charges, self.clock.now())
    }

    /// Counts as of `now`, in milliseconds since the epoch. It should not run backwards; where it does, by a few threads that
    /// overtake each other or by more, counters go by the latest time they have seen.
    pub fn charge_at(&self, charges: &[Charge], now: u64) -> Result<Vec<Outcome>, StoreError> {
        match charges {
            [charge] => self.charge_one(charge, now).map(|outcome| vec![outcome]),
            charges => self.charge_all(charges, now),
        }
    }

    /// Bytes that the tables of counters take.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes()).sum()
    }

    /// One known counter needs one lock and one look-up.
    fn charge_one(&self, charge: &Charge, now: u64) -> Result<Outcome, StoreError> {
        let hash = self.hash(charge.key);
        let shard = self.shards.get(shard_of(hash)).ok_or(StoreError::Full(self.max_counters))?;
        let mut shard = shard.lock();
        let (mut outcome, end) = match shard.table(charge.algorithm).charge(charge, hash, now) {
            Some(charged) => charged,
            None => self.charge_new(&mut shard, charge, hash, now)?,
        };
        outcome.seconds_left = seconds_left(charge, end, now);
        Ok(outcome)
    }

    /// Charges a counter that is not in the shard.
    fn charge_new(
        &self,
        shard: &mut Shard,
        charge: &Charge,
        hash: u64,
        now: u64,
    ) -> Result<(Outcome, u64), StoreError> {
        let outcome = charge.alone(0);
        if !outcome.charged || charge.hits <= 0 {
            return Ok((outcome, 0));
        }
        self.make_room(shard, 1, now)?;
        Ok((outcome, shard.table(charge.algorithm).add(charge, hash, now, &|key| self.hash(key))))
    }

    fn charge_all(&self, charges: &[Charge], now: u64) -> Result<Vec<Outcome>, StoreError> {
        let hashes: Vec<_> = charges.iter().map(|charge| self.hash(charge.key)).collect();
        let mut shards = self.lock(&hashes);
        let counts = shards.counts(charges, &hashes, now);
        let denied = is_denied(charges, &counts);
        let outcomes = charges.iter().zip(counts).map(|(charge, count)| charge.outcome(count, denied, 0));
        let mut outcomes: Vec<_> = outcomes.collect();
        // Room for all before any is counted: a store that is full charges nothing.
        for (index, shard) in &mut shards.0 {
            let here = charges.iter().zip(&hashes).zip(&outcomes);
            let here = here.filter(|((_, hash), outcome)| shard_of(**hash) == *index && outcome.charged);
            let more = here.filter(|((charge, hash), _)| shard.table(charge.algorithm).is_new(charge, **hash)).count();
            self.make_room(shard, more, now)?;
        }
        for ((charge, hash), outcome) in charges.iter().zip(hashes).zip(&mut outcomes) {
            let Some(table) = shards.table(charge, hash) else { continue };
            let end = if outcome.charged && charge.hits != 0 {
                table.add(charge, hash, now, &|key| self.hash(key))
            } else {
                table.count(charge, hash, now).1
            };
            outcome.seconds_left = seconds_left(charge, end, now);
        }
        Ok(outcomes)
    }

    fn make_room(&self, shard: &mut Shard, more: usize, now: u64) -> Result<(), StoreError> {
        let most = self.max_counters.div_ceil(SHARDS);
        if more > 0 && shard.len() + more > most {
            shard.tables().into_iter().for_each(|table| table.sweep(now, &|key| self.hash(key)));
        }
        if more > 0 && shard.len() + more > most { Err(StoreError::Full(self.max_counters)) } else { Ok(()) }
    }

    fn hash(&self, key: Key) -> u64 {
        self.seed.hash_one(key.0)
    }

    /// The shards of all hashes, by index. Everybody locks them in this order, so nobody waits in a circle.
    fn lock(&self, hashes: &[u64]) -> Locked<'_> {
        let mut indices: Vec<_> = hashes.iter().map(|hash| shard_of(*hash)).collect();
        indices.sort_unstable();
        indices.dedup();
        Locked(indices.into_iter().filter_map(|index| Some((index, self.shards.get(index)?.lock()))).collect())
    }
}

impl CounterStore for Memory {
    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        self.charge_now(charges)
    }
}

/// The shards of a request.
struct Locked<'m>(Vec<(usize, MutexGuard<'m, Shard>)>);

impl Locked<'_> {
    /// What each counter would be if all charges stayed. One that is charged twice goes on from its first charge.
    fn counts(&mut self, charges: &[Charge], hashes: &[u64], now: u64) -> Vec<u64> {
        let mut counts: Vec<u64> = Vec::with_capacity(charges.len());
        for (charge, hash) in charges.iter().zip(hashes) {
            let earlier = charges.iter().zip(&counts).rfind(|(earlier, _)| earlier.key == charge.key);
            let before = match earlier {
                Some((_, count)) => *count,
                None => self.table(charge, *hash).map_or(0, |table| table.count(charge, *hash, now).0),
            };
            counts.push(before.saturating_add_signed(charge.hits));
        }
        counts
    }

    fn table(&mut self, charge: &Charge, hash: u64) -> Option<&mut dyn Counters> {
        let found = self.0.binary_search_by_key(&shard_of(hash), |(index, _)| *index);
        let (_, shard) = found.ok().and_then(|at| self.0.get_mut(at))?;
        Some(shard.table(charge.algorithm))
    }
}

impl Shard {
    #[inline]
    fn table(&mut self, algorithm: Algorithm) -> &mut dyn Counters {
        match algorithm {
            Algorithm::FixedWindow => &mut self.fixed,
            Algorithm::SlidingWindow | Algorithm::Concurrency => &mut self.buckets,
            Algorithm::Gcra { .. } => &mut self.gcra,
        }
    }

    fn tables(&mut self) -> [&mut dyn Counters; 3] {
        [&mut self.fixed, &mut self.buckets, &mut self.gcra]
    }

    fn len(&self) -> usize {
        self.fixed.len() + self.buckets.len() + self.gcra.len()
    }

    fn bytes(&self) -> usize {
        self.fixed.bytes() + self.buckets.bytes() + self.gcra.bytes()
    }
}

/// Bits that the tables do not look at first.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

/// Whole seconds until the counter counts nothing, at least one.
fn seconds_left(charge: &Charge, end: u64, now: u64) -> u32 {
    let end = if charge.algorithm == Algorithm::FixedWindow { window_end(charge, now) } else { end };
    u32::try_from(end.saturating_sub(now).div_ceil(1000).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::store::{Denies, OnStoreLoss, Undo};

    fn charge(key: u128, hits: i64, window: u32) -> Charge {
        Charge {
            key: Key(key),
            hits,
            limit: 0,
            denies: Denies::Nothing,
            undo: Undo::Never,
            algorithm: Algorithm::FixedWindow,
            window,
            on_store_loss: OnStoreLoss::Error,
            leases: true,
        }
    }

    fn count(store: &Memory, charge: Charge, now: u64) -> u64 {
        store.charge_at(&[charge], now).unwrap().first().unwrap().count
    }

    fn counters(store: &Memory) -> usize {
        store.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    #[test]
    fn windows_are_aligned_to_the_epoch() {
        let store = Memory::new(1000);
        for (now, outcome) in [
            (118_500, Outcome { count: 1, charged: true, seconds_left: 2, near: false }),
            (119_999, Outcome { count: 2, charged: true, seconds_left: 1, near: false }),
            (120_000, Outcome { count: 1, charged: true, seconds_left: 60, near: false }),
        ] {
            assert_eq!(store.charge_at(&[charge(1, 1, 60)], now).unwrap(), [outcome]);
        }
    }

    #[test]
    fn a_late_thread_counts_in_the_window_that_has_begun() {
        let store = Memory::new(1000);
        assert_eq!(count(&store, charge(1, 1, 60), 120_000), 1);
        assert_eq!(count(&store, charge(1, 1, 60), 119_999), 2);
        assert_eq!(count(&store, charge(1, 1, 60), 120_000), 3);
    }

    #[test]
    fn r17_the_clock_goes_by_time_that_has_passed() {
        let clock = Clock { start: Instant::now(), wall: 5_000 };
        let (early, late) = (clock.now(), clock.now());
        assert!(5_000 <= early && early <= late && late < 5_000 + 60_000, "{early} {late}");
    }

    #[test]
    fn r17_a_time_that_was_before_never_resets_a_counter() {
        let store = Memory::new(1000);
        for (key, algorithm) in [
            (1, Algorithm::FixedWindow),
            (2, Algorithm::SlidingWindow),
            (3, Algorithm::Gcra { per_window: 5 }),
            (4, Algorithm::Concurrency),
        ] {
            let charge = Charge { algorithm, limit: 100, ..charge(key, 5, 60) };
            assert_eq!(count(&store, charge, 7_200_000), 5);
            assert_eq!(count(&store, charge, 3_600_000), 10, "{algorithm:?} an hour before");
            assert_eq!(count(&store, charge, 7_200_000), 15, "{algorithm:?}");
        }
    }

    #[test]
    fn ended_windows_make_room_for_new_ones() {
        let store = Memory::new(10 * SHARDS);
        for second in 0..10_000 {
            count(&store, charge(u128::from(second), 1, 1), second * 1000);
        }
        assert!(counters(&store) <= 4 * SHARDS, "{} counters are left", counters(&store));
    }

    #[test]
    fn a_counter_that_lives_on_is_not_removed() {
        let store = Memory::new(SHARDS);
        assert_eq!(count(&store, charge(1, 1, 10), 0), 1);
        assert_eq!(count(&store, charge(1, 1, 10), 10_000), 1);
        for other in 2..2000 {
            store.charge_at(&[charge(other, 1, 1)], 11_000).ok();
        }
        assert_eq!(count(&store, charge(1, 1, 10), 12_000), 2);
    }

    /// Two keys of one shard.
    fn neighbours(store: &Memory) -> (u128, u128) {
        let shard = |key| shard_of(store.hash(Key(key)));
        (1, (2..u128::MAX).find(|key| shard(*key) == shard(1)).unwrap())
    }

    #[test]
    fn full_of_running_windows_refuses_new_counters_only() {
        let store = Memory::new(SHARDS);
        let (known, new) = neighbours(&store);
        assert_eq!(count(&store, charge(known, 1, 60), 0), 1);
        assert!(matches!(store.charge_at(&[charge(new, 1, 60)], 0), Err(StoreError::Full(_))));
        assert_eq!(count(&store, charge(known, 1, 60), 0), 2);
        assert_eq!(count(&store, charge(new, 0, 60), 0), 0, "reading needs no room");
        assert_eq!(count(&store, charge(new, -1, 60), 0), 0, "nor does giving back");
        let denied = Charge { denies: Denies::Alone, undo: Undo::Denied, ..charge(new, 1, 60) };
        assert_eq!(count(&store, denied, 0), 1, "nor what is denied and costs nothing");
        assert_eq!(count(&store, charge(new, 1, 60), 60_000), 1);
    }

    #[test]
    fn a_store_that_is_full_half_way_charges_nothing() {
        let store = Memory::new(SHARDS);
        let (known, new) = neighbours(&store);
        let elsewhere =
            (2..u128::MAX).find(|key| shard_of(store.hash(Key(*key))) != shard_of(store.hash(Key(known)))).unwrap();
        assert_eq!(count(&store, charge(known, 1, 60), 0), 1);
        for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
            let charges = [charge(elsewhere, 1, 60), charge(known, 1, 60), charge(new, 1, 60)];
            let charges = charges.map(|charge| Charge { algorithm, ..charge });
            let all = [charge(known, 1, 60), charges[0], charges[2]];
            assert!(matches!(store.charge_at(&all, 0), Err(StoreError::Full(_))), "{algorithm:?}");
            assert_eq!(count(&store, charge(known, 0, 60), 0), 1);
            assert_eq!(count(&store, Charge { hits: 0, ..charges[0] }, 0), 0, "{algorithm:?}");
        }
    }

    /// In the worst case, just after a table has grown, and just before.
    #[test]
    fn a_fixed_window_takes_at_most_100_bytes() {
        let store = Memory::new(usize::MAX);
        let mut most = 0;
        for key in 0..200_000 {
            count(&store, charge(key, 1, 60), 0);
            if key >= 100_000 && key % 1000 == 0 {
                most = most.max(store.bytes() / usize::try_from(key).unwrap());
            }
        }
        assert!((30..=100).contains(&most), "{most} bytes");
    }

    #[test]
    fn l4_unique_values_leave_memory_flat() {
        let store = Memory::new(20_000);
        let mut most = 0;
        for key in 0..200_000_u32 {
            // 1,000 requests a second, each with a value of its own, and windows of ten seconds.
            count(&store, charge(key.into(), 1, 10), u64::from(key));
            most = if key % 1000 == 0 { most.max(store.bytes()) } else { most };
        }
        assert!(most <= 20_000 * 100, "{most} bytes");
    }

    #[test]
    fn l3_shards_are_not_chosen_by_clients() {
        let shards = |store: &Memory| (0..100).map(|key| shard_of(store.hash(Key(key << 64)))).collect::<Vec<_>>();
        assert_ne!(shards(&Memory::new(1)), shards(&Memory::new(1)));
    }
}

//! Decisions of one replica alone.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::known::Known;
use crate::{
    key::Key,
    store::{Algorithm, Charge, Memory, OnStoreLoss, Outcome, StoreError},
};

/// Stands for every charge that is denied; no descriptor has it.
const DENIED: Key = Key(0);
/// Stands for every charge that is admitted.
const ADMITTED: Key = Key(1);
/// No number of a replica.
const UNNUMBERED: u32 = u32::MAX;

/// What one replica counts and knows while the store is away. All its runtimes share it.
#[derive(Debug)]
pub struct Local {
    counters: Memory,
    known: Known,
    /// How many replicas there are, in the upper half, and which of them this is, from zero.
    replicas: AtomicU64,
    start: Instant,
    /// The store's clock at the start, in milliseconds since the epoch; this machine's until the store has told.
    clock: AtomicU64,
    /// Breakers that are open.
    lost: AtomicUsize,
}

impl Local {
    /// Counts at most about so many counters. There is one replica until [`Local::set_replicas`] says more.
    pub fn new(max_counters: usize) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let local = Self {
            counters: Memory::new(max_counters),
            known: Known::new(),
            replicas: AtomicU64::new(0),
            start: Instant::now(),
            clock: AtomicU64::new(u64::try_from(wall.as_millis()).unwrap_or_default()),
            lost: AtomicUsize::new(0),
        };
        local.set_replicas(1, None);
        local
    }

    /// How many replicas share the limits, and this one's number among them, if it is known. With their numbers they also share
    /// what does not divide evenly; without, nobody has it.
    pub fn set_replicas(&self, count: u32, number: Option<u32>) {
        let number = number.filter(|number| *number < count).unwrap_or(UNNUMBERED);
        self.replicas.store(u64::from(count.max(1)) << 32 | u64::from(number), Relaxed);
    }

    /// How many replicas share the limits.
    pub fn replicas(&self) -> u32 {
        u32::try_from(self.replicas.load(Relaxed) >> 32).unwrap_or(1)
    }

    /// Counts windows by the store's clock, which said `now` at a moment of this process.
    pub fn set_clock(&self, now: u64, at: Instant) {
        self.clock.store(now.saturating_sub(millis(at.saturating_duration_since(self.start))), Relaxed);
    }

    /// Milliseconds since the epoch, on the store's clock as far as it is known.
    pub fn now(&self) -> u64 {
        self.clock.load(Relaxed).saturating_add(millis(self.start.elapsed()))
    }

    /// A breaker has opened. Returns whether it is the first.
    pub(super) fn lose(&self) -> bool {
        self.lost.fetch_add(1, Relaxed) == 0
    }

    /// A breaker has closed. Returns whether it was the last.
    pub(super) fn find(&self) -> bool {
        self.lost.fetch_sub(1, Relaxed) == 1
    }

    /// Remembers what the store told about charges that would be shared without it.
    pub(super) fn learn(&self, charges: &[Charge], outcomes: &[Outcome]) {
        if charges.iter().all(|charge| charge.on_store_loss != OnStoreLoss::Share) {
            return;
        }
        let now = self.start.elapsed().as_secs();
        for (charge, outcome) in charges.iter().zip(outcomes) {
            let taken_back = !outcome.charged && charge.is_over(outcome.count);
            let count = if taken_back { outcome.count.saturating_add_signed(-charge.hits) } else { outcome.count };
            // A second later than it may end, for both were rounded.
            self.known.learn(charge.key, count, now + u64::from(outcome.seconds_left) + 1);
        }
    }

    /// Decides by each charge's `on_store_loss`, as one atomic step. Fails only if one of them wants an error. `debited` tells what this replica took from the store.
    pub(super) fn charge(
        &self,
        charges: &[Charge],
        debited: impl Fn(&Charge) -> u64,
    ) -> Result<Vec<Outcome>, StoreError> {
        if charges.iter().any(|charge| charge.on_store_loss == OnStoreLoss::Error) {
            return Err(StoreError::Lost);
        }
        let stand_ins: Vec<_> = charges.iter().map(|charge| self.stand_in(charge, &debited)).collect();
        let Ok(outcomes) = self.counters.charge_at(&stand_ins, self.now()) else {
            // No room for one more counter: what cannot be counted is not admitted.
            let denied =
                |charge: &Charge| Outcome { count: over(charge), charged: false, seconds_left: 1, near: false };
            return Ok(charges.iter().map(denied).collect());
        };
        let told = charges.iter().zip(stand_ins).zip(outcomes);
        Ok(told.map(|((charge, stand_in), outcome)| tell(charge, &stand_in, outcome)).collect())
    }

    /// What is counted here in place of a charge.
    fn stand_in(&self, charge: &Charge, debited: impl Fn(&Charge) -> u64) -> Charge {
        let fixed = Charge { algorithm: Algorithm::FixedWindow, ..*charge };
        match charge.on_store_loss {
            OnStoreLoss::Share => self.share(charge, debited(charge)),
            OnStoreLoss::Allow => Charge { key: ADMITTED, hits: 0, limit: u32::MAX, ..fixed },
            // Giving back and looking are not denied.
            _ if charge.hits <= 0 => Charge { key: ADMITTED, hits: 0, limit: u32::MAX, ..fixed },
            OnStoreLoss::Error | OnStoreLoss::LeaseOnly | OnStoreLoss::Deny => {
                Charge { key: DENIED, hits: 1, limit: 0, ..fixed }
            }
        }
    }

    /// This replica's share of what was left when the store told last, and later of the whole limit. With what was `debited`
    /// before no more than its part of the limit, so replicas that all keep to their parts keep to the limit.
    fn share(&self, charge: &Charge, debited: u64) -> Charge {
        let known = self.known.count(charge.key, self.start.elapsed().as_secs()).unwrap_or(0);
        let left = charge.limit.saturating_sub(u32::try_from(known).unwrap_or(u32::MAX));
        let replicas = self.replicas.load(Relaxed);
        let number = u32::try_from(replicas & u64::from(u32::MAX)).unwrap_or(UNNUMBERED);
        let part = |limit| part(limit, self.replicas(), number, charge.key);
        let own = part(charge.limit).saturating_sub(u32::try_from(debited).unwrap_or(u32::MAX));
        let limit = part(left).min(own);
        let window = match charge.algorithm {
            // Hits come back more slowly by as much, exactly.
            Algorithm::Gcra { .. } => charge.window.saturating_mul(self.replicas()),
            _ => charge.window,
        };
        Charge { limit, window, ..*charge }
    }
}

/// One replica's part of a limit; together the parts are no more than it. What does not divide evenly falls to other replicas
/// for other keys.
fn part(limit: u32, replicas: u32, number: u32, key: Key) -> u32 {
    let (each, rest) = (limit / replicas, limit % replicas);
    if number == UNNUMBERED {
        return each;
    }
    let turn = (u128::from(number) + key.0 % u128::from(replicas)) % u128::from(replicas);
    each + u32::from(turn < rest.into())
}

/// What is told about a charge whose stand-in was counted.
fn tell(charge: &Charge, stand_in: &Charge, outcome: Outcome) -> Outcome {
    let limit = u64::from(charge.limit);
    let count = match stand_in.key {
        DENIED => over(charge),
        ADMITTED => 0,
        _ if stand_in.is_over(outcome.count) => limit + (outcome.count - u64::from(stand_in.limit)),
        _ => limit.saturating_sub(u64::from(stand_in.limit) - outcome.count),
    };
    Outcome { count, ..outcome }
}

fn over(charge: &Charge) -> u64 {
    u64::from(charge.limit).saturating_add(charge.hits.max(1).unsigned_abs())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::store::{Denies, Undo};

    fn charge(key: u128, limit: u32, on_store_loss: OnStoreLoss) -> Charge {
        Charge {
            key: Key(key),
            hits: 1,
            limit,
            denies: Denies::Alone,
            undo: Undo::Denied,
            algorithm: Algorithm::FixedWindow,
            window: 31_536_000,
            on_store_loss,
            leases: true,
        }
    }

    fn admits(local: &Local, charge: Charge) -> u32 {
        (0..1000).map(|_| u32::from(!charge.is_over(local.charge(&[charge], |_| 0).unwrap()[0].count))).sum()
    }

    #[test]
    fn parts_add_up_to_the_limit() {
        for (limit, replicas) in [(0, 3), (1, 3), (2, 3), (10, 3), (7, 1), (u32::MAX, 7)] {
            for key in (0..20).map(Key) {
                let parts = (0..replicas).map(|number| u64::from(part(limit, replicas, number, key)));
                assert_eq!(parts.sum::<u64>(), u64::from(limit), "{limit} of {replicas}");
            }
            assert!(part(limit, replicas, UNNUMBERED, Key(1)) <= limit / replicas);
        }
    }

    #[test]
    fn every_replica_has_some_keys_of_a_small_limit() {
        for number in 0..3 {
            assert_eq!((0..300).map(|key| part(1, 3, number, Key(key))).sum::<u32>(), 100);
        }
    }

    #[test]
    fn each_mode_decides_as_it_says() {
        let local = Local::new(1000);
        local.set_replicas(3, None);
        for (mode, admitted) in
            [(OnStoreLoss::Allow, 1000), (OnStoreLoss::Deny, 0), (OnStoreLoss::LeaseOnly, 0), (OnStoreLoss::Share, 30)]
        {
            assert_eq!(admits(&local, charge(100, 90, mode)), admitted, "{mode}");
        }
        assert!(matches!(local.charge(&[charge(5, 9, OnStoreLoss::Error)], |_| 0), Err(StoreError::Lost)));
    }

    #[test]
    fn every_algorithm_is_shared() {
        let local = Local::new(1000);
        local.set_replicas(2, None);
        let algorithms = [Algorithm::SlidingWindow, Algorithm::Concurrency, Algorithm::Gcra { per_window: 10 }];
        for (key, algorithm) in (200..).zip(algorithms) {
            let charge = Charge { algorithm, ..charge(key, 10, OnStoreLoss::Share) };
            assert_eq!(admits(&local, charge), 5, "{algorithm:?}");
        }
    }

    #[test]
    fn what_was_counted_before_is_not_shared_again() {
        let local = Local::new(1000);
        local.set_replicas(3, None);
        let charge = charge(100, 90, OnStoreLoss::Share);
        let outcome = |count, charged| Outcome { count, charged, seconds_left: 1000, near: false };
        local.learn(&[charge], &[outcome(60, true)]);
        assert_eq!(admits(&local, charge), 10);
        let other = Charge { key: Key(101), ..charge };
        local.learn(&[other], &[outcome(91, false)]);
        assert_eq!(admits(&local, other), 0);
    }

    #[test]
    fn a_mixed_request_is_all_or_nothing() {
        let local = Local::new(1000);
        let (share, deny) = (charge(100, 9, OnStoreLoss::Share), charge(101, 9, OnStoreLoss::Deny));
        let allow = charge(102, 0, OnStoreLoss::Allow);
        let outcomes = local.charge(&[share, deny, allow], |_| 0).unwrap();
        assert_eq!(outcomes.iter().map(|outcome| outcome.charged).collect::<Vec<_>>(), [false; 3]);
        assert_eq!(outcomes.iter().map(|outcome| outcome.count).collect::<Vec<_>>(), [0, 10, 0]);
        assert_eq!(admits(&local, share), 9, "the denied request cost nothing");
        assert!(matches!(local.charge(&[deny, charge(1, 1, OnStoreLoss::Error)], |_| 0), Err(StoreError::Lost)));
    }

    #[test]
    fn giving_back_is_never_denied() {
        let local = Local::new(1000);
        let back = Charge { hits: -1, ..charge(100, 0, OnStoreLoss::Deny) };
        assert_eq!(local.charge(&[back], |_| 0).unwrap()[0].count, 0);
    }

    #[test]
    fn without_room_nothing_is_admitted() {
        let local = Local::new(0);
        assert_eq!(admits(&local, charge(100, 9, OnStoreLoss::Share)), 0);
    }

    #[test]
    fn windows_end_on_the_stores_clock() {
        let local = Local::new(1000);
        local.set_clock(7_200_500, Instant::now());
        assert!((7_200_500..7_260_000).contains(&local.now()));
        let charge = Charge { window: 3600, ..charge(100, 9, OnStoreLoss::Share) };
        let left = local.charge(&[charge], |_| 0).unwrap()[0].seconds_left;
        assert!((3540..=3600).contains(&left), "{left}");
    }
}

//! The last counts that a store told.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::key::Key;

/// Counters that are remembered at most. Each takes 16 bytes.
const SLOTS: usize = 1 << 16;
/// The hash's part of a word.
const HIGH: u64 = 0xffff_ffff_0000_0000;

/// A table of fixed size without locks: a counter overwrites another of its slot. What is forgotten, and what two threads write
/// at once, reads as not known.
#[derive(Debug)]
pub(super) struct Known {
    slots: Vec<Slot>,
    seed: ahash::RandomState,
}

/// Each word has 32 bits of the key's hash above and a number below.
#[derive(Debug, Default)]
struct Slot {
    count: AtomicU64,
    /// The second in which the count is forgotten.
    end: AtomicU64,
}

impl Known {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Slot::default()).collect(), seed: ahash::RandomState::new() }
    }

    /// Remembers a count until the second `end`.
    pub(super) fn learn(&self, key: Key, count: u64, end: u64) {
        let (slot, tag) = self.slot(key);
        let Some(slot) = slot else { return };
        let low = |number: u64| tag | number.min(u32::MAX.into());
        slot.count.store(low(count), Relaxed);
        slot.end.store(low(end), Relaxed);
    }

    /// The count that was told last, if it is remembered and may still be right.
    pub(super) fn count(&self, key: Key, now: u64) -> Option<u64> {
        let (slot, tag) = self.slot(key);
        let slot = slot?;
        let of_key = |word: u64| (word & HIGH == tag).then_some(word & !HIGH);
        let (count, end) = (of_key(slot.count.load(Relaxed))?, of_key(slot.end.load(Relaxed))?);
        (now < end).then_some(count)
    }

    fn slot(&self, key: Key) -> (Option<&Slot>, u64) {
        let hash = self.seed.hash_one(key.0);
        (self.slots.get(usize::try_from(hash & !HIGH).unwrap_or_default() % SLOTS), hash & HIGH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_known_until_their_end() {
        let known = Known::new();
        known.learn(Key(7), 3, 100);
        assert_eq!(known.count(Key(7), 99), Some(3));
        assert_eq!(known.count(Key(7), 100), None);
        assert_eq!(known.count(Key(8), 99), None);
        known.learn(Key(7), u64::MAX, 100);
        assert_eq!(known.count(Key(7), 99), Some(u32::MAX.into()));
    }

    #[test]
    fn no_counter_has_the_count_of_another() {
        let known = Known::new();
        (0..200_000).for_each(|key| known.learn(Key(key), u64::try_from(key).unwrap_or_default(), 100));
        let told: Vec<_> = (0..200_000_u64).filter_map(|key| Some((key, known.count(Key(key.into()), 0)?))).collect();
        assert!(told.len() > SLOTS / 2 && told.iter().all(|(key, count)| key == count), "{}", told.len());
    }
}

//! The guard against a mass deletion that nobody asked for: an API server that has lost its data lists nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use controller_core::snapshot::Key;

use super::part::Part;

/// Objects that a list lacks, kept for a while.
#[derive(Debug)]
pub(super) struct Guard {
    /// How long; zero keeps nothing.
    hold: Duration,
    held: BTreeMap<Part, Held>,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    keys: BTreeSet<Key>,
}

impl Guard {
    pub(super) fn new(hold: Duration) -> Self {
        Self { hold, held: BTreeMap::new() }
    }

    /// Which of the objects that a new list lacks may be taken away now. `stood` is how many there were. They are
    /// kept when they are more than half of all; objects that were deleted one by one never come here.
    pub(super) fn missing(&mut self, part: &Part, missing: BTreeSet<Key>, stood: usize, now: Instant) -> BTreeSet<Key> {
        let until = match self.held.remove(part) {
            Some(held) => held.until,
            None => now + self.hold,
        };
        if missing.len() * 2 <= stood || until <= now {
            self.count();
            return missing;
        }
        tracing::error!(
            %part,
            "a list lacks {} of {stood} objects at once: they stay in force for {:?}, in case they come back",
            missing.len(),
            until - now
        );
        self.held.insert(part.clone(), Held { until, keys: missing });
        self.count();
        BTreeSet::new()
    }

    /// An object is there again, or was deleted by somebody.
    pub(super) fn forget(&mut self, kind: &'static str, key: &Key) {
        let parts = self.held.len();
        self.held.retain(|part, held| {
            let is_last = part.kind.name == kind && held.keys.remove(key) && held.keys.is_empty();
            !is_last
        });
        if parts > 0 {
            self.count();
        }
    }

    /// When the next objects are held no longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.values().map(|held| held.until).min()
    }

    /// The parts and objects that were held until now.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<(Part, BTreeSet<Key>)> {
        let expired = self.held.extract_if(.., |_, held| held.until <= now);
        let expired = expired.map(|(part, held)| (part, held.keys)).collect();
        self.count();
        expired
    }

    fn count(&self) {
        let held: usize = self.held.values().map(|held| held.keys.len()).sum();
        metrics::gauge!("controller_held_objects").set(u32::try_from(held).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use controller_core::snapshot::Kind;

    use super::*;

    const HOLD: Duration = Duration::from_mins(5);

    fn gateways() -> Part {
        Part { kind: Kind::named("Gateway").unwrap(), namespace: None }
    }

    fn keys(names: &[&str]) -> BTreeSet<Key> {
        names.iter().map(|name| ("ns".to_owned(), (*name).to_owned())).collect()
    }

    #[test]
    fn half_may_go_but_not_more() {
        let now = Instant::now();
        let mut guard = Guard::new(HOLD);
        assert_eq!(guard.missing(&gateways(), keys(&["a", "b"]), 4, now), keys(&["a", "b"]));
        assert_eq!(guard.deadline(), None);
        assert_eq!(guard.missing(&gateways(), keys(&["a", "b", "c"]), 4, now), keys(&[]));
        assert_eq!(guard.deadline(), Some(now + HOLD));
    }

    #[test]
    fn what_is_held_goes_in_the_end_or_comes_back() {
        let now = Instant::now();
        let mut guard = Guard::new(HOLD);
        guard.missing(&gateways(), keys(&["a", "b"]), 2, now);
        guard.forget("Gateway", &("ns".into(), "a".into()));
        assert!(guard.expired(now + HOLD / 2).is_empty());
        // Another list that lacks them does not prolong it.
        assert_eq!(guard.missing(&gateways(), keys(&["b"]), 1, now + HOLD / 2), keys(&[]));
        assert_eq!(guard.expired(now + HOLD), [(gateways(), keys(&["b"]))]);
        assert_eq!(guard.deadline(), None);
    }

    #[test]
    fn a_list_that_is_whole_again_ends_it() {
        let now = Instant::now();
        let mut guard = Guard::new(HOLD);
        guard.missing(&gateways(), keys(&["a", "b"]), 2, now);
        assert_eq!(guard.missing(&gateways(), keys(&[]), 2, now), keys(&[]));
        assert_eq!(guard.deadline(), None);
    }

    #[test]
    fn without_a_hold_everything_goes() {
        let mut guard = Guard::new(Duration::ZERO);
        assert_eq!(guard.missing(&gateways(), keys(&["a"]), 1, Instant::now()), keys(&["a"]));
    }
}

//! How often tokens with unknown key ids may have the key set fetched again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The shortest time between two fetches that unknown key ids ask for.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a key id that the issuer did not know asks for nothing.
const FORGOTTEN: Duration = Duration::from_mins(1);
/// The most key ids that are remembered as unknown.
const MOST_FORGOTTEN: usize = 1024;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Demand {
    fetching: bool,
    /// When an unknown key id may ask again.
    next: Option<Instant>,
    /// Key ids that the issuer did not know, and until when they ask for nothing.
    forgotten: HashMap<Option<String>, Instant>,
    /// When those that may ask again are dropped next, so that nobody looks through all of them for each token.
    purge: Option<Instant>,
}

impl Demand {
    /// The first fetch is under way.
    pub(super) fn fetching() -> Self {
        Self { fetching: true, next: None, forgotten: HashMap::new(), purge: None }
    }

    pub(super) fn is_fetching(&self) -> bool {
        self.fetching
    }

    /// A fetch starts by itself.
    pub(super) fn start(&mut self) {
        self.fetching = true;
    }

    /// A fetch has ended, well or not.
    pub(super) fn fetched(&mut self) {
        self.fetching = false;
    }

    /// Whether a token with this key id waits for a fetch, and whether one has to be started for it.
    pub(super) fn unknown(&mut self, kid: Option<&str>, now: Instant) -> (bool, bool) {
        if self.fetching {
            return (true, false);
        }
        let forgotten = self.forgotten.get(&kid.map(str::to_owned)).is_some_and(|until| now < *until);
        if forgotten || self.next.is_some_and(|next| now < next) {
            return (false, false);
        }
        self.next = Some(now + INTERVAL);
        self.fetching = true;
        (true, true)
    }

    /// The issuer does not know this key id.
    pub(super) fn forget(&mut self, kid: Option<&str>, now: Instant) {
        if self.purge.is_none_or(|purge| now >= purge) {
            self.forgotten.retain(|_, until| now < *until);
            self.purge = Some(now + INTERVAL);
        }
        let kid = kid.map(str::to_owned);
        let remembered = self.forgotten.get(&kid).is_some_and(|until| now < *until);
        if !remembered && self.forgotten.len() < MOST_FORGOTTEN {
            self.forgotten.insert(kid, now + FORGOTTEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_a_thousand_key_ids_a_second_ask_for_six_fetches_a_minute() {
        let start = Instant::now();
        let mut demand = Demand::fetching();
        demand.fetched();
        let mut fetches = 0;
        for number in 0..60_000 {
            let now = start + Duration::from_millis(number);
            let kid = number.to_string();
            let (_, wakes) = demand.unknown(Some(&kid), now);
            if wakes {
                fetches += 1;
                demand.fetched();
            }
            demand.forget(Some(&kid), now);
        }
        assert_eq!(fetches, 6);
        assert!(demand.forgotten.len() <= MOST_FORGOTTEN);
    }

    #[test]
    fn one_forgotten_key_id_asks_once_a_minute_and_holds_no_other_back() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut demand = Demand::fetching();
        assert_eq!(demand.unknown(Some("old"), at(0)), (true, false), "the first fetch is under way");
        demand.fetched();
        assert_eq!(demand.unknown(Some("old"), at(0)), (true, true));
        assert_eq!(demand.unknown(Some("new"), at(0)), (true, false), "it is fetched for both");
        demand.fetched();
        demand.forget(Some("old"), at(0));
        assert_eq!(demand.unknown(Some("new"), at(9)), (false, false));
        assert_eq!(demand.unknown(Some("old"), at(11)), (false, false));
        assert_eq!(demand.unknown(Some("new"), at(11)), (true, true));
        demand.fetched();
        assert_eq!(demand.unknown(Some("old"), at(61)), (true, true));
    }
}

//! Leaves an authority alone that does not answer, so that requests do not wait for it in vain.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures in a row after which nobody is asked.
const FAILURES: u32 = 5;
/// For how long.
const RESPITE: Duration = Duration::from_secs(5);
/// A probe that is not heard of for so long is lost.
const PROBE: Duration = Duration::from_secs(30);

/// Closed, open, or half open.
pub(super) struct Breaker(Mutex<State>);

enum State {
    /// Everybody may ask; so many have failed in a row.
    Closed(u32),
    /// Nobody may before this moment.
    Open(Instant),
    /// Somebody has asked since, and the others wait for what comes of it.
    Probing(Instant),
}

impl Default for Breaker {
    fn default() -> Self {
        Self(Mutex::new(State::Closed(0)))
    }
}

impl Breaker {
    /// Whether a question may be asked. Its outcome must be reported.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        let admits = match *state {
            State::Closed(_) => return true,
            State::Open(until) => now >= until,
            State::Probing(since) => now >= since + PROBE,
        };
        if admits {
            *state = State::Probing(now);
        }
        admits
    }

    /// Notes whether there was an answer; says whether questions may now be asked.
    pub(super) fn report(&self, answered: bool, now: Instant) -> bool {
        let mut state = self.0.lock();
        *state = match *state {
            _ if answered => State::Closed(0),
            State::Closed(failures) if failures + 1 < FAILURES => State::Closed(failures + 1),
            // A question from before it opened.
            State::Open(until) => State::Open(until),
            State::Closed(_) | State::Probing(_) => State::Open(now + RESPITE),
        };
        matches!(*state, State::Closed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_probes_and_closes() {
        let breaker = Breaker::default();
        let start = Instant::now();
        let fail = |times| (0..times).map(|_| breaker.report(false, start)).last();
        assert_eq!(fail(4), Some(true));
        assert!(breaker.report(true, start), "failures count in a row");
        assert_eq!(fail(4), Some(true));
        assert_eq!(fail(1), Some(false));
        assert!(!breaker.admits(start + RESPITE / 2));
        assert_eq!(fail(3), Some(false), "late failures change nothing");
        let later = start + RESPITE;
        assert!(breaker.admits(later));
        assert!(!breaker.admits(later), "one probe at a time");
        assert!(!breaker.report(false, later));
        assert!(!breaker.admits(later + RESPITE / 2));
        assert!(breaker.admits(later + RESPITE));
        assert!(breaker.admits(later + RESPITE + PROBE), "a lost probe does not keep it open");
        assert!(breaker.report(true, later) && breaker.admits(later) && breaker.admits(later));
    }
}

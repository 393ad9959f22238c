//! When a connection has to go: pure, time is a parameter.

use std::time::{Duration, Instant};

use super::limits::Limits;

/// A client that has not greeted when the drain starts has this much left.
const HURRY: Duration = Duration::from_millis(500);

/// What a connection has done so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Whether the client has said enough to be taken for one.
    pub(super) greeted: bool,
    /// Requests begun.
    pub(super) begun: u64,
    /// Requests whose answer is not complete.
    pub(super) open: usize,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing before then.
    Wait(Instant),
    /// Take no new requests, say GOAWAY, and look again then.
    Leave(Instant),
    /// Cut it off.
    Close(Reason),
}

/// Why a connection is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No preface and settings in time, or no request where there are none.
    Handshake,
    /// It was to close, had nothing to do, and did not.
    Unwilling,
    /// A request went on beyond the grace.
    Grace,
}

impl Reason {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Unwilling => "unwilling",
            Self::Grace => "grace",
        }
    }
}

/// Deadlines of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    limits: Limits,
    greet_by: Instant,
    greeted: bool,
    leave_at: Option<Instant>,
    left_at: Option<Instant>,
    begun: u64,
    quiet_since: Instant,
}

impl Life {
    /// Of a connection that begins `now`; `jitter` from 0 to 1 makes its age 90 to 110 % of the limit.
    pub(super) fn new(now: Instant, limits: Limits, jitter: f64) -> Self {
        Self {
            limits,
            greet_by: now + limits.handshake,
            greeted: false,
            leave_at: limits.age.map(|age| now + age.mul_f64(0.9 + 0.2 * jitter)),
            left_at: None,
            begun: 0,
            quiet_since: now,
        }
    }

    /// The drain has started, so that a GOAWAY is on its way.
    pub(super) fn drain(&mut self, now: Instant) -> Instant {
        self.greet_by = self.greet_by.min(now + HURRY);
        self.left_at.get_or_insert(now);
        if self.greeted { now + self.limits.handshake } else { self.greet_by }
    }

    /// Looks at the connection `now`.
    pub(super) fn look(&mut self, now: Instant, seen: Seen) -> Step {
        self.greeted |= seen.greeted;
        if !self.greeted {
            return if now < self.greet_by { Step::Wait(self.greet_by) } else { Step::Close(Reason::Handshake) };
        }
        if let Some(left_at) = self.left_at {
            return self.leaving(now, left_at, seen);
        }
        if seen.open > 0 || seen.begun != self.begun {
            self.begun = seen.begun;
            self.quiet_since = now;
        }
        if self.leave_at.is_some_and(|at| now >= at) || now - self.quiet_since >= self.limits.idle {
            self.left_at = Some(now);
            return Step::Leave(self.next_look(now, now));
        }
        // Only a look tells whether there were requests, so an active connection is looked at more often than it may idle.
        let idle = if self.quiet_since == now { self.limits.idle / 5 } else { self.limits.idle };
        let look = self.quiet_since + idle;
        Step::Wait(self.leave_at.map_or(look, |at| at.min(look)))
    }

    fn leaving(&self, now: Instant, left_at: Instant, seen: Seen) -> Step {
        let soft = left_at + self.limits.handshake;
        let hard = self.limits.age_grace.map(|grace| left_at + grace);
        if hard.is_some_and(|hard| now >= hard) && seen.open > 0 {
            Step::Close(Reason::Grace)
        } else if now >= soft && seen.open == 0 {
            Step::Close(Reason::Unwilling)
        } else {
            Step::Wait(self.next_look(now, left_at))
        }
    }

    fn next_look(&self, now: Instant, left_at: Instant) -> Instant {
        let look = now + self.limits.handshake;
        let hard = self.limits.age_grace.map(|grace| left_at + grace).filter(|hard| *hard > now);
        hard.map_or(look, |hard| hard.min(look))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETED: Seen = Seen { greeted: true, begun: 0, open: 0 };
    const SILENT: Seen = Seen { greeted: false, ..GREETED };
    const SECOND: Duration = Duration::from_secs(1);

    fn life(jitter: f64) -> (Life, Instant) {
        let start = Instant::now();
        (Life::new(start, Limits::default(), jitter), start)
    }

    #[test]
    fn p05_a_client_that_drips_its_preface_is_cut_off_after_5_s() {
        let (mut life, start) = life(0.5);
        assert_eq!(life.look(start, SILENT), Step::Wait(start + 5 * SECOND));
        assert_eq!(life.look(start + 4 * SECOND, SILENT), Step::Wait(start + 5 * SECOND));
        assert_eq!(life.look(start + 5 * SECOND, SILENT), Step::Close(Reason::Handshake));
        assert_ne!(life.look(start + 5 * SECOND, GREETED), Step::Close(Reason::Handshake));
    }

    #[test]
    fn p05_a_connection_leaves_between_5_and_6_minutes_after_its_last_request() {
        let (mut life, start) = life(0.5);
        let minute = 60 * SECOND;
        assert_eq!(life.look(start + SECOND, GREETED), Step::Wait(start + 5 * minute));
        let once = Seen { begun: 1, ..GREETED };
        let seen = start + 5 * minute;
        assert_eq!(life.look(seen, once), Step::Wait(seen + minute));
        assert_eq!(life.look(seen + minute, once), Step::Wait(seen + 5 * minute));
        assert_eq!(life.look(seen + 5 * minute, once), Step::Leave(seen + 5 * minute + 5 * SECOND));
        assert_eq!(life.look(seen + 5 * minute + 5 * SECOND, once), Step::Close(Reason::Unwilling));
    }

    #[test]
    fn a_stream_is_no_idleness() {
        let (mut life, start) = life(0.5);
        let streaming = Seen { begun: 1, open: 1, ..GREETED };
        for minute in 1..120 {
            assert!(matches!(life.look(start + 60 * minute * SECOND, streaming), Step::Wait(_)), "{minute}");
        }
    }

    #[test]
    fn the_age_varies_by_a_tenth_and_ends_with_the_grace() {
        let hour = 3600 * SECOND;
        let busy = Seen { begun: 1, open: 1, ..GREETED };
        for (jitter, age) in [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)] {
            let (mut life, start) = life(jitter);
            let before = start + (23 * hour + 59 * 60 * SECOND).mul_f64(age);
            let age = start + (24 * hour).mul_f64(age);
            assert!(matches!(life.look(before, busy), Step::Wait(at) if at <= age + SECOND), "{jitter}");
            assert_eq!(life.look(age + SECOND, busy), Step::Leave(age + 6 * SECOND), "{jitter}");
            assert!(matches!(life.look(age + 6 * SECOND, busy), Step::Wait(_)));
            assert_eq!(life.look(age + hour + SECOND, busy), Step::Close(Reason::Grace));
        }
    }

    #[test]
    fn a_drain_hurries_those_that_have_not_greeted() {
        let (mut life, start) = life(0.5);
        assert_eq!(life.drain(start), start + HURRY);
        assert_eq!(life.look(start + HURRY, SILENT), Step::Close(Reason::Handshake));
    }
}

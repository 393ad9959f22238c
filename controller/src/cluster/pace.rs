//! A bound on how often something may happen.

use std::time::{Duration, Instant};

/// So many in a second, and as many at once after a pause.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    burst: u32,
    /// When all that has happened would have ended at the steady rate.
    booked: Instant,
}

impl Pace {
    /// At least one a second.
    pub(super) fn per_second(rate: u32, now: Instant) -> Self {
        let rate = rate.max(1);
        Self { interval: Duration::from_secs(1) / rate, burst: rate, booked: now }
    }

    /// Books one, and tells how long it has to wait.
    pub(super) fn book(&mut self, now: Instant) -> Duration {
        let start = self.booked.max(now);
        self.booked = start + self.interval;
        (start - now).saturating_sub(self.interval * (self.burst - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut pace = Pace::per_second(10, start);
        let waits: Vec<_> = (0..13).map(|_| pace.book(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 200, 300]);
        assert_eq!(pace.book(start + Duration::from_mins(1)).as_millis(), 0);
    }
}

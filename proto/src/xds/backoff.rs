//! How long to wait before the next attempt.

use std::time::Duration;

/// Pauses that double from `initial` to `max`, each varied by up to `jitter` of itself either way.
#[derive(Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    jitter: f64,
    next: Duration,
}

impl Backoff {
    /// `jitter` is a share from 0 to 1.
    pub fn new(initial: Duration, max: Duration, jitter: f64) -> Self {
        Self { initial, max, jitter, next: initial }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.min(self.max);
        self.next = self.next.saturating_mul(2).min(self.max);
        pause.mul_f64(1.0 + self.jitter * rand::random_range(-1.0..=1.0))
    }

    /// Begins with the first pause again.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new(10 * SECOND, 60 * SECOND, 0.0);
        let pauses: Vec<_> = (0..5).map(|_| backoff.pause().as_secs()).collect();
        assert_eq!(pauses, [10, 20, 40, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.pause(), 10 * SECOND);
    }

    #[test]
    fn pauses_vary_within_the_jitter() {
        let mut backoff = Backoff::new(10 * SECOND, 10 * SECOND, 0.5);
        let pauses: Vec<_> = (0..100).map(|_| backoff.pause()).collect();
        assert!(pauses.iter().all(|pause| (5 * SECOND..=15 * SECOND).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause < 9 * SECOND) && pauses.iter().any(|pause| *pause > 11 * SECOND));
    }
}

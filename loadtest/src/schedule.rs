//! When the requests of an open loop are due.

use std::time::Duration;

use rand::Rng;
use rand_distr::{Distribution, Exp1};
use serde::Serialize;

/// How requests are spaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Independent users: the gaps are exponentially distributed.
    #[default]
    Poisson,
    /// All gaps are equal.
    Uniform,
}

/// The offsets from the start at which requests are due, in order, without end.
///
/// The schedule knows nothing of the server. A latency counted from the offset therefore includes the time that a request
/// waited because the server or the generator was busy with earlier ones.
#[derive(Debug)]
pub struct Schedule<R> {
    arrivals: Arrivals,
    mean_gap_seconds: f64,
    due_seconds: f64,
    rng: R,
}

impl<R: Rng> Schedule<R> {
    /// A schedule with `rate` requests per second on average; `rate` is above 0.
    pub fn new(arrivals: Arrivals, rate: f64, rng: R) -> Self {
        Self { arrivals, mean_gap_seconds: rate.recip(), due_seconds: 0.0, rng }
    }
}

impl<R: Rng> Iterator for Schedule<R> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let gap: f64 = match self.arrivals {
            Arrivals::Poisson => Exp1.sample(&mut self.rng),
            Arrivals::Uniform => 1.0,
        };
        self.due_seconds += gap * self.mean_gap_seconds;
        Duration::try_from_secs_f64(self.due_seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn due(arrivals: Arrivals, rate: f64, count: usize) -> Vec<Duration> {
        Schedule::new(arrivals, rate, SmallRng::seed_from_u64(7)).take(count).collect()
    }

    #[test]
    fn uniform_gaps_are_equal() {
        assert_eq!(due(Arrivals::Uniform, 4.0, 3), [250, 500, 750].map(Duration::from_millis));
    }

    #[test]
    fn poisson_keeps_the_rate_and_varies_the_gaps() {
        let due = due(Arrivals::Poisson, 1000.0, 100_000);
        let last = due.last().unwrap().as_secs_f64();
        assert!((98.0..102.0).contains(&last), "100,000 requests at 1,000/s took {last} s");

        // Of exponential gaps 1 - 1/e are below the mean.
        let below = due.windows(2).filter(|pair| pair[1] < pair[0] + Duration::from_millis(1)).count();
        assert!((62_000..64_500).contains(&below), "{below} of 99,999 gaps are below the mean");
    }
}

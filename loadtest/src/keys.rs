//! Which of the keys a request uses.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use rand::Rng;
use rand_distr::{Uniform, Zipf};

/// How often each key is used: `uniform`, `zipf` or `zipf:EXPONENT`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Distribution {
    /// All keys alike.
    #[default]
    Uniform,
    /// Key number k (from 1) in proportion to `1 / k^exponent`: few keys take most of the load.
    Zipf {
        /// Skew; 0 is uniform, 1 is the classic law.
        exponent: f64,
    },
}

/// Not a distribution.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no distribution: write uniform, zipf or zipf:EXPONENT with an exponent of 0 or more")]
pub struct ParseError(String);

impl FromStr for Distribution {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let exponent = match text.split_once(':') {
            None if text == "uniform" => return Ok(Self::Uniform),
            None if text == "zipf" => Some(1.0),
            Some(("zipf", exponent)) => exponent.parse().ok().filter(|e: &f64| e.is_finite() && *e >= 0.0),
            _ => None,
        };
        exponent.map(|exponent| Self::Zipf { exponent }).ok_or_else(|| ParseError(text.to_owned()))
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf { exponent } => write!(f, "zipf:{exponent}"),
        }
    }
}

/// Draws key numbers.
#[derive(Debug, Clone, Copy)]
pub struct Keys(Sampler);

#[derive(Debug, Clone, Copy)]
enum Sampler {
    Uniform(Uniform<u32>),
    Zipf(Zipf<f64>),
}

impl Keys {
    /// `count` keys that are used as `distribution` says. `None` if the distribution cannot be drawn from.
    pub fn new(count: NonZeroU32, distribution: Distribution) -> Option<Self> {
        let sampler = match distribution {
            Distribution::Uniform => Sampler::Uniform(Uniform::new(0, count.get()).ok()?),
            Distribution::Zipf { exponent } => Sampler::Zipf(Zipf::new(f64::from(count.get()), exponent).ok()?),
        };
        Some(Self(sampler))
    }

    /// The number of a key, from 0 up to the count of keys; with Zipf the lower, the more frequent.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "Zipf draws whole numbers from 1 to a u32"
    )]
    pub fn draw(&self, rng: &mut impl Rng) -> u32 {
        match &self.0 {
            Sampler::Uniform(uniform) => rng.sample(uniform),
            Sampler::Zipf(zipf) => rng.sample(zipf) as u32 - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    const DRAWS: u32 = 200_000;

    fn counts(keys: u32, distribution: &str) -> Vec<u32> {
        let keys_drawn = Keys::new(NonZeroU32::new(keys).unwrap(), distribution.parse().unwrap()).unwrap();
        let mut rng = SmallRng::seed_from_u64(7);
        let mut counts = vec![0; keys as usize];
        for _ in 0..DRAWS {
            counts[keys_drawn.draw(&mut rng) as usize] += 1;
        }
        counts
    }

    #[test]
    fn uniform_uses_all_keys_alike() {
        for count in counts(10, "uniform") {
            assert!((19_000..21_000).contains(&count), "{count} draws of one key in ten");
        }
    }

    #[test]
    fn zipf_follows_its_law() {
        // With exponent 1 over 100 keys the shares are 1/k divided by the 100th harmonic number, 5.187.
        let counts = counts(100, "zipf");
        for (key, rank) in [(0, 1.0), (1, 2.0), (9, 10.0)] {
            let expected = f64::from(DRAWS) / rank / 5.187;
            let ratio = f64::from(counts[key]) / expected;
            assert!((0.93..1.07).contains(&ratio), "key {key}: {} draws, expected {expected:.0}", counts[key]);
        }
        assert!(counts.iter().all(|count| *count > 0));
    }

    #[test]
    fn a_greater_exponent_is_more_skewed() {
        assert!(counts(100, "zipf:2")[0] > counts(100, "zipf:1")[0]);
        assert_eq!(counts(1, "zipf:1.5"), [DRAWS]);
    }

    #[test]
    fn reads_what_it_writes() {
        for text in ["uniform", "zipf:1", "zipf:0.9"] {
            assert_eq!(text.parse::<Distribution>().unwrap().to_string(), text);
        }
        for text in ["", "zipf:", "zipf:-1", "zipf:NaN", "normal", "uniform:1"] {
            assert!(text.parse::<Distribution>().is_err(), "{text}");
        }
    }
}

//! How much a rule allows.

use std::fmt;

use serde_saphyr::{Location, Spanned};

use super::{
    document::{AlgorithmName, RateLimit},
    unit::Unit,
};
use crate::store::Algorithm;

/// How much a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Everything, without counting.
    Unlimited,
    /// So many hits in each window.
    PerUnit(PerUnit),
}

/// So many hits in each window; zero denies all. For [`Algorithm::Concurrency`], so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerUnit {
    /// Hits that one window takes.
    pub requests_per_unit: u32,
    /// What the window is measured in.
    pub unit: Unit,
    /// Units in a window, at least one; the window's seconds fit into 32 bits.
    pub unit_multiplier: u32,
    /// How hits are counted and forgotten.
    pub algorithm: Algorithm,
    /// Hits that may come at once; differs from `requests_per_unit` for [`Algorithm::Gcra`] only.
    pub burst: u32,
}

/// For people: `unlimited` or `10 per minute`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::PerUnit(limit) = *self else { return f.write_str("unlimited") };
        let unit = limit.unit.to_string().to_ascii_lowercase();
        match limit.unit_multiplier {
            1 => write!(f, "{} per {unit}", limit.requests_per_unit)?,
            units => write!(f, "{} per {units} {unit}s", limit.requests_per_unit)?,
        }
        match limit.algorithm {
            Algorithm::FixedWindow => Ok(()),
            Algorithm::SlidingWindow => f.write_str(", sliding window"),
            Algorithm::Gcra { .. } => write!(f, ", gcra, burst {}", limit.burst),
            Algorithm::Concurrency => f.write_str(", concurrency"),
        }
    }
}

impl PerUnit {
    /// So many hits in fixed windows of one unit.
    pub fn fixed(requests_per_unit: u32, unit: Unit) -> Self {
        let (unit_multiplier, burst) = (1, requests_per_unit);
        Self { requests_per_unit, unit, unit_multiplier, algorithm: Algorithm::FixedWindow, burst }
    }

    /// Length of the window in seconds.
    pub fn window(self) -> u32 {
        self.unit.seconds().saturating_mul(self.unit_multiplier)
    }

    /// Envoy's number for the window's length: that of its unit, `UNKNOWN` for several units, which Envoy has no number for.
    pub fn unit_number(self) -> i32 {
        if self.unit_multiplier == 1 { self.unit.number() } else { 0 }
    }

    /// Writes what upstream's rules do not have.
    pub(super) fn write_extras(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unit_multiplier != 1 {
            write!(f, ", unit_multiplier: {}", self.unit_multiplier)?;
        }
        match self.algorithm {
            Algorithm::FixedWindow => Ok(()),
            Algorithm::SlidingWindow => f.write_str(", algorithm: sliding_window"),
            Algorithm::Gcra { .. } => write!(f, ", algorithm: gcra, burst: {}", self.burst),
            Algorithm::Concurrency => f.write_str(", algorithm: concurrency"),
        }
    }
}

/// What a `rate_limit` allows, or what is wrong with it and where.
pub(super) fn build(limit: &Spanned<RateLimit>) -> Result<Limit, (Location, &'static str)> {
    let at = limit.referenced;
    let RateLimit { unit, requests_per_unit, unlimited, ref unit_multiplier, ref algorithm, ref burst, .. } =
        limit.value;
    match (unit, unlimited) {
        (Some(unit), false) => {
            let window = window(unit, unit_multiplier.as_ref())?;
            let algorithm = algorithm.as_ref().map(|name| name.value).unwrap_or_default();
            let burst = self::burst(requests_per_unit, algorithm, burst.as_ref())?;
            let algorithm = match algorithm {
                AlgorithmName::FixedWindow => Algorithm::FixedWindow,
                AlgorithmName::SlidingWindow => Algorithm::SlidingWindow,
                AlgorithmName::Gcra => Algorithm::Gcra { per_window: requests_per_unit.max(1) },
                AlgorithmName::Concurrency => Algorithm::Concurrency,
            };
            Ok(Limit::PerUnit(PerUnit { requests_per_unit, unit, unit_multiplier: window, algorithm, burst }))
        }
        (None, true) => unlimited_alone(&limit.value).map(|()| Limit::Unlimited),
        (Some(_), true) => Err((at, "rate_limit has both unlimited and a unit; remove one")),
        (None, false) => Err((at, "rate_limit needs a unit: second, minute, hour, day, week, month or year")),
    }
}

/// The multiplier of the unit.
fn window(unit: Unit, multiplier: Option<&Spanned<u32>>) -> Result<u32, (Location, &'static str)> {
    let Some(Spanned { value: multiplier, referenced: at, .. }) = multiplier else { return Ok(1) };
    match unit.seconds().checked_mul(*multiplier) {
        Some(0) => Err((*at, "unit_multiplier must be at least 1")),
        None => Err((*at, "unit_multiplier makes a window longer than 4294967295 seconds")),
        Some(_) => Ok(*multiplier),
    }
}

fn burst(
    requests_per_unit: u32,
    algorithm: AlgorithmName,
    burst: Option<&Spanned<u32>>,
) -> Result<u32, (Location, &'static str)> {
    let Some(Spanned { value: burst, referenced: at, .. }) = burst else { return Ok(requests_per_unit) };
    match (algorithm, *burst) {
        (AlgorithmName::Gcra, 0) => Err((*at, "burst must be at least 1")),
        (AlgorithmName::Gcra, _) if requests_per_unit == 0 => {
            Err((*at, "burst needs requests_per_unit above 0, which denies all"))
        }
        (AlgorithmName::Gcra, burst) => Ok(burst),
        _ => Err((*at, "burst needs algorithm: gcra")),
    }
}

/// Nothing that is about counting may stand beside `unlimited`.
fn unlimited_alone(limit: &RateLimit) -> Result<(), (Location, &'static str)> {
    let RateLimit { unit_multiplier, algorithm, burst, on_store_loss, leases, .. } = limit;
    let stray = [
        unit_multiplier
            .as_ref()
            .map(|at| (at.referenced, "rate_limit has both unlimited and unit_multiplier; remove one")),
        algorithm.as_ref().map(|at| (at.referenced, "rate_limit has both unlimited and algorithm; remove one")),
        burst.as_ref().map(|at| (at.referenced, "rate_limit has both unlimited and burst; remove one")),
        on_store_loss.as_ref().map(|at| (at.referenced, "rate_limit has both unlimited and on_store_loss; remove one")),
        leases.as_ref().map(|at| (at.referenced, "rate_limit has both unlimited and leases; remove one")),
    ];
    stray.into_iter().flatten().next().map_or(Ok(()), Err)
}

//! Another limit for a rule, said by what is not as the rule has it.

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::{
    document::{AlgorithmName, RateLimit},
    limit::{self, Limit, PerUnit},
    unit::Unit,
};
use crate::store::Algorithm;

/// The fields of a `rate_limit` that are to be others; what it leaves out stays as the rule has it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Change {
    /// Of one unit, unless `unit_multiplier` is there too.
    unit: Option<Unit>,
    requests_per_unit: Option<u32>,
    unlimited: bool,
    unit_multiplier: Option<u32>,
    algorithm: Option<AlgorithmName>,
    burst: Option<u32>,
}

impl Change {
    /// Refuses what no rule could make sense of.
    pub(crate) fn check(self) -> Result<(), &'static str> {
        let Self { unit, requests_per_unit, unlimited, unit_multiplier, algorithm, burst } = self;
        let numbers = [requests_per_unit, unit_multiplier, burst];
        let counts = unit.is_some() || algorithm.is_some() || numbers.iter().any(Option::is_some);
        match (unlimited, counts) {
            (true, true) => Err("rate_limit has both unlimited and a limit; remove one"),
            (false, false) => Err("rate_limit is empty; say requests_per_unit, unit or unlimited"),
            _ if unit_multiplier == Some(0) => Err("unit_multiplier must be at least 1"),
            _ => Ok(()),
        }
    }

    /// The limit that a rule then has.
    pub(crate) fn of(self, written: Limit) -> Result<Limit, &'static str> {
        if self.unlimited {
            return Ok(Limit::Unlimited);
        }
        let written = if let Limit::PerUnit(limit) = written { Some(limit) } else { None };
        let requests = self.requests_per_unit.or(written.map(|limit| limit.requests_per_unit));
        let (Some(requests_per_unit), Some(unit)) = (requests, self.unit.or(written.map(|limit| limit.unit))) else {
            return Err("the rule is unlimited, so rate_limit needs both unit and requests_per_unit");
        };
        let same_unit = written.filter(|_| self.unit.is_none());
        let unit_multiplier = self.unit_multiplier.or(same_unit.map(|limit| limit.unit_multiplier));
        let algorithm = self.algorithm.or(written.map(|limit| limit.algorithm.into()));
        let own_burst = written.and_then(own_burst);
        let own_burst = own_burst.filter(|_| algorithm == Some(AlgorithmName::Gcra) && requests_per_unit > 0);
        let limit = RateLimit {
            unit: Some(unit),
            requests_per_unit,
            unit_multiplier: unit_multiplier.map(nowhere),
            algorithm: algorithm.map(nowhere),
            burst: self.burst.or(own_burst).map(nowhere),
            ..RateLimit::default()
        };
        limit::build(&nowhere(limit)).map_err(|(_, message)| message)
    }
}

/// A burst that the rule may have been given, which another `requests_per_unit` does not change.
fn own_burst(limit: PerUnit) -> Option<u32> {
    (limit.burst != limit.requests_per_unit).then_some(limit.burst)
}

impl From<Algorithm> for AlgorithmName {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::FixedWindow => Self::FixedWindow,
            Algorithm::SlidingWindow => Self::SlidingWindow,
            Algorithm::Gcra { .. } => Self::Gcra,
            Algorithm::Concurrency => Self::Concurrency,
        }
    }
}

/// What goes wrong is told at the place of the override.
fn nowhere<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Location::UNKNOWN, Location::UNKNOWN)
}

//! The generic cell rate algorithm: a level that hits raise and that sinks evenly. On the store's clock of whole milliseconds, no
//! interval takes more hits than the burst and what comes back during it.

use super::{State, window};
use crate::store::{Algorithm, Charge};

/// Capacity in use, as of a moment. Exact in whole numbers: one hit is as many parts as the window has milliseconds, and
/// each millisecond takes away as many parts as a window gives back hits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gcra {
    level: u128,
    at: u64,
}

impl State for Gcra {
    fn count(&self, charge: &Charge, now: u64) -> u64 {
        let hits = self.level_at(charge, now).div_ceil(part(charge));
        u64::try_from(hits).unwrap_or(u64::MAX)
    }

    /// What goes beyond the burst by more than a whole window gives back is forgiven, so no debt lasts longer than that.
    fn add(&mut self, charge: &Charge, _: u64, now: u64) -> u64 {
        let parts = u128::from(charge.hits.unsigned_abs()) * part(charge);
        let level = self.level_at(charge, now);
        let level = if charge.hits > 0 { level + parts } else { level.saturating_sub(parts) };
        let most = (u128::from(charge.limit) + u128::from(per_window(charge))) * part(charge);
        *self = Self { level: level.min(most), at: self.at.max(now) };
        let left = self.level.div_ceil(per_window(charge).into());
        self.at.saturating_add(u64::try_from(left).unwrap_or(u64::MAX))
    }
}

impl Gcra {
    fn level_at(&self, charge: &Charge, now: u64) -> u128 {
        let elapsed = u128::from(now.saturating_sub(self.at));
        self.level.saturating_sub(elapsed * u128::from(per_window(charge)))
    }
}

/// Parts of one hit.
fn part(charge: &Charge) -> u128 {
    window(charge).into()
}

/// Hits that a window gives back.
fn per_window(charge: &Charge) -> u32 {
    match charge.algorithm {
        Algorithm::Gcra { per_window } => per_window.max(1),
        _ => charge.limit.max(1),
    }
}

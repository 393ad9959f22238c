//! How counters forget: each algorithm as a small state, changed by pure functions. Times are milliseconds since the Unix epoch
//! on one clock; where one comes late, as threads may that have read the clock in another order, the state goes by the
//! latest it has seen.

pub(crate) use self::{
    buckets::Buckets,
    fixed::{Fixed, window_end},
    gcra::Gcra,
};
use super::Charge;

mod buckets;
mod fixed;
mod gcra;

/// One counter. A new one counts nothing, and so does one whose end has come.
pub(crate) trait State: Default {
    /// Hits that count at `now`.
    fn count(&self, charge: &Charge, now: u64) -> u64;

    /// Adds the charge's hits, or gives some back. `end` is what this returned before, zero for a new counter; returns when
    /// nothing will count any more.
    fn add(&mut self, charge: &Charge, end: u64, now: u64) -> u64;
}

/// Length of the charge's window in milliseconds.
fn window(charge: &Charge) -> u64 {
    u64::from(charge.window.max(1)) * 1000
}

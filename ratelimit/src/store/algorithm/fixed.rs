//! Fixed windows: all hits are forgotten at once.

use super::{State, window};
use crate::store::Charge;

/// Hits in the window that ends where the counter does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fixed(u64);

impl State for Fixed {
    #[inline]
    fn count(&self, _: &Charge, _: u64) -> u64 {
        self.0
    }

    #[inline]
    fn add(&mut self, charge: &Charge, end: u64, now: u64) -> u64 {
        self.0 = self.0.saturating_add_signed(charge.hits);
        end.max(window_end(charge, now))
    }
}

/// End of the charge's window, which is aligned to the epoch.
#[inline]
pub(crate) fn window_end(charge: &Charge, now: u64) -> u64 {
    now - now % window(charge) + window(charge)
}

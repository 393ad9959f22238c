//! Sliding windows, and slots that lapse: hits are kept by when they came, and forgotten when they are as old as the window.

use super::{State, window};
use crate::store::Charge;

/// A window's hits are kept in so many buckets, so a hit is forgotten at most a sixtieth of the window too late. The
/// shortest window, a second, still gives buckets of 17 milliseconds, far longer than the clock's step.
const BUCKETS: u64 = 60;

/// Hits by the bucket they came in, oldest first; only buckets with hits are kept, and the newest. What counts is the current bucket and
/// all that reach into the last window, 61 when the window is a multiple of them: so any two hits within one window's
/// length have counted together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets(Vec<Bucket>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Which one since the epoch.
    number: u64,
    hits: u64,
}

impl State for Buckets {
    fn count(&self, charge: &Charge, now: u64) -> u64 {
        self.0.iter().filter(|bucket| bucket.end(charge) > now).map(|bucket| bucket.hits).fold(0, u64::saturating_add)
    }

    fn add(&mut self, charge: &Charge, _: u64, now: u64) -> u64 {
        self.0.retain(|bucket| bucket.end(charge) > now);
        if charge.hits > 0 {
            self.put(now / length(charge), charge.hits.unsigned_abs());
        } else {
            self.free(charge.hits.unsigned_abs());
        }
        self.0.last().map_or(0, |newest| newest.end(charge))
    }
}

impl Buckets {
    fn put(&mut self, number: u64, hits: u64) {
        match self.0.last_mut() {
            // A thread that comes late counts in the newest bucket, which is forgotten later.
            Some(newest) if newest.number >= number => newest.hits = newest.hits.saturating_add(hits),
            _ => self.0.push(Bucket { number, hits }),
        }
    }

    /// Takes the oldest hits away. Those that are left are forgotten as late as can be, so giving back never lets more in
    /// than it takes away.
    fn free(&mut self, mut hits: u64) {
        for bucket in &mut self.0 {
            let freed = bucket.hits.min(hits);
            bucket.hits -= freed;
            hits -= freed;
        }
        // The newest stays, empty as it may be: it tells a thread that comes late what time it is.
        let newest = self.0.last().map(|bucket| bucket.number);
        self.0.retain(|bucket| bucket.hits > 0 || Some(bucket.number) == newest);
    }
}

impl Bucket {
    /// When its last hit is older than the window.
    fn end(&self, charge: &Charge) -> u64 {
        (self.number + 1).saturating_mul(length(charge)).saturating_add(window(charge))
    }
}

fn length(charge: &Charge) -> u64 {
    window(charge).div_ceil(BUCKETS)
}

//! Histograms with exponential buckets, which Prometheus calls native. The exporter's own need `protoc` to build.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ::metrics::{Histogram, HistogramFn, Key};
use parking_lot::Mutex;

/// Each bucket is 2^(1/8), about 9 %, wider than the one before.
pub(super) const SCHEMA: i32 = 3;
const BUCKETS_PER_DOUBLING: f64 = 8.0;
/// Index of the first and number of all buckets: from 2^-20 (about a millionth) to 2^16. What lies outside is counted in the nearest.
const FIRST: i32 = -20 * 8;
const COUNT: usize = 36 * 8;

/// All native histograms of the process.
#[derive(Debug, Default)]
pub(super) struct Natives(Mutex<HashMap<Key, Arc<Native>>>);

/// Counts by bucket.
#[derive(Debug)]
pub(super) struct Native {
    buckets: [AtomicU64; COUNT],
    /// Of values that are zero or less.
    zero: AtomicU64,
}

/// What has been counted: by index of the bucket, and at zero. Bucket `i` holds what is above 2^((i-1)/8) and at most 2^(i/8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) buckets: Vec<(i32, u64)>,
    pub(super) zero: u64,
}

/// Records in two histograms.
struct Both {
    classic: Histogram,
    native: Arc<Native>,
}

impl Natives {
    /// A histogram that records in `classic` and natively.
    pub(super) fn beside(&self, classic: Histogram, key: &Key) -> Histogram {
        let native = Arc::clone(self.0.lock().entry(key.clone()).or_default());
        Histogram::from_arc(Arc::new(Both { classic, native }))
    }

    /// The counts of the histogram of this name whose labels are all among these.
    pub(super) fn counts(&self, name: &str, labels: &[(String, String)]) -> Option<Counts> {
        let natives = self.0.lock();
        let has = |key: &Key| {
            key.labels().all(|label| labels.iter().any(|(name, value)| name == label.key() && value == label.value()))
        };
        let found = natives.iter().filter(|(key, _)| key.name() == name && has(key));
        found.max_by_key(|(key, _)| key.labels().len()).map(|(_, native)| native.counts())
    }
}

impl Native {
    fn counts(&self) -> Counts {
        let counts = (FIRST..).zip(&self.buckets).map(|(index, count)| (index, count.load(Relaxed)));
        Counts { buckets: counts.filter(|(_, count)| *count > 0).collect(), zero: self.zero.load(Relaxed) }
    }
}

impl Counts {
    pub(super) fn total(&self) -> u64 {
        self.zero + self.buckets.iter().map(|(_, count)| count).sum::<u64>()
    }
}

impl Default for Native {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), zero: AtomicU64::new(0) }
    }
}

impl HistogramFn for Both {
    #[expect(clippy::cast_possible_truncation, reason = "the logarithm of a double is below 1075; casts saturate")]
    fn record(&self, value: f64) {
        self.classic.record(value);
        if value > 0.0 {
            let index = (value.log2() * BUCKETS_PER_DOUBLING).ceil() as i32;
            let position = usize::try_from(index.saturating_sub(FIRST)).unwrap_or(0).min(COUNT - 1);
            if let Some(bucket) = self.native.buckets.get(position) {
                bucket.fetch_add(1, Relaxed);
            }
        } else {
            self.native.zero.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_value_falls_in_the_bucket_that_ends_at_or_above_it() {
        let natives = Natives::default();
        let key = Key::from_parts("h", &[("a", "b")]);
        let histogram = natives.beside(Histogram::noop(), &key);
        for value in [1.0, 1.000_1, 2.0, 0.0, -1.0, f64::NAN, 1e-9, 1e9, f64::INFINITY] {
            histogram.record(value);
        }
        let labels = [("a".to_owned(), "b".to_owned()), ("global".to_owned(), "c".to_owned())];
        let counts = natives.counts("h", &labels).unwrap();
        assert_eq!(counts.buckets, [(FIRST, 1), (0, 1), (1, 1), (8, 1), (FIRST + 36 * 8 - 1, 2)]);
        assert_eq!((counts.zero, counts.total()), (3, 9));
        assert!(natives.counts("h", &[]).is_none());
    }
}

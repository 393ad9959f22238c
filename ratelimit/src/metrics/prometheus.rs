//! What Prometheus is shown: upstream's names with the domain and two levels of the descriptor, or what a mapping file says.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::mapper::{Mapped, Mapper, MetricType};

/// Levels of a descriptor that upstream's own mapping shows.
const LEVELS: [&str; 3] = ["domain", "key1", "key2"];

/// Names metrics before another recorder sees them. Handles are made once, so this costs nothing when they are used.
pub(super) struct Named<R> {
    pub(super) inner: R,
    /// `None` names them as upstream's own mapping does.
    pub(super) mapper: Option<Mapper>,
    /// Response times are recorded in seconds times this.
    pub(super) unit: f64,
}

struct Scaled(Histogram, f64);

impl HistogramFn for Scaled {
    fn record(&self, value: f64) {
        self.0.record(value * self.1);
    }
}

impl<R> Named<R> {
    fn key(&self, key: &Key, kind: MetricType) -> Mapped {
        match &self.mapper {
            Some(mapper) => mapper.map(key, kind),
            None => Mapped::As(shortened(key), 1.0),
        }
    }
}

/// Without the levels that would make as many series as there are rules.
fn shortened(key: &Key) -> Key {
    let is_level = |label: &str| label.strip_prefix("key").is_some_and(|level| level.parse::<u32>().is_ok());
    if key.labels().all(|label| LEVELS.contains(&label.key()) || !is_level(label.key())) {
        return key.clone();
    }
    let labels = key.labels().filter(|label| LEVELS.contains(&label.key()) || !is_level(label.key())).cloned();
    Key::from_parts(key.name().to_owned(), labels.collect::<Vec<_>>())
}

impl<R: Recorder> Recorder for Named<R> {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        match self.key(key, MetricType::Counter) {
            Mapped::As(key, _) => self.inner.register_counter(&key, metadata),
            Mapped::Dropped => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        match self.key(key, MetricType::Gauge) {
            Mapped::As(key, _) => self.inner.register_gauge(&key, metadata),
            Mapped::Dropped => Gauge::noop(),
        }
    }

    #[expect(clippy::float_cmp, reason = "one means that nothing has been said")]
    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match self.key(key, MetricType::Observer) {
            Mapped::As(key, scale) if scale * self.unit == 1.0 => self.inner.register_histogram(&key, metadata),
            Mapped::As(key, scale) => {
                let histogram = self.inner.register_histogram(&key, metadata);
                Histogram::from_arc(Arc::new(Scaled(histogram, scale * self.unit)))
            }
            Mapped::Dropped => Histogram::noop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_levels_are_not_shown() {
        let key = Key::from_parts("x", &[("domain", "d"), ("key1", "a"), ("key2", "b"), ("key3", "c"), ("keys", "e")]);
        assert_eq!(shortened(&key).to_string(), "Key(x, [domain = d, key1 = a, key2 = b, keys = e])");
    }
}

//! Prometheus' protobuf format (`io.prometheus.client`), the only one that carries native histograms. Counters, gauges and classic
//! buckets are read from the exporter's text.

use std::collections::BTreeMap;

use prost::Message;

use super::native::{Counts, Natives, SCHEMA};

/// What a scraper that wants this format has in `Accept`.
pub(super) const MESSAGE: &str = "proto=io.prometheus.client.MetricFamily";
pub(super) const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Untyped = 3,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Value>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Value>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// `Gauge`, `Counter` and `Untyped`, which look alike.
#[derive(Clone, Copy, PartialEq, Message)]
struct Value {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

type Labels = Vec<(String, String)>;

/// One line of the text: `name{labels} value`.
struct Sample<'t> {
    name: &'t str,
    labels: Labels,
    value: f64,
}

/// The text's metrics, each family behind its length, with the native buckets of histograms.
pub(super) fn render(text: &str, natives: &Natives) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for block in text.split("# TYPE ").skip(1) {
        let Some((head, lines)) = block.split_once('\n') else { continue };
        let Some((name, kind)) = head.split_once(' ') else { continue };
        let samples = lines.lines().filter_map(sample);
        let (kind, metric) = match kind {
            "counter" => (MetricType::Counter, samples.map(|sample| plain(sample, MetricType::Counter)).collect()),
            "gauge" => (MetricType::Gauge, samples.map(|sample| plain(sample, MetricType::Gauge)).collect()),
            "histogram" => (MetricType::Histogram, histograms(name, samples, natives)),
            _ => (MetricType::Untyped, samples.map(|sample| plain(sample, MetricType::Untyped)).collect()),
        };
        let family = MetricFamily { name: Some(name.to_owned()), r#type: Some(kind.into()), metric };
        bytes.extend(family.encode_length_delimited_to_vec());
    }
    bytes
}

fn plain(sample: Sample<'_>, kind: MetricType) -> Metric {
    let value = Some(Value { value: Some(sample.value) });
    let metric = Metric { label: pairs(sample.labels), ..Metric::default() };
    match kind {
        MetricType::Counter => Metric { counter: value, ..metric },
        MetricType::Gauge => Metric { gauge: value, ..metric },
        MetricType::Untyped | MetricType::Histogram => Metric { untyped: value, ..metric },
    }
}

fn histograms<'t>(name: &str, samples: impl Iterator<Item = Sample<'t>>, natives: &Natives) -> Vec<Metric> {
    let mut by_labels: BTreeMap<Labels, Histogram> = BTreeMap::new();
    for Sample { name: line, mut labels, value } in samples {
        let bound = labels.iter().position(|(label, _)| label == "le").map(|at| labels.remove(at).1);
        let histogram = by_labels.entry(labels).or_default();
        match (line.strip_prefix(name), bound.and_then(|bound| bound.parse::<f64>().ok())) {
            (Some("_sum"), _) => histogram.sample_sum = Some(value),
            (Some("_count"), _) => histogram.sample_count = Some(whole(value)),
            // The last bucket is the count.
            (Some("_bucket"), Some(bound)) if bound.is_finite() => {
                let bucket = Bucket { cumulative_count: Some(whole(value)), upper_bound: Some(bound) };
                histogram.bucket.push(bucket);
            }
            _ => {}
        }
    }
    let with_native = |(labels, histogram): (Labels, Histogram)| {
        let counts = natives.counts(name, &labels);
        let histogram = counts.map_or_else(|| histogram.clone(), |counts| natively(histogram.clone(), &counts));
        Metric { label: pairs(labels), histogram: Some(histogram), ..Metric::default() }
    };
    by_labels.into_iter().map(with_native).collect()
}

/// Runs of neighbouring buckets, each bucket as the difference from the one before.
fn natively(histogram: Histogram, counts: &Counts) -> Histogram {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut deltas = Vec::with_capacity(counts.buckets.len());
    let (mut next, mut before) = (0, 0);
    for (index, count) in &counts.buckets {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        match spans.last_mut() {
            Some(span) if *index == next => span.length = span.length.map(|length| length + 1),
            _ => spans.push(BucketSpan { offset: Some(index - next), length: Some(1) }),
        }
        (next, before) = (index + 1, count);
    }
    if spans.is_empty() {
        // Tells a scraper that an empty histogram is native.
        spans.push(BucketSpan { offset: Some(0), length: Some(0) });
    }
    Histogram {
        sample_count: Some(counts.total()),
        schema: Some(SCHEMA),
        zero_threshold: Some(0.0),
        zero_count: Some(counts.zero),
        positive_span: spans,
        positive_delta: deltas,
        ..histogram
    }
}

fn pairs(labels: Labels) -> Vec<LabelPair> {
    labels.into_iter().map(|(name, value)| LabelPair { name: Some(name), value: Some(value) }).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts, and the cast saturates")]
fn whole(count: f64) -> u64 {
    count as u64
}

fn sample(line: &str) -> Option<Sample<'_>> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, self::labels(labels.strip_suffix('}')?)?),
        None => (series, vec![]),
    };
    Some(Sample { name, labels, value: value.parse().ok()? })
}

/// `name="value",…` with `\\`, `\"` and `\n` in values.
fn labels(mut text: &str) -> Option<Labels> {
    let mut labels = Labels::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next()? {
                (end, '"') => break end,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        let rest = rest.get(end + 1..)?;
        text = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ::metrics::{Histogram as Handle, Key};

    use super::*;

    fn families(bytes: &[u8]) -> Vec<MetricFamily> {
        let mut rest = bytes;
        let mut families = vec![];
        while !rest.is_empty() {
            families.push(MetricFamily::decode_length_delimited(&mut rest).unwrap());
        }
        families
    }

    #[test]
    fn text_becomes_families() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"q\\\"\\\\\\n,}\"} 3\na 4\n\n# TYPE b gauge\nb 0.5\n\n";
        let [a, b] = families(&render(text, &Natives::default())).try_into().unwrap();
        assert_eq!((a.name(), a.r#type(), a.metric.len()), ("a", MetricType::Counter, 2));
        assert_eq!(a.metric[0].counter.unwrap().value, Some(3.0));
        assert_eq!(a.metric[0].label[1].value(), "q\"\\\n,}");
        assert_eq!(b.metric[0].gauge.unwrap().value, Some(0.5));
    }

    #[test]
    fn histograms_have_classic_and_native_buckets() {
        let natives = Natives::default();
        let handle = natives.beside(Handle::noop(), &Key::from_parts("h", &[("m", "x")]));
        for value in [1.0, 1.0, 1.05, 4.0] {
            handle.record(value);
        }
        let text = "# TYPE h histogram\nh_bucket{m=\"x\",le=\"1\"} 2\nh_bucket{m=\"x\",le=\"+Inf\"} 4\nh_sum{m=\"x\"} 7.05\nh_count{m=\"x\"} 4\n";
        let [family] = families(&render(text, &natives)).try_into().unwrap();
        let histogram = family.metric[0].histogram.clone().unwrap();
        assert_eq!((histogram.sample_count, histogram.sample_sum), (Some(4), Some(7.05)));
        assert_eq!(histogram.bucket, [Bucket { cumulative_count: Some(2), upper_bound: Some(1.0) }]);
        let span = |offset, length| BucketSpan { offset: Some(offset), length: Some(length) };
        assert_eq!(histogram.positive_span, [span(0, 2), span(14, 1)]);
        assert_eq!(histogram.positive_delta, [2, -1, 0]);
    }
}

//! Server A against server B: the ratio of the medians over some rounds in which both were loaded in turn.

use std::fmt;

use serde::Serialize;

use crate::report::Report;

/// Two servers side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Server A.
    pub a: String,
    /// Server B.
    pub b: String,
    /// How often each was loaded.
    pub rounds: usize,
    /// Failed requests in all rounds, of A and of B.
    pub errors: [u64; 2],
    /// One measure a line.
    pub measures: Vec<Measure>,
}

/// One measure of both servers.
#[derive(Debug, Clone, Serialize)]
pub struct Measure {
    /// What was measured.
    pub name: String,
    /// Median of A.
    pub a: f64,
    /// Median of B.
    pub b: f64,
    /// A divided by B; none if B is 0.
    pub ratio: Option<f64>,
}

/// The measure that says what a decision costs.
pub const SERVER_CPU: &str = "server CPU-s/100k";

/// Takes a measure out of a report.
type Value = fn(&Report) -> Option<f64>;

/// What is compared; a report without a value (the process is not known) is left out of the median.
const MEASURES: [(&str, Value); 9] = [
    ("answers/s", |report| Some(report.answers_per_second)),
    ("mean ms", |report| Some(report.latency.mean_ms)),
    ("p50 ms", |report| Some(report.latency.p50_ms)),
    ("p90 ms", |report| Some(report.latency.p90_ms)),
    ("p99 ms", |report| Some(report.latency.p99_ms)),
    ("p99.9 ms", |report| Some(report.latency.p999_ms)),
    ("max ms", |report| Some(report.latency.max_ms)),
    (SERVER_CPU, |report| report.server?.cpu_seconds_per_100k),
    ("client CPU-s/100k", |report| report.client.cpu_seconds_per_100k),
];

impl Comparison {
    /// Compares the rounds of A with those of B. A measure that one of them lacks is left out.
    pub fn new(a: &[Report], b: &[Report]) -> Self {
        let name = |reports: &[Report]| reports.first().map(|report| report.address.clone()).unwrap_or_default();
        let errors = |reports: &[Report]| reports.iter().map(|report| report.errors).sum();
        let measures = MEASURES.iter().filter_map(|(name, value)| Measure::new((*name).to_owned(), a, b, value));
        let others = a.first().map(|report| report.others.keys()).into_iter().flatten().filter_map(|other| {
            let value = |report: &Report| report.others.get(other)?.cpu_seconds_per_100k;
            Measure::new(format!("{other} CPU-s/100k"), a, b, value)
        });
        let measures = measures.chain(others);
        Self { a: name(a), b: name(b), rounds: a.len(), errors: [errors(a), errors(b)], measures: measures.collect() }
    }

    /// A's CPU time for a decision divided by B's; none if it is not known.
    pub fn server_cpu_ratio(&self) -> Option<f64> {
        self.measures.iter().find(|measure| measure.name == SERVER_CPU)?.ratio
    }
}

impl Measure {
    fn new(name: String, a: &[Report], b: &[Report], value: impl Fn(&Report) -> Option<f64>) -> Option<Self> {
        let (a, b) = (median(a.iter().filter_map(&value))?, median(b.iter().filter_map(&value))?);
        Some(Self { name, a, b, ratio: (b > 0.0).then(|| a / b) })
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let (upper, lower) = (values.get(values.len() / 2)?, values.get(values.len().saturating_sub(1) / 2)?);
    Some(f64::midpoint(*lower, *upper))
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "A = {}\nB = {}\nmedians of {} rounds", self.a, self.b, self.rounds)?;
        writeln!(f, "  {:<18} {:>12} {:>12} {:>8}", "", "A", "B", "A / B")?;
        for Measure { name, a, b, ratio } in &self.measures {
            let digits = if *a < 1000.0 { 3 } else { 0 };
            let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            writeln!(f, "  {name:<18} {a:>12.digits$} {b:>12.digits$} {ratio:>8}")?;
        }
        write!(f, "  {:<18} {:>12} {:>12}", "errors", self.errors[0], self.errors[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 9.0].into_iter()), Some(3.0));
        assert_eq!(median([4.0, 1.0, 2.0, 9.0].into_iter()), Some(3.0));
        assert_eq!(median(std::iter::empty()), None);
    }
}

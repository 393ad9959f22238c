//! The result of a run, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::address::Address;
use crate::process::Usage;
use crate::record::Record;
use crate::settings::{Load, Pace};

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The server.
    pub address: String,
    /// What the requests were.
    pub requests: String,
    /// Open or closed loop.
    pub pace: Pace,
    /// How long, and over how many connections.
    #[serde(flatten)]
    pub load: Load,
    /// Seconds from the end of the warm-up to the last answer.
    pub elapsed_seconds: f64,
    /// Good answers per second.
    pub answers_per_second: f64,
    /// Good answers by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Number of failed requests.
    pub errors: u64,
    /// Failed requests by what went wrong.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// Latencies of answers and timeouts; in an open loop from the moment at which a request was due.
    pub latency: Latency,
    /// What the load generator cost.
    pub client: Cost,
    /// What the server cost, if its process is known.
    pub server: Option<Cost>,
    /// What other processes cost, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, Cost>,
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub min_ms: f64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

/// What a process cost during the measured time.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cost {
    /// The process.
    pub pid: u32,
    /// CPU seconds, user and system.
    pub cpu_seconds: f64,
    /// CPU seconds for 100,000 good answers; none if there were no answers.
    pub cpu_seconds_per_100k: Option<f64>,
    /// Resident memory at the end, in bytes.
    pub rss_bytes: u64,
}

impl Cost {
    /// The cost of `answered` good answers between two readings.
    pub fn new(pid: u32, before: Usage, after: Usage, answered: u64) -> Self {
        let cpu_seconds = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let cpu_seconds_per_100k = (answered > 0).then(|| cpu_seconds * 1e5 / count(answered));
        Self { pid, cpu_seconds, cpu_seconds_per_100k, rss_bytes: after.rss_bytes }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no run counts up to 2^52")]
pub(crate) fn count(count: u64) -> f64 {
    count as f64
}

impl Report {
    /// Sums up what was recorded in `elapsed`.
    pub fn new(
        address: &Address,
        requests: String,
        load: &Load,
        elapsed: Duration,
        record: &Record,
        client: Cost,
        server: Option<Cost>,
    ) -> Self {
        let latencies = record.latencies_us();
        let quantile = |quantile| count(latencies.value_at_quantile(quantile)) / 1000.0;
        Self {
            address: address.to_string(),
            requests,
            pace: load.pace(),
            load: load.clone(),
            elapsed_seconds: elapsed.as_secs_f64(),
            answers_per_second: count(record.answered()) / elapsed.as_secs_f64().max(f64::EPSILON),
            verdicts: record.verdicts().iter().map(|(verdict, count)| ((*verdict).to_owned(), *count)).collect(),
            errors: record.failed(),
            errors_by_kind: record.errors().clone(),
            latency: Latency {
                min_ms: count(latencies.min()) / 1000.0,
                mean_ms: latencies.mean() / 1000.0,
                p50_ms: quantile(0.5),
                p90_ms: quantile(0.9),
                p99_ms: quantile(0.99),
                p999_ms: quantile(0.999),
                max_ms: count(latencies.max()) / 1000.0,
            },
            client,
            server,
            others: BTreeMap::new(),
        }
    }

    /// Number of good answers.
    pub fn answered(&self) -> u64 {
        self.verdicts.values().sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = &self.load;
        writeln!(f, "{}  {}", self.address, self.requests)?;
        writeln!(f, "  load      {}, {} connections", self.pace, load.connections)?;
        writeln!(f, "  measured  {:.2} s after {} s of warm-up", self.elapsed_seconds, load.warm_up.as_secs_f64())?;
        write!(f, "  answers   {:.0}/s", self.answers_per_second)?;
        for (verdict, count) in &self.verdicts {
            write!(f, "  {verdict} {count}")?;
        }
        writeln!(f, "\n  errors    {}", self.errors)?;
        for (kind, count) in &self.errors_by_kind {
            writeln!(f, "            {count} x {kind}")?;
        }
        let l = &self.latency;
        writeln!(
            f,
            "  latency   {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "min", "mean", "p50", "p90", "p99", "p99.9", "max"
        )?;
        write!(f, "  in ms    ")?;
        for value in [l.min_ms, l.mean_ms, l.p50_ms, l.p90_ms, l.p99_ms, l.p999_ms, l.max_ms] {
            write!(f, " {value:>9.3}")?;
        }
        writeln!(f)?;
        match &self.server {
            Some(server) => writeln!(f, "  server    {server}")?,
            None => writeln!(f, "  server    process not known, give it with --pid to see its cost")?,
        }
        for (name, other) in &self.others {
            writeln!(f, "  {name:<9} {other}")?;
        }
        write!(f, "  client    {}", self.client)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cpu_seconds_per_100k {
            Some(cpu) => write!(f, "{cpu:.2} CPU-s per 100k answers")?,
            None => write!(f, "{:.2} CPU-s", self.cpu_seconds)?,
        }
        write!(f, ", {:.1} MiB resident, pid {}", count(self.rss_bytes) / f64::from(1 << 20), self.pid)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::num::NonZeroUsize;

    use super::*;
    use crate::schedule::Arrivals;

    fn report(server: Option<Cost>) -> Report {
        let load = Load {
            concurrency: NonZeroUsize::new(64).unwrap(),
            rate: Some(1000.0),
            arrivals: Arrivals::Poisson,
            connections: NonZeroUsize::new(4).unwrap(),
            duration: Duration::from_secs(2),
            warm_up: Duration::from_millis(500),
            timeout: Duration::from_secs(5),
            quiet: true,
        };
        let mut record = Record::new(&["OK", "OVER_LIMIT"]).unwrap();
        for millisecond in 1..=99 {
            record.answer(Ok("OK"), Duration::from_millis(millisecond));
        }
        record.answer(Err("gRPC status 14".to_owned()), Duration::from_millis(100));
        let address = "unix:/run/rls.sock".parse().unwrap();
        let before = Usage { cpu: Duration::from_secs(3), rss_bytes: 0 };
        let after = Usage { cpu: Duration::from_millis(3010), rss_bytes: 3 << 19 };
        let client = Cost::new(7, before, after, 99);
        Report::new(&address, "domain bench".to_owned(), &load, Duration::from_secs(2), &record, client, server)
    }

    #[test]
    fn the_table_reads_well() {
        let table = report(None).to_string();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "unix:/run/rls.sock  domain bench",
                "  load      open loop, 1000/s Poisson, 4 connections",
                "  measured  2.00 s after 0.5 s of warm-up",
                "  answers   50/s  OK 99  OVER_LIMIT 0",
                "  errors    1",
                "            1 x gRPC status 14",
                "  latency         min      mean       p50       p90       p99     p99.9       max",
                "  in ms         1.000    50.504    50.015    90.047    99.007   100.031   100.031",
                "  server    process not known, give it with --pid to see its cost",
                "  client    10.10 CPU-s per 100k answers, 1.5 MiB resident, pid 7",
            ]
        );
    }

    #[test]
    fn the_json_has_units_in_its_names() {
        let json = serde_json::to_value(report(None)).unwrap();
        assert_eq!(json["pace"]["open_loop"]["rate"], 1000.0);
        assert_eq!(json["duration_seconds"], 2.0);
        assert_eq!(json["verdicts"]["OK"], 99);
        assert_eq!(json["errors_by_kind"]["gRPC status 14"], 1);
        assert_eq!(json["latency"]["p50_ms"], 50.015);
        assert_eq!(json["server"], serde_json::Value::Null);
    }

    #[test]
    fn no_answers_cost_nothing_in_particular() {
        let usage = Usage { cpu: Duration::from_secs(1), rss_bytes: 1 << 20 };
        let cost = Cost::new(7, usage, usage, 0);
        assert_eq!(cost.to_string(), "0.00 CPU-s, 1.0 MiB resident, pid 7");
        assert!(report(Some(cost)).to_string().contains("server    0.00 CPU-s"));
    }
}

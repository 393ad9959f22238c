//! What a run counted.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// More kinds of errors than this are counted together; a server may put a different number into every message.
const ERROR_KINDS: usize = 20;

/// Latencies and outcomes of the requests in the measured window.
#[derive(Debug)]
pub struct Record {
    latencies_us: Histogram<u64>,
    verdicts: BTreeMap<&'static str, u64>,
    errors: BTreeMap<String, u64>,
}

impl Record {
    /// An empty record that lists `verdicts` even when there are none of them.
    pub fn new(verdicts: &[&'static str]) -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            // A microsecond to an hour, three digits.
            latencies_us: Histogram::new_with_bounds(1, 3_600_000_000, 3)?,
            verdicts: verdicts.iter().map(|verdict| (*verdict, 0)).collect(),
            errors: BTreeMap::new(),
        })
    }

    /// Counts an answer that the server gave.
    pub fn answer(&mut self, verdict: Result<&'static str, String>, latency: Duration) {
        self.latency(latency);
        match verdict {
            Ok(verdict) => *self.verdicts.entry(verdict).or_default() += 1,
            Err(error) => self.error(error),
        }
    }

    /// Counts a request that was given up after it had waited for `waited`. The wait goes among the latencies: a stall that
    /// outlasts the timeout must not make the percentiles better.
    pub fn timeout(&mut self, waited: Duration) {
        self.latency(waited);
        self.error("timed out".to_owned());
    }

    /// Counts a request that got no answer.
    pub fn error(&mut self, error: String) {
        let room = self.errors.len() < ERROR_KINDS || self.errors.contains_key(&error);
        *self.errors.entry(if room { error } else { "other".to_owned() }).or_default() += 1;
    }

    fn latency(&mut self, latency: Duration) {
        self.latencies_us.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Latencies in microseconds of answers and timeouts.
    pub fn latencies_us(&self) -> &Histogram<u64> {
        &self.latencies_us
    }

    /// Good answers by verdict.
    pub fn verdicts(&self) -> &BTreeMap<&'static str, u64> {
        &self.verdicts
    }

    /// Failed requests by what went wrong.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// Number of good answers.
    pub fn answered(&self) -> u64 {
        self.verdicts.values().sum()
    }

    /// Number of failed requests.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn counts_everything_once() {
        let mut record = Record::new(&["OK", "OVER_LIMIT"]).unwrap();
        record.answer(Ok("OK"), Duration::from_millis(1));
        record.answer(Err("gRPC status 14".to_owned()), Duration::from_millis(2));
        record.timeout(Duration::from_secs(5));
        record.error("connection lost".to_owned());
        assert_eq!((record.answered(), record.failed()), (1, 3));
        assert_eq!(record.verdicts()["OVER_LIMIT"], 0);
        assert_eq!(record.latencies_us().len(), 3);
        assert!(record.latencies_us().max() >= 5_000_000);
    }

    #[test]
    fn bounds_the_kinds_of_errors() {
        let mut record = Record::new(&[]).unwrap();
        for request in 0..100 {
            record.error(format!("request {request} failed"));
        }
        assert_eq!(record.errors().len(), ERROR_KINDS + 1);
        assert_eq!(record.failed(), 100);
    }
}

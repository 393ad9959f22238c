//! How hard and how long a run loads a server: the command-line options that all targets share.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Serialize;

use crate::schedule::Arrivals;

/// Pace, length and connections of a run.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub struct Load {
    /// Closed loop: so many requests are in flight at any time
    #[arg(long, default_value = "64", conflicts_with = "rate")]
    #[serde(skip)]
    pub concurrency: NonZeroUsize,
    /// Open loop: requests per second, sent when they are due whether or not earlier ones were answered
    #[arg(long, value_parser = rate)]
    #[serde(skip)]
    pub rate: Option<f64>,
    /// How an open loop spaces its requests
    #[arg(long, value_enum, default_value_t, requires = "rate")]
    #[serde(skip)]
    pub arrivals: Arrivals,
    /// HTTP/2 connections, used in turn
    #[arg(long, default_value = "4")]
    pub connections: NonZeroUsize,
    /// Seconds that are measured
    #[arg(long, value_parser = seconds, default_value = "10")]
    #[serde(serialize_with = "as_seconds", rename = "duration_seconds")]
    pub duration: Duration,
    /// Seconds of load before measuring starts
    #[arg(long, value_parser = seconds, default_value = "1")]
    #[serde(serialize_with = "as_seconds", rename = "warm_up_seconds")]
    pub warm_up: Duration,
    /// Seconds after which a request counts as failed
    #[arg(long, value_parser = seconds, default_value = "5")]
    #[serde(serialize_with = "as_seconds", rename = "timeout_seconds")]
    pub timeout: Duration,
    /// No progress on stderr
    #[arg(long)]
    #[serde(skip)]
    pub quiet: bool,
}

/// How requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// The next request waits for an answer.
    ClosedLoop {
        /// Requests in flight.
        concurrency: usize,
    },
    /// Requests are sent by the clock.
    OpenLoop {
        /// Requests per second on average.
        rate: f64,
        /// How they are spaced.
        arrivals: Arrivals,
    },
}

impl Load {
    /// Open loop if there is a rate, else closed loop.
    pub fn pace(&self) -> Pace {
        match self.rate {
            Some(rate) => Pace::OpenLoop { rate, arrivals: self.arrivals },
            None => Pace::ClosedLoop { concurrency: self.concurrency.get() },
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedLoop { concurrency } => write!(f, "closed loop, {concurrency} in flight"),
            Self::OpenLoop { rate, arrivals: Arrivals::Poisson } => write!(f, "open loop, {rate}/s Poisson"),
            Self::OpenLoop { rate, arrivals: Arrivals::Uniform } => write!(f, "open loop, {rate}/s uniform"),
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("a rate is a number of requests per second above 0".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    // A day is longer than any run; the bound keeps sums of times from overflowing.
    match text.parse().map(Duration::try_from_secs_f64) {
        Ok(Ok(duration)) if duration <= Duration::from_hours(24) => Ok(duration),
        _ => Err("a time is a number of seconds between 0 and 86400".to_owned()),
    }
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

//! What is measured, and who reads it.

use std::{net::SocketAddr, time::Duration};

use clap::{ArgAction::Set, Args};

use super::{Error, go};

/// What is measured, and who reads it.
#[derive(Args, Clone, Debug)]
pub struct Stats {
    /// Serve metrics to Prometheus
    #[arg(long, env, default_value = "true", action = Set, value_parser = go::boolean)]
    pub use_prometheus: bool,
    /// Address of the metrics; `:PORT` is all addresses
    #[arg(long, env, default_value = ":9090", value_parser = go::address)]
    pub prometheus_addr: SocketAddr,
    /// Path of the metrics
    #[arg(long, env, default_value = "/metrics", value_parser = path)]
    pub prometheus_path: String,
    /// Mapping of statsd_exporter; the metrics have the names that upstream's mapping gives them, so it is not read
    #[arg(long, env, default_value = "")]
    pub prometheus_mapper_yaml: String,
    /// Not supported yet: the unit of response times
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub prometheus_response_time_as_milliseconds: bool,
    /// Not supported yet: send metrics to statsd
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub use_statsd: bool,
    /// Host of statsd
    #[arg(long, env, default_value = "localhost")]
    pub statsd_host: String,
    /// Port of statsd
    #[arg(long, env, default_value = "8125", value_parser = go::port)]
    pub statsd_port: u16,
    /// tcp or udp
    #[arg(long, env, default_value = "tcp")]
    pub statsd_protocol: String,
    /// Not supported yet: send metrics to DogStatsD
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub use_dog_statsd: bool,
    /// Names of the rules DOG_STATSD_MOGRIFIER_NAME_PATTERN, …_NAME and …_TAGS
    #[arg(long, env, default_value = "", value_parser = go::list)]
    pub use_dog_statsd_mogrifiers: go::List,
    /// Not supported yet: tags of every metric, KEY:VALUE,KEY:VALUE
    #[arg(long, env, default_value = "", value_parser = go::map)]
    pub extra_tags: go::Map,
    /// Pause between two sendings to statsd
    #[arg(long, env, default_value = "10s", value_parser = go::duration)]
    pub stats_flush_interval: Duration,
    /// Measure for nobody
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub disable_stats: bool,
    /// Share of a limit above which hits count as near it, in the metrics
    #[arg(long, env, default_value = "0.8", value_parser = go::share::<f32>)]
    pub near_limit_ratio: f32,
    /// Series of metrics with values of requests, as detailed_metric and value_to_metric ask for; further values share one
    #[arg(long, env, default_value = "1000", value_parser = go::count)]
    pub metrics_max_value_series: usize,
}

impl Stats {
    /// Where Prometheus may ask.
    pub fn prometheus(&self) -> Option<SocketAddr> {
        (self.use_prometheus && !self.disable_stats).then_some(self.prometheus_addr)
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        let reason = "it is not supported yet; metrics are served to Prometheus, see PROMETHEUS_ADDR";
        let refused = [
            ("USE_STATSD", self.use_statsd),
            ("USE_DOG_STATSD", self.use_dog_statsd),
            ("EXTRA_TAGS", !self.extra_tags.0.is_empty()),
            ("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", self.prometheus_response_time_as_milliseconds),
        ];
        match refused.into_iter().find(|(_, on)| *on && !self.disable_stats) {
            Some((name, _)) => Err(Error::refused(name, reason)),
            None => Ok(()),
        }
    }
}

fn path(text: &str) -> Result<String, String> {
    let plain = text.starts_with('/') && text.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.~".contains(c));
    if plain { Ok(text.to_owned()) } else { Err("say a path such as /metrics".into()) }
}

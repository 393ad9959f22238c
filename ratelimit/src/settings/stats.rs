//! What is measured, and who reads it.

use std::{env, fs, io, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction::Set, Args};

use super::{Error, go};
use crate::metrics::{Mapper, Mogrifiers, Options, StatsdOptions, StatsdProtocol};

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
    /// File in the mapping language of statsd_exporter that names the metrics [default: upstream's mapping]
    #[arg(long, env)]
    pub prometheus_mapper_yaml: Option<PathBuf>,
    /// Show Prometheus response times in milliseconds instead of seconds; the metrics keep their names
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub prometheus_response_time_as_milliseconds: bool,
    /// Send metrics to statsd [default: true if STATSD_HOST or STATSD_PORT is given and USE_DOG_STATSD is not set]
    #[arg(long, env, action = Set, value_parser = go::boolean)]
    pub use_statsd: Option<bool>,
    /// Host of statsd or DogStatsD [default: localhost]
    #[arg(long, env)]
    pub statsd_host: Option<String>,
    /// Port of statsd or DogStatsD [default: 8125]
    #[arg(long, env, value_parser = go::port)]
    pub statsd_port: Option<u16>,
    /// How statsd is reached, tcp or udp; DogStatsD is always reached over udp
    #[arg(long, env, default_value = "tcp", value_parser = protocol)]
    pub statsd_protocol: StatsdProtocol,
    /// Send metrics to DogStatsD
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub use_dog_statsd: bool,
    /// Names of rules that make tags of DogStatsD names; rule X is DOG_STATSD_MOGRIFIER_X_PATTERN, …_NAME and …_TAGS
    #[arg(long, env, default_value = "", value_parser = go::list)]
    pub use_dog_statsd_mogrifiers: go::List,
    /// Tags of every metric, KEY:VALUE,KEY:VALUE
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

    /// Who is told what is measured; `None` is nobody. Reads the mapping file.
    pub fn metrics(&self) -> Result<Option<Options>, Error> {
        let (dog, statsd) = (self.use_dog_statsd, self.sends_to_statsd());
        if self.disable_stats || !(self.use_prometheus || dog || statsd) {
            return Ok(None);
        }
        let tags: Vec<_> = self.extra_tags.0.clone().into_iter().collect();
        let mogrifiers = Mogrifiers::read(&self.use_dog_statsd_mogrifiers.0, |variable| env::var(variable).ok());
        let mogrifiers = mogrifiers.map_err(|error| Error::refused("USE_DOG_STATSD_MOGRIFIERS", error.to_string()))?;
        let statsd = (dog || statsd).then(|| StatsdOptions {
            host: self.statsd_host.clone().unwrap_or_else(|| "localhost".into()),
            port: self.statsd_port.unwrap_or(8125),
            protocol: if dog { StatsdProtocol::Udp } else { self.statsd_protocol },
            dog,
            mogrifiers,
            tags: tags.clone(),
            interval: self.stats_flush_interval.max(Duration::from_millis(1)),
        });
        let milliseconds = self.prometheus_response_time_as_milliseconds;
        Ok(Some(Options { mapper: self.mapper()?, milliseconds, tags, statsd }))
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        if self.use_dog_statsd && self.use_statsd == Some(true) {
            return Err(Error::refused(
                "USE_DOG_STATSD",
                "USE_STATSD is true too, and both would send to STATSD_HOST; set one",
            ));
        }
        Ok(())
    }

    fn sends_to_statsd(&self) -> bool {
        let named = self.statsd_host.is_some() || self.statsd_port.is_some();
        self.use_statsd.unwrap_or(named && !self.use_dog_statsd)
    }

    /// A file that is not there is what a deployment mounts optionally; a broken one is a mistake.
    fn mapper(&self) -> Result<Option<Mapper>, Error> {
        let Some(path) = &self.prometheus_mapper_yaml else { return Ok(None) };
        let refused = |error: String| Error::refused("PROMETHEUS_MAPPER_YAML", format!("{}: {error}", path.display()));
        match fs::read_to_string(path) {
            Ok(text) => Mapper::parse(&text).map(Some).map_err(|error| refused(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!("PROMETHEUS_MAPPER_YAML: {} is not there; metrics keep their names", path.display());
                Ok(None)
            }
            Err(error) => Err(refused(error.to_string())),
        }
    }
}

fn protocol(text: &str) -> Result<StatsdProtocol, String> {
    match text {
        "tcp" => Ok(StatsdProtocol::Tcp),
        "udp" => Ok(StatsdProtocol::Udp),
        _ => Err("say tcp or udp".into()),
    }
}

fn path(text: &str) -> Result<String, String> {
    let plain = text.starts_with('/') && text.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.~".contains(c));
    if plain { Ok(text.to_owned()) } else { Err("say a path such as /metrics".into()) }
}

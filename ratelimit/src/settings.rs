//! What an operator sets: environment variables with upstream's names where upstream has them, each also a flag.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{ArgAction::Set, Parser, Subcommand, ValueEnum};
use proto::{serve::Address, telemetry::Format};

use crate::{
    config::Domains,
    limiter::{Headers, Options},
    source::xds,
    store::redis,
};

mod grpc_tls;

pub use grpc_tls::GrpcTls;

#[expect(clippy::struct_excessive_bools, clippy::doc_markdown, reason = "the fields are flags, the texts are --help")]
/// Global rate limits for Envoy: RateLimitService v3 with counters in memory or Redis.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Settings {
    #[expect(missing_docs, reason = "a comment would become the text of --help")]
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Address of /healthcheck and /json
    #[arg(long, env, default_value = "0.0.0.0")]
    pub host: IpAddr,
    /// Port of /healthcheck and /json
    #[arg(long, env, default_value_t = 8080)]
    pub port: u16,
    /// Address of the gRPC service
    #[arg(long, env, default_value = "0.0.0.0")]
    pub grpc_host: IpAddr,
    /// Port of the gRPC service
    #[arg(long, env, default_value_t = 8081)]
    pub grpc_port: u16,
    /// Path of a Unix socket for the gRPC service, instead of address and port
    #[arg(long, env, default_value = "")]
    pub grpc_uds: String,
    #[expect(missing_docs, reason = "a comment would become the text of --help")]
    #[command(flatten)]
    pub grpc_tls: GrpcTls,
    /// How long to go on serving after SIGTERM, while health fails, before connections are drained
    #[arg(long, env, default_value = "0s", value_parser = go_duration)]
    pub drain_delay: Duration,
    /// Address of /rlconfig
    #[arg(long, env, default_value = "0.0.0.0")]
    pub debug_host: IpAddr,
    /// Port of /rlconfig
    #[arg(long, env, default_value_t = 6070)]
    pub debug_port: u16,
    /// Address of /metrics; `:PORT` is all addresses
    #[arg(long, env, default_value = ":9090", value_parser = go_address)]
    pub prometheus_addr: SocketAddr,
    /// Threads that serve gRPC, one single-threaded runtime each [default: the cores this process may use]
    #[arg(long, env)]
    pub cores: Option<usize>,
    /// trace, debug, info, warn or error, or directives such as info,h2=debug
    #[arg(long, env, default_value = "info")]
    pub log_level: String,
    /// text or json
    #[arg(long, env, default_value = "text")]
    pub log_format: Format,

    /// Where the configuration comes from
    #[arg(long, env, value_enum, default_value = "FILE")]
    pub config_type: ConfigType,
    #[expect(missing_docs, reason = "a comment would become the text of --help")]
    #[command(flatten)]
    pub xds: xds::Options,
    /// Let several files or resources share a domain, and merge their descriptors
    #[arg(long, env, default_value = "false", action = Set, value_parser = go_bool)]
    pub merge_domain_config: bool,
    /// With GRPC_XDS_SOTW, listen before the server has sent a configuration
    #[arg(long, env, default_value = "false", action = Set, value_parser = go_bool)]
    pub force_start_without_initial_config: bool,
    /// The configuration is in RUNTIME_ROOT/RUNTIME_SUBDIRECTORY/RUNTIME_APPDIRECTORY/*.yaml
    #[arg(long, env, default_value = "/srv/runtime_data/current")]
    pub runtime_root: PathBuf,
    /// See RUNTIME_ROOT
    #[arg(long, env, default_value = "")]
    pub runtime_subdirectory: String,
    /// See RUNTIME_ROOT
    #[arg(long, env, default_value = "config")]
    pub runtime_appdirectory: String,
    /// Do not be healthy before a configuration has been loaded
    #[arg(long, env, default_value = "false", action = Set, value_parser = go_bool)]
    pub healthy_with_at_least_one_config_loaded: bool,

    /// Where hits are counted
    #[arg(long, env, value_enum, default_value = "memory", ignore_case = true)]
    pub backend_type: BackendType,
    /// Counters that memory holds at most, about 80 bytes each
    #[arg(long, env, default_value_t = 1_000_000)]
    pub memory_max_counters: usize,
    /// redis://, rediss:// or unix:// URL, HOST:PORT, or the path of a socket
    #[arg(long, env, default_value = "redis://127.0.0.1:6379", hide_env_values = true, value_parser = redis_url)]
    pub redis_url: redis::Url,
    /// How long a request waits for Redis before it gets an error
    #[arg(long, env, default_value = "100ms", value_parser = go_duration)]
    pub redis_timeout: Duration,
    /// Stands before every key in Redis
    #[arg(long, env, default_value = "")]
    pub cache_key_prefix: String,

    /// Share of a limit above which hits count as near it, in the metrics
    #[arg(long, env, default_value_t = 0.8)]
    pub near_limit_ratio: f32,
    /// Answer OK to everything, while statuses and metrics tell what would have been denied
    #[arg(long, env, default_value = "false", action = Set, value_parser = go_bool)]
    pub shadow_mode: bool,
    /// A denied request costs nothing of any limit; false counts it in all of them
    #[arg(long, env, default_value = "true", action = Set, value_parser = go_bool)]
    pub stop_cache_key_increment_when_overlimit: bool,
    /// Deny only when all limits of a request are over
    #[arg(long, env, default_value = "false", action = Set, value_parser = go_bool)]
    pub quota_mode: bool,
    /// Tell Envoy the request and the metadata of its rules in dynamic_metadata
    #[arg(long, env, default_value = "false", action = Set, value_parser = go_bool)]
    pub response_dynamic_metadata: bool,
    /// Series of metrics with values of requests, as detailed_metric and value_to_metric ask for; further values share one
    #[arg(long, env, default_value_t = 1000)]
    pub metrics_max_value_series: usize,
    /// Tell clients about their limit in response headers
    #[arg(long, env, default_value = "false", action = Set, value_parser = go_bool)]
    pub limit_response_headers_enabled: bool,
    /// Header with the limit
    #[arg(long, env, default_value = "RateLimit-Limit")]
    pub limit_limit_header: String,
    /// Header with what is left of it
    #[arg(long, env, default_value = "RateLimit-Remaining")]
    pub limit_remaining_header: String,
    /// Header with the seconds until it is whole again
    #[arg(long, env, default_value = "RateLimit-Reset")]
    pub limit_reset_header: String,
}

/// What to do instead of serving.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Read the *.yaml and *.yml files of a directory, print the rules or all files' errors, and end
    Check {
        /// The directory
        dir: PathBuf,
        /// Let several files share a domain, as with merge-domain-config
        #[arg(long)]
        merge_domain_configs: bool,
    },
}

/// The kinds of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConfigType {
    /// YAML files in a directory.
    #[value(name = "FILE")]
    File,
    /// An xDS server, state of the world.
    #[value(name = "GRPC_XDS_SOTW")]
    GrpcXdsSotw,
}

/// The kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendType {
    /// In this process; every replica counts for itself.
    Memory,
    /// In one Redis for all replicas.
    Redis,
}

impl Settings {
    /// The directory with the YAML files.
    pub fn config_dir(&self) -> PathBuf {
        self.runtime_root.join(&self.runtime_subdirectory).join(&self.runtime_appdirectory)
    }

    /// Whether several files may share a domain.
    pub fn domains(&self) -> Domains {
        if self.merge_domain_config { Domains::Merged } else { Domains::Distinct }
    }

    /// Where gRPC is served.
    pub fn grpc_address(&self) -> Address {
        match self.grpc_uds.as_str() {
            "" => Address::Tcp((self.grpc_host, self.grpc_port).into()),
            path => Address::Unix(path.into()),
        }
    }

    /// How requests are answered.
    pub fn options(&self) -> Options {
        let headers = Headers {
            limit: self.limit_limit_header.clone(),
            remaining: self.limit_remaining_header.clone(),
            reset: self.limit_reset_header.clone(),
        };
        Options {
            near_limit_ratio: self.near_limit_ratio,
            shadow_mode: self.shadow_mode,
            all_or_nothing: self.stop_cache_key_increment_when_overlimit,
            quota_mode: self.quota_mode,
            dynamic_metadata: self.response_dynamic_metadata,
            max_value_series: self.metrics_max_value_series,
            headers: self.limit_response_headers_enabled.then_some(headers),
        }
    }

    /// How Redis is used.
    pub fn redis(&self) -> redis::Options {
        let (url, timeout) = (self.redis_url.clone(), self.redis_timeout);
        redis::Options { url, timeout, key_prefix: self.cache_key_prefix.clone() }
    }
}

/// Booleans as upstream takes them.
pub(crate) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("say true or false".into()),
    }
}

/// One number with its unit, as in `150us` or `1.5s`.
pub(crate) fn go_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("say a number with us, ms, s or m".into()),
    };
    let number = f64::from_str(number).map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

/// A socket address whose host may be left out.
fn go_address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map_err(|_| "say ADDRESS:PORT or :PORT".into())
}

#[expect(clippy::unnecessary_wraps, reason = "what clap wants of a parser")]
fn redis_url(text: &str) -> Result<redis::Url, String> {
    Ok(redis::Url::new(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn settings(arguments: &[&str]) -> Settings {
        Settings::try_parse_from([&["ratelimit"], arguments].concat()).unwrap()
    }

    #[test]
    fn defaults_are_upstreams() {
        let settings = settings(&[]);
        assert_eq!(settings.grpc_address().to_string(), "0.0.0.0:8081");
        assert_eq!(settings.config_dir().to_str().unwrap(), "/srv/runtime_data/current/config");
        assert_eq!(settings.options(), Options::default());
        assert_eq!(settings.backend_type, BackendType::Memory);
    }

    #[test]
    fn values_are_read_as_go_writes_them() {
        for (text, duration) in [("150us", 150), ("100ms", 100_000), ("1.5s", 1_500_000), ("2m", 120_000_000)] {
            assert_eq!(go_duration(text).unwrap(), Duration::from_micros(duration), "{text}");
        }
        for text in ["", "10", "ms", "1h30", "-1s"] {
            assert!(go_duration(text).is_err(), "{text}");
        }
        assert_eq!(go_address(":19001").unwrap().to_string(), "0.0.0.0:19001");
        assert!(settings(&["--shadow-mode", "1"]).shadow_mode);
        assert!(!settings(&["--shadow-mode", "False"]).shadow_mode);
    }

    #[test]
    fn secrets_are_not_debug() {
        let settings = settings(&["--redis-url", "redis://user:hunter2@localhost"]);
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}

//! What an operator sets: environment variables with upstream's names where upstream has them, each also a flag.
#![expect(clippy::doc_markdown, clippy::struct_excessive_bools, reason = "the fields are flags, their comments --help")]

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use self::{
    answer::Answer,
    grpc::Grpc,
    http::Http,
    log::Log,
    redis::Redis,
    source::{ConfigType, Source},
    stats::Stats,
    store::{BackendType, Store},
    tls::Tls,
};
use crate::{limiter::Options, store::redis as redis_store};

mod answer;
pub(crate) mod go;
mod grpc;
mod http;
mod log;
mod redis;
mod source;
mod stats;
mod store;
mod tls;

#[expect(missing_docs, reason = "comments of fields would become the text of --help")]
/// Global rate limits for Envoy: RateLimitService v3 with counters in memory or Redis.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Settings {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten, next_help_heading = "HTTP")]
    pub http: Http,
    #[command(flatten, next_help_heading = "gRPC")]
    pub grpc: Grpc,
    #[command(flatten, next_help_heading = "gRPC over TLS")]
    pub tls: Tls,
    #[command(flatten, next_help_heading = "Log")]
    pub log: Log,
    #[command(flatten, next_help_heading = "Configuration")]
    pub source: Source,
    #[command(flatten, next_help_heading = "Counters")]
    pub store: Store,
    #[command(flatten, next_help_heading = "Redis")]
    pub redis: Redis,
    #[command(flatten, next_help_heading = "Answers")]
    pub answer: Answer,
    #[command(flatten, next_help_heading = "Metrics")]
    pub stats: Stats,
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

impl Settings {
    /// How requests are answered.
    pub fn options(&self) -> Options {
        Options {
            near_limit_ratio: self.stats.near_limit_ratio,
            shadow_mode: self.answer.shadow_mode,
            all_or_nothing: self.answer.stop_cache_key_increment_when_overlimit,
            quota_mode: self.answer.quota_mode,
            dynamic_metadata: self.answer.response_dynamic_metadata,
            max_value_series: self.stats.metrics_max_value_series,
            headers: self.answer.headers(),
        }
    }

    /// How Redis is used.
    pub fn redis(&self) -> redis_store::Options {
        redis_store::Options {
            url: self.redis.redis_url.clone(),
            timeout: self.redis.redis_timeout,
            key_prefix: self.store.cache_key_prefix.clone(),
        }
    }
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
        assert_eq!(settings.grpc.address().to_string(), "0.0.0.0:8081");
        assert_eq!(settings.source.dir().to_str().unwrap(), "/srv/runtime_data/current/config");
        assert_eq!(settings.options(), Options::default());
        assert_eq!(settings.store.backend_type, BackendType::Memory);
    }

    #[test]
    fn secrets_are_not_debug() {
        let settings = settings(&["--redis-url", "redis://user:hunter2@localhost"]);
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}

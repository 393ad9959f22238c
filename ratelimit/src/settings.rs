//! What an operator sets: environment variables with upstream's names where upstream has them, each also a flag.
#![expect(clippy::doc_markdown, clippy::struct_excessive_bools, reason = "the fields are flags, their comments --help")]

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgAction::Set, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use self::{
    answer::Answer,
    error::Error,
    explain::Explain,
    grpc::Grpc,
    http::Http,
    log::Log,
    page::Page,
    redis::{PerSecond, Pool, Redis, RedisTls, RedisType, SocketType},
    rlqs::Rlqs,
    source::{ConfigType, Source},
    stats::Stats,
    store::{BackendType, Store},
    tls::Tls,
    tracing::Tracing,
    tuning::Tuning,
    upstream::Upstream,
};
use proto::go;
pub use proto::go::{List, Map};

use crate::{limiter::Options, store::redis as redis_store};

mod answer;
mod error;
mod explain;
mod grpc;
mod http;
mod log;
mod page;
mod redis;
mod rlqs;
mod source;
mod stats;
mod store;
mod tls;
mod tracing;
mod tuning;
mod upstream;

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
    #[command(flatten, next_help_heading = "Tuning")]
    pub tuning: Tuning,
    #[command(flatten, next_help_heading = "Counters")]
    pub store: Store,
    #[command(flatten, next_help_heading = "Redis")]
    pub redis: Redis,
    #[command(flatten, next_help_heading = "Answers")]
    pub answer: Answer,
    #[command(flatten, next_help_heading = "Quota service")]
    pub rlqs: Rlqs,
    #[command(flatten, next_help_heading = "Metrics")]
    pub stats: Stats,
    #[command(flatten, next_help_heading = "Traces")]
    pub tracing: Tracing,
    #[command(flatten, next_help_heading = "Settings of envoyproxy/ratelimit that are not honoured")]
    pub upstream: Upstream,
}

/// What to do instead of serving.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Read the files of a directory, print the rules or all errors of all files, and end
    Check {
        /// The directory
        #[arg(required_unless_present = "config_dir")]
        dir: Option<PathBuf>,
        /// The same, as upstream's config_check calls it
        #[arg(long, alias = "config_dir", value_name = "DIR", conflicts_with = "dir")]
        config_dir: Option<PathBuf>,
        /// Let several files share a domain, as with merge-domain-config
        #[arg(long, alias = "merge_domain_configs", num_args = 0..=1, require_equals = true,
              default_value = "false", default_missing_value = "true", action = Set, value_parser = go::boolean)]
        merge_domain_configs: bool,
    },
    /// Connect to Redis as these settings say, look for settings of it that break limits, and end: with status 1 if one does
    Doctor {
        /// text or json
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Say why a request is answered as it is: which rule applies and why no other, what lies over it, what has been counted
    Explain(Explain),
    /// Print the reference of all settings as Markdown, and end
    Settings,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Settings {
    /// Reads flags and the environment.
    pub fn read(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, Error> {
        let arguments = arguments.into_iter().map(|argument| with_two_dashes(argument.into()));
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(arguments).map_err(|error| Error::of(error, &command))?;
        let mut settings = Self::from_arg_matches(&matches).map_err(|error| Error::of(error, &command))?;
        settings.store.read_secret()?;
        settings.validate()?;
        Ok(settings)
    }

    fn validate(&self) -> Result<(), Error> {
        self.tls.validate()?;
        self.redis.validate()?;
        self.stats.validate()
    }

    /// Where hits are counted: who says where Redis is wants it used.
    pub fn backend_type(&self) -> BackendType {
        let default = if self.redis.is_given() { BackendType::Redis } else { BackendType::Memory };
        self.store.backend_type.unwrap_or(default)
    }

    /// URL of the debug port of an instance with the same settings on this host.
    pub fn debug_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http.debug_port)
    }

    /// How requests are answered.
    pub fn options(&self) -> Options {
        Options {
            near_limit_ratio: self.stats.near_limit_ratio,
            shadow_mode: self.answer.shadow_mode,
            all_or_nothing: self.answer.stop_cache_key_increment_when_overlimit,
            quota_mode: self.answer.quota_mode,
            dynamic_metadata: self.answer.response_dynamic_metadata,
            max_value_series: self.stats.metrics_max_value_series,
            on_store_loss: self.store.on_store_loss,
            override_domains: self.answer.limit_override_domains.clone(),
            secret: self.store.secret(),
            headers: self.answer.headers(),
        }
    }

    /// How Redis is used.
    pub fn redis(&self) -> redis_store::Options {
        self.redis.options(&self.store.cache_key_prefix)
    }
}

/// The flags of upstream's config_check have one dash, as Go programs write them.
fn with_two_dashes(argument: OsString) -> OsString {
    let flags = ["-config_dir", "-merge_domain_configs"];
    match argument.to_str() {
        Some(text) if flags.contains(&text.split('=').next().unwrap_or(text)) => format!("-{text}").into(),
        _ => argument,
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
        assert_eq!(settings.grpc.address().to_string(), "[::]:8081");
        assert_eq!(settings.source.place().dir.to_str().unwrap(), "/srv/runtime_data/current/");
        assert_eq!(settings.source.place().prefix, "config");
        assert_eq!(settings.options(), Options::default());
        assert_eq!(settings.backend_type(), BackendType::Memory);
    }

    #[test]
    fn every_setting_of_upstream_is_known() {
        let page = Page::of(&Settings::command());
        for (variable, _) in upstream::variables() {
            assert!(page.variables().any(|known| known == variable), "{variable}");
        }
    }

    #[test]
    fn every_variable_is_a_flag_of_the_same_name() {
        for argument in Settings::command().get_arguments() {
            let Some(variable) = argument.get_env() else { continue };
            let flag = variable.to_str().unwrap().to_ascii_lowercase().replace('_', "-");
            assert_eq!(argument.get_long(), Some(flag.as_str()));
            assert!(argument.get_help().is_some(), "{flag} has no text");
        }
    }

    /// `UPDATE_README=1 cargo test -p ratelimit readme` writes what this wants.
    #[test]
    fn readme_has_the_reference_page() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let (before, rest) = readme.split_once("<!-- settings -->\n").unwrap();
        let (found, after) = rest.split_once("<!-- /settings -->\n").unwrap();
        let page = Page::of(&Settings::command()).to_string();
        if std::env::var_os("UPDATE_README").is_some() {
            let readme = format!("{before}<!-- settings -->\n{page}<!-- /settings -->\n{after}");
            return std::fs::write(path, readme).unwrap();
        }
        assert!(found == page, "README.md is not what `ratelimit settings` prints; run this test with UPDATE_README=1");
    }

    #[test]
    fn counters_are_in_redis_when_it_is_given() {
        for (arguments, backend) in [
            (&["--redis-url", "redis:6379", "--redis-socket-type", "tcp"][..], BackendType::Redis),
            (&["--redis-socket-type", "TCP"], BackendType::Redis),
            (&["--redis-url", "redis:6379", "--backend-type", "Memory"], BackendType::Memory),
            (&["--redis-timeout", "1s"], BackendType::Memory),
        ] {
            assert_eq!(settings(arguments).backend_type(), backend, "{arguments:?}");
        }
    }

    #[test]
    fn errors_name_the_variable_and_say_what_to_do() {
        for (flag, value, error) in [
            ("--grpc-port", "http", "GRPC_PORT cannot be `http`: say a whole number from 0 to 65535"),
            ("--redis-timeout", "10", "REDIS_TIMEOUT cannot be `10`: say a duration such as 100ms, 1.5s or 1h30m"),
            ("--shadow-mode", "", "SHADOW_MODE cannot be ``: say true or false"),
            ("--config-type", "HTTP", "CONFIG_TYPE cannot be `HTTP`: say FILE or GRPC_XDS_SOTW"),
            (
                "--backend-type",
                "memcache",
                "BACKEND_TYPE cannot be `memcache`: counters in memcached can exceed their limits; say redis and set REDIS_URL",
            ),
            (
                "--memcache-host-port",
                "m:11211",
                "MEMCACHE_HOST_PORT cannot be `m:11211`: counters cannot be kept in memcached; leave it unset, and set BACKEND_TYPE=redis and REDIS_URL",
            ),
            (
                "--redis-pool-on-empty-behavior",
                "CREATE",
                "REDIS_POOL_ON_EMPTY_BEHAVIOR cannot be `CREATE`: requests share connections and never find none free; say WAIT or leave it unset",
            ),
            (
                "--redis-persecond",
                "true",
                "REDIS_PERSECOND is refused: REDIS_PERSECOND_URL does not say where the second Redis is",
            ),
            ("--redis-url", "", "REDIS_URL cannot be used: it is empty; say where Redis is, or do not set it"),
            (
                "--config-grpc-xds-client-additional-headers",
                "hunter2",
                "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS cannot be used: say KEY:VALUE,KEY:VALUE",
            ),
            ("--statsd-protocol", "unix", "STATSD_PROTOCOL cannot be `unix`: say tcp or udp"),
            (
                "--grpc-server-use-tls",
                "true",
                "GRPC_SERVER_USE_TLS is refused: GRPC_SERVER_TLS_CERT and GRPC_SERVER_TLS_KEY do not say with which certificate",
            ),
            ("--log-level", "loud", "LOG_LEVEL cannot be `loud`: say trace, debug, info, warn, error, fatal or panic"),
        ] {
            assert_eq!(Settings::read(["ratelimit", flag, value]).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn what_keeps_its_meaning_is_not_refused() {
        for (flag, value) in [
            ("--redis-pool-on-empty-behavior", "WAIT"),
            ("--memcache-tls", "0"),
            ("--redis-pipeline-limit", "8"),
            ("--grpc-server-tls-ca-cert", "/certs/ca.crt"),
            ("--log-level", "PANIC"),
            ("--grpc-host", ""),
        ] {
            Settings::read(["ratelimit", flag, value]).unwrap();
        }
    }

    #[test]
    fn secrets_are_not_debug() {
        for flag in [
            "--redis-url",
            "--redis-auth",
            "--redis-sentinel-auth",
            "--redis-persecond-auth",
            "--redis-persecond-url",
            "--cache-key-secret",
        ] {
            let settings = settings(&[flag, "redis://user:hunter2@localhost"]);
            assert!(!format!("{settings:?} {:?}", settings.redis.pool()).contains("hunter2"));
        }
    }

    #[test]
    fn l3_the_secret_of_keys_comes_from_a_variable_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (good, empty) = (file("good", "hunter2\n"), file("empty", "\n"));
        let read = |arguments: &[&str]| Settings::read([&["ratelimit"], arguments].concat());
        let secret = |arguments: &[&str]| read(arguments).unwrap().options().secret;
        let given = secret(&["--cache-key-secret", "hunter2"]);
        assert_ne!(given, crate::key::Secret::default());
        assert_eq!(secret(&["--cache-key-secret-file", &good]), given, "without the end of its line");
        assert_eq!(secret(&[]), crate::key::Secret::default());
        for (arguments, text) in [
            (&["--cache-key-secret-file", "/nowhere/secret"][..], "cannot be read"),
            (&["--cache-key-secret-file", &empty], "is empty"),
            (&["--cache-key-secret-file", &good, "--cache-key-secret", "hunter2"], "CACHE_KEY_SECRET"),
        ] {
            let error = read(arguments).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}

//! The settings of upstream: its defaults, and those that this program refuses or accepts without an effect.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};

/// One that is not honoured.
struct Setting {
    name: &'static str,
    default: &'static str,
    /// What it is to upstream.
    text: &'static str,
    effect: Effect,
}

/// What happens when it is set.
#[derive(Clone, Copy)]
enum Effect {
    /// Only these texts are accepted, for they ask for what happens anyway; else the program does not start.
    Refused { keeps: &'static [&'static str], instead: &'static str },
    /// A warning says why nothing happens.
    None { why: &'static str },
    /// The same for what others set as a matter of course.
    Expected { why: &'static str },
}

/// Upstream's settings that are honoured, with its defaults.
const HONOURED: [(&str, &str); 97] = [
    ("HOST", "0.0.0.0"),
    ("PORT", "8080"),
    ("DEBUG_HOST", "0.0.0.0"),
    ("DEBUG_PORT", "6070"),
    ("GRPC_HOST", "0.0.0.0"),
    ("GRPC_PORT", "8081"),
    ("GRPC_UDS", ""),
    ("GRPC_MAX_CONNECTION_AGE", "24h"),
    ("GRPC_MAX_CONNECTION_AGE_GRACE", "1h"),
    ("GRPC_SERVER_USE_TLS", "false"),
    ("GRPC_SERVER_TLS_CERT", ""),
    ("GRPC_SERVER_TLS_KEY", ""),
    ("GRPC_CLIENT_TLS_CACERT", ""),
    ("GRPC_CLIENT_TLS_SAN", ""),
    ("LOG_LEVEL", "WARN"),
    ("LOG_FORMAT", "text"),
    ("CONFIG_TYPE", "FILE"),
    ("FORCE_START_WITHOUT_INITIAL_CONFIG", "false"),
    ("MERGE_DOMAIN_CONFIG", "false"),
    ("RUNTIME_ROOT", "/srv/runtime_data/current"),
    ("RUNTIME_SUBDIRECTORY", ""),
    ("RUNTIME_APPDIRECTORY", "config"),
    ("RUNTIME_IGNOREDOTFILES", "false"),
    ("RUNTIME_WATCH_ROOT", "true"),
    ("CONFIG_GRPC_XDS_NODE_ID", "default"),
    ("CONFIG_GRPC_XDS_NODE_METADATA", ""),
    ("CONFIG_GRPC_XDS_SERVER_URL", "localhost:18000"),
    ("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", "3s"),
    ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", ""),
    ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "false"),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", ""),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", ""),
    ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", ""),
    ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", ""),
    ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "10s"),
    ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "60s"),
    ("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", "0.5"),
    ("XDS_CLIENT_BACKOFF_JITTER", "true"),
    ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "0"),
    ("DISABLE_STATS", "false"),
    ("USE_STATSD", "true"),
    ("STATSD_HOST", "localhost"),
    ("STATSD_PORT", "8125"),
    ("STATSD_PROTOCOL", "tcp"),
    ("USE_DOG_STATSD", "false"),
    ("USE_DOG_STATSD_MOGRIFIERS", ""),
    ("USE_PROMETHEUS", "false"),
    ("PROMETHEUS_ADDR", ":9090"),
    ("PROMETHEUS_PATH", "/metrics"),
    ("PROMETHEUS_MAPPER_YAML", ""),
    ("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", "false"),
    ("EXTRA_TAGS", ""),
    ("STATS_FLUSH_INTERVAL", "10s"),
    ("BACKEND_TYPE", "redis"),
    ("CACHE_KEY_PREFIX", ""),
    ("LOCAL_CACHE_SIZE_IN_BYTES", "0"),
    ("NEAR_LIMIT_RATIO", "0.8"),
    ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", "false"),
    ("SHADOW_MODE", "false"),
    ("QUOTA_MODE", "false"),
    ("RESPONSE_DYNAMIC_METADATA", "false"),
    ("LIMIT_RESPONSE_HEADERS_ENABLED", "false"),
    ("LIMIT_LIMIT_HEADER", "RateLimit-Limit"),
    ("LIMIT_REMAINING_HEADER", "RateLimit-Remaining"),
    ("LIMIT_RESET_HEADER", "RateLimit-Reset"),
    ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "false"),
    ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "false"),
    ("REDIS_SOCKET_TYPE", "unix"),
    ("REDIS_TYPE", "SINGLE"),
    ("REDIS_URL", "/var/run/nutcracker/ratelimit.sock"),
    ("REDIS_POOL_SIZE", "10"),
    ("REDIS_AUTH", ""),
    ("REDIS_TLS", "false"),
    ("REDIS_TLS_CLIENT_CERT", ""),
    ("REDIS_TLS_CLIENT_KEY", ""),
    ("REDIS_TLS_CACERT", ""),
    ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "false"),
    ("REDIS_TIMEOUT", "10s"),
    ("REDIS_SENTINEL_AUTH", ""),
    ("REDIS_STARTUP_INITIAL_INTERVAL", "1s"),
    ("REDIS_STARTUP_MAX_INTERVAL", "30s"),
    ("REDIS_STARTUP_MAX_ELAPSED_TIME", "0s"),
    ("REDIS_PERSECOND", "false"),
    ("REDIS_PERSECOND_SOCKET_TYPE", "unix"),
    ("REDIS_PERSECOND_TYPE", "SINGLE"),
    ("REDIS_PERSECOND_URL", "/var/run/nutcracker/ratelimitpersecond.sock"),
    ("REDIS_PERSECOND_POOL_SIZE", "10"),
    ("REDIS_PERSECOND_AUTH", ""),
    ("REDIS_PERSECOND_TLS", "false"),
    ("REDIS_PERSECOND_SENTINEL_AUTH", ""),
    ("REDIS_PERSECOND_TIMEOUT", "10s"),
    ("TRACING_ENABLED", "false"),
    ("TRACING_SERVICE_NAME", "RateLimit"),
    ("TRACING_SERVICE_NAMESPACE", ""),
    ("TRACING_SERVICE_INSTANCE_ID", ""),
    ("TRACING_EXPORTER_PROTOCOL", "http"),
    ("TRACING_SAMPLING_RATE", "1"),
];

const OFF: &[&str] = &["false", "f", "0"];
const NO_MEMCACHED: &str =
    "counters cannot be kept in memcached; leave it unset, and set BACKEND_TYPE=redis and REDIS_URL";
const NO_POOL_BEHAVIOUR: &str = "requests share connections and never find none free; say WAIT or leave it unset";
const BATCHED: &str = "hits of requests that come together go to Redis together, without waiting";

/// All others of upstream.
const SETTINGS: [Setting; 18] = [
    memcached("MEMCACHE_HOST_PORT", "", &[""], "addresses of memcached"),
    memcached("MEMCACHE_SRV", "", &[""], "DNS SRV record of memcached"),
    memcached("MEMCACHE_SRV_REFRESH", "0", &["0", "0s"], "pause between look-ups of MEMCACHE_SRV"),
    memcached("MEMCACHE_MAX_IDLE_CONNS", "2", &["2"], "idle connections to memcached"),
    memcached("MEMCACHE_TLS", "false", OFF, "TLS to memcached"),
    memcached("MEMCACHE_TLS_CLIENT_CERT", "", &[""], "certificate for memcached"),
    memcached("MEMCACHE_TLS_CLIENT_KEY", "", &[""], "its private key"),
    memcached("MEMCACHE_TLS_CACERT", "", &[""], "certificate authority of memcached"),
    memcached("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", "false", OFF, "whether its name matters"),
    pool_behaviour("REDIS_POOL_ON_EMPTY_BEHAVIOR"),
    pool_behaviour("REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR"),
    batching("REDIS_PIPELINE_WINDOW", "0"),
    batching("REDIS_PERSECOND_PIPELINE_WINDOW", "0"),
    batching("REDIS_PIPELINE_LIMIT", "0"),
    batching("REDIS_PERSECOND_PIPELINE_LIMIT", "0"),
    batching("REDIS_CLUSTER_PIPELINE_PARALLELISM", "1"),
    Setting {
        name: "EXPIRATION_JITTER_MAX_SECONDS",
        default: "300",
        text: "seconds that keys outlive their window",
        effect: Effect::None { why: "keys live as long as they count" },
    },
    Setting {
        name: "GRPC_SERVER_TLS_CA_CERT",
        default: "",
        text: "set by Envoy Gateway, and read by nobody",
        effect: Effect::Expected {
            why: "clients need no certificate; to demand one, set GRPC_CLIENT_TLS_CACERT to this file",
        },
    },
];

/// All of upstream's variables with their defaults.
pub(super) fn variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    HONOURED.into_iter().chain(SETTINGS.iter().map(|setting| (setting.name, setting.default)))
}

/// Upstream's default of a variable, if it is upstream's.
pub(super) fn default(variable: &str) -> Option<&'static str> {
    variables().find(|(name, _)| *name == variable).map(|(_, default)| default)
}

const fn memcached(
    name: &'static str,
    default: &'static str,
    keeps: &'static [&'static str],
    text: &'static str,
) -> Setting {
    Setting { name, default, text, effect: Effect::Refused { keeps, instead: NO_MEMCACHED } }
}

const fn pool_behaviour(name: &'static str) -> Setting {
    let effect = Effect::Refused { keeps: &["wait", ""], instead: NO_POOL_BEHAVIOUR };
    Setting { name, default: "WAIT", text: "what a request does that finds no connection free", effect }
}

const fn batching(name: &'static str, default: &'static str) -> Setting {
    Setting { name, default, text: "how commands to Redis are gathered", effect: Effect::None { why: BATCHED } }
}

impl Setting {
    fn accept(&self, text: &str) -> Result<String, String> {
        match self.effect {
            Effect::Refused { keeps, instead } if !keeps.contains(&text.to_ascii_lowercase().as_str()) => {
                Err(instead.to_owned())
            }
            _ => Ok(text.to_owned()),
        }
    }

    fn help(&self) -> String {
        match self.effect {
            Effect::Refused { instead, .. } => format!("Refused ({}): {instead}", self.text),
            Effect::None { why } | Effect::Expected { why } => format!("No effect ({}): {why}", self.text),
        }
    }
}

/// Those that were set, and have no effect.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// Name and why.
    surprising: Vec<(&'static str, &'static str)>,
    expected: Vec<(&'static str, &'static str)>,
}

impl Upstream {
    /// Says in the log what has no effect.
    pub fn log(&self) {
        for (name, why) in &self.surprising {
            tracing::warn!("{name} has no effect: {why}");
        }
        for (name, why) in &self.expected {
            tracing::info!("{name} has no effect: {why}");
        }
    }
}

impl Args for Upstream {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(|setting| {
            Arg::new(setting.name)
                .long(setting.name.to_ascii_lowercase().replace('_', "-"))
                .env(setting.name)
                .default_value(setting.default)
                .value_parser(|text: &str| setting.accept(text))
                .help(setting.help())
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Upstream {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut upstream = Self::default();
        upstream.update_from_arg_matches(matches)?;
        Ok(upstream)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::default();
        for setting in &SETTINGS {
            if matches!(matches.value_source(setting.name), None | Some(ValueSource::DefaultValue)) {
                continue;
            }
            let is_default = matches.get_one::<String>(setting.name).is_some_and(|text| text == setting.default);
            match setting.effect {
                Effect::None { why } if !is_default => self.surprising.push((setting.name, why)),
                Effect::Expected { why } if !is_default => self.expected.push((setting.name, why)),
                _ => {}
            }
        }
        Ok(())
    }
}

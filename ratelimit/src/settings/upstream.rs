//! Settings of upstream that this program does not honour: refused, or accepted without an effect.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};

/// One of them.
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

const OFF: &[&str] = &["false", "f", "0"];
const NO_MEMCACHED: &str =
    "counters cannot be kept in memcached; leave it unset, and set BACKEND_TYPE=redis and REDIS_URL";
const NO_POOL_BEHAVIOUR: &str = "requests share connections and never find none free; say WAIT or leave it unset";
const BATCHED: &str = "hits of requests that come together go to Redis together, without waiting";

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

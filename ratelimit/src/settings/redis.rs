//! How Redis is reached: one for all limits, or a second one for limits of a second.

use std::{path::PathBuf, thread, time::Duration};

use clap::{ArgAction::Set, Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};

use super::{Error, go};
use crate::store::redis;

/// Where Redis is when nobody says where.
const LOCAL: &str = "redis://127.0.0.1:6379";

#[expect(missing_docs, reason = "comments would become the text of --help")]
/// How Redis is reached.
#[derive(Args, Clone, Debug)]
pub struct Redis {
    /// redis://, rediss:// or unix:// URL, HOST:PORT, or the path of a socket; for Sentinel MASTER,HOST:PORT,HOST:PORT; for a cluster HOST:PORT,HOST:PORT [default: redis://127.0.0.1:6379]
    #[arg(long, env, hide_env_values = true, value_parser = url)]
    pub redis_url: Option<SecretString>,
    /// Whether REDIS_URL without a scheme is HOST:PORT (tcp) or a path (unix) [default: a path begins with /]
    #[arg(long, env, value_enum, ignore_case = true)]
    pub redis_socket_type: Option<SocketType>,
    /// SINGLE, SENTINEL or CLUSTER
    #[arg(long, env, value_enum, default_value = "SINGLE", ignore_case = true)]
    pub redis_type: RedisType,
    /// PASSWORD or USER:PASSWORD
    #[arg(long, env, default_value = "", hide_env_values = true, value_parser = secret)]
    pub redis_auth: SecretString,
    /// PASSWORD or USER:PASSWORD of the Sentinels
    #[arg(long, env, default_value = "", hide_env_values = true, value_parser = secret)]
    pub redis_sentinel_auth: SecretString,
    /// How long a request waits for Redis before it gets an error
    #[arg(long, env, default_value = "100ms", value_parser = go::duration)]
    pub redis_timeout: Duration,
    /// With REDIS_CONNECTIONS=pooled, connections to each server that all cores together hold; each core has one at least
    #[arg(long, env, default_value = "10", value_parser = go::count)]
    pub redis_pool_size: usize,
    /// How many connections a core has to each server: one that its requests share, or a pool of them
    #[arg(long, env, value_enum, default_value = "multiplexed", ignore_case = true)]
    pub redis_connections: RedisConnections,
    /// Pause after the first attempt to connect at start that failed; each further one doubles it
    #[arg(long, env, default_value = "1s", value_parser = go::duration)]
    pub redis_startup_initial_interval: Duration,
    /// Longest pause between attempts to connect at start
    #[arg(long, env, default_value = "30s", value_parser = go::duration)]
    pub redis_startup_max_interval: Duration,
    /// End when Redis has not answered so long after the start; 0 tries for ever
    #[arg(long, env, default_value = "0s", value_parser = go::duration)]
    pub redis_startup_max_elapsed_time: Duration,
    /// File with PASSWORD or USER:PASSWORD, instead of REDIS_AUTH; read at each attempt to connect
    #[arg(long, env, default_value = "")]
    pub redis_auth_file: String,
    /// Be unhealthy while there is no connection to Redis
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub redis_health_check_active_connection: bool,
    #[command(flatten)]
    pub tls: RedisTls,
    #[command(flatten)]
    pub per_second: PerSecond,
}

/// TLS towards Redis; one set of certificates for both of them.
#[derive(Args, Clone, Debug)]
pub struct RedisTls {
    /// Speak TLS to Redis; REDIS_URL may also say rediss://
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub redis_tls: bool,
    /// PEM file with this client's certificate
    #[arg(long, env, default_value = "")]
    pub redis_tls_client_cert: String,
    /// PEM file with its private key
    #[arg(long, env, default_value = "")]
    pub redis_tls_client_key: String,
    /// PEM file with the certificate authorities of Redis [default: those of the system]
    #[arg(long, env, default_value = "")]
    pub redis_tls_cacert: String,
    /// Do not compare the server's name with its certificate, which must still be of a known authority
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub redis_tls_skip_hostname_verification: bool,
}

/// The second Redis.
#[derive(Args, Clone, Debug)]
pub struct PerSecond {
    /// Count limits of a second in a Redis of their own
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub redis_persecond: bool,
    /// See REDIS_URL [default: none]
    #[arg(long, env, hide_env_values = true, value_parser = url)]
    pub redis_persecond_url: Option<SecretString>,
    /// See REDIS_SOCKET_TYPE
    #[arg(long, env, value_enum, ignore_case = true)]
    pub redis_persecond_socket_type: Option<SocketType>,
    /// See REDIS_TYPE
    #[arg(long, env, value_enum, default_value = "SINGLE", ignore_case = true)]
    pub redis_persecond_type: RedisType,
    /// See REDIS_AUTH
    #[arg(long, env, default_value = "", hide_env_values = true, value_parser = secret)]
    pub redis_persecond_auth: SecretString,
    /// See REDIS_SENTINEL_AUTH
    #[arg(long, env, default_value = "", hide_env_values = true, value_parser = secret)]
    pub redis_persecond_sentinel_auth: SecretString,
    /// See REDIS_TIMEOUT
    #[arg(long, env, default_value = "100ms", value_parser = go::duration)]
    pub redis_persecond_timeout: Duration,
    /// See REDIS_POOL_SIZE
    #[arg(long, env, default_value = "10", value_parser = go::count)]
    pub redis_persecond_pool_size: usize,
    /// See REDIS_TLS
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    pub redis_persecond_tls: bool,
}

/// How many connections a core has to each server of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RedisConnections {
    /// One.
    Multiplexed,
    /// Its share of `REDIS_POOL_SIZE`.
    Pooled,
}

/// What listens at an address without a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SocketType {
    /// A port.
    Tcp,
    /// A Unix socket.
    Unix,
}

/// How many Redis there are, and who says which one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum RedisType {
    /// One.
    Single,
    /// A primary that Sentinels know.
    Sentinel,
    /// Many, each with a part of the counters.
    Cluster,
}

/// All that is said about one of the two.
#[derive(Clone, Debug)]
pub struct Pool {
    /// How `url` is to be read.
    pub kind: RedisType,
    /// How an address in it without a scheme is to be read; unless said, a path begins with `/`.
    pub socket_type: Option<SocketType>,
    /// As it was given: one or more addresses, which may hold a password.
    pub url: SecretString,
    /// `PASSWORD` or `USER:PASSWORD`; empty for none.
    pub auth: SecretString,
    /// The same for the Sentinels.
    pub sentinel_auth: SecretString,
    /// Whether to speak TLS.
    pub tls: bool,
    /// Deadline of one request's charges.
    pub timeout: Duration,
    /// Connections at most.
    pub size: usize,
}

impl Redis {
    pub(super) fn validate(&self) -> Result<(), Error> {
        if self.per_second.redis_persecond && self.per_second.redis_persecond_url.is_none() {
            let reason = "REDIS_PERSECOND_URL does not say where the second Redis is";
            return Err(Error::refused("REDIS_PERSECOND", reason));
        }
        if self.tls.redis_tls_client_cert.is_empty() != self.tls.redis_tls_client_key.is_empty() {
            let reason = "REDIS_TLS_CLIENT_CERT and REDIS_TLS_CLIENT_KEY belong together";
            return Err(Error::refused("REDIS_TLS_CLIENT_CERT", reason));
        }
        Ok(())
    }

    /// Whether somebody said where Redis is.
    pub fn is_given(&self) -> bool {
        self.redis_url.is_some() || self.redis_socket_type.is_some() || self.per_second.redis_persecond_url.is_some()
    }

    /// The one for all limits.
    pub fn pool(&self) -> Pool {
        Pool {
            kind: self.redis_type,
            socket_type: self.redis_socket_type,
            url: self.redis_url.clone().unwrap_or_else(|| LOCAL.into()),
            auth: self.redis_auth.clone(),
            sentinel_auth: self.redis_sentinel_auth.clone(),
            tls: self.tls.redis_tls,
            timeout: self.redis_timeout,
            size: self.redis_pool_size,
        }
    }

    /// The one for limits of a second, if they have one.
    pub fn per_second_pool(&self) -> Option<Pool> {
        let settings = &self.per_second;
        let url = settings.redis_persecond_url.clone().unwrap_or_else(|| LOCAL.into());
        settings.redis_persecond.then(|| Pool {
            kind: settings.redis_persecond_type,
            socket_type: settings.redis_persecond_socket_type,
            url,
            auth: settings.redis_persecond_auth.clone(),
            sentinel_auth: settings.redis_persecond_sentinel_auth.clone(),
            tls: settings.redis_persecond_tls,
            timeout: settings.redis_persecond_timeout,
            size: settings.redis_persecond_pool_size,
        })
    }
}

impl Redis {
    /// How both are used.
    pub(super) fn options(&self, key_prefix: &str) -> redis::Options {
        let second = self.per_second_pool().map(|pool| Box::new(self.options_of(&pool, "", key_prefix, true)));
        redis::Options { per_second: second, ..self.options_of(&self.pool(), &self.redis_auth_file, key_prefix, false) }
    }

    fn options_of(&self, pool: &Pool, auth_file: &str, key_prefix: &str, per_second: bool) -> redis::Options {
        let cores = thread::available_parallelism().map_or(1, Into::into);
        let url = match (pool.socket_type, pool.url.expose_secret()) {
            (Some(SocketType::Unix), path) if !path.contains("://") => format!("unix://{path}"),
            (_, url) => url.to_owned(),
        };
        let secret = |secret: &SecretString| {
            let text = secret.expose_secret();
            (!text.is_empty()).then(|| redis::Secret::Text(text.to_owned()))
        };
        let access = redis::Access {
            kind: match pool.kind {
                RedisType::Single => redis::Kind::Single,
                RedisType::Sentinel => redis::Kind::Sentinel,
                RedisType::Cluster => redis::Kind::Cluster,
            },
            auth: file(auth_file).map(redis::Secret::File).or_else(|| secret(&pool.auth)),
            sentinel_auth: secret(&pool.sentinel_auth),
            tls: (pool.tls || url.starts_with("rediss://")).then(|| self.tls.files()),
            connections: match self.redis_connections {
                RedisConnections::Multiplexed => redis::Connections::Multiplexed,
                RedisConnections::Pooled => redis::Connections::Pooled((pool.size / cores).max(1)),
            },
            startup: redis::Startup {
                initial: self.redis_startup_initial_interval,
                max: self.redis_startup_max_interval,
            },
            per_second,
            gates: redis::Gates::default(),
        };
        redis::Options {
            url: redis::Url::new(&url),
            timeout: pool.timeout,
            key_prefix: key_prefix.to_owned(),
            access,
            per_second: None,
        }
    }
}

impl RedisTls {
    fn files(&self) -> redis::Tls {
        redis::Tls {
            ca: file(&self.redis_tls_cacert),
            client: file(&self.redis_tls_client_cert).zip(file(&self.redis_tls_client_key)),
            skip_name: self.redis_tls_skip_hostname_verification,
        }
    }
}

fn file(path: &str) -> Option<PathBuf> {
    (!path.is_empty()).then(|| path.into())
}

fn url(text: &str) -> Result<SecretString, String> {
    if text.trim().is_empty() {
        return Err("it is empty; say where Redis is, or do not set it".into());
    }
    Ok(text.into())
}

#[expect(clippy::unnecessary_wraps, reason = "what clap wants of a parser")]
fn secret(text: &str) -> Result<SecretString, String> {
    Ok(text.into())
}

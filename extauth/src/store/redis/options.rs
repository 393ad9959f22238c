//! Where a Redis is, and how one gets in.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, RedisResult};
use secrecy::{ExposeSecret as _, SecretString};

/// How a Redis is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub url: Url,
    /// How it is laid out.
    pub kind: Kind,
    /// How one gets in.
    pub access: Access,
    /// Stands before every key and topic.
    pub prefix: String,
    /// The bound of each call, with connecting and waiting for a connection.
    pub timeout: Duration,
    /// Connections at most; one command at a time on each.
    pub connections: usize,
}

/// How a Redis is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// One server.
    #[default]
    Single,
    /// A primary that Sentinels name.
    Sentinel,
    /// A Redis Cluster.
    Cluster,
}

/// How one gets into a Redis and its Sentinels.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Credentials of the servers; they win over those in the URL.
    pub auth: Option<Secret>,
    /// Credentials of the Sentinels.
    pub sentinel_auth: Option<Secret>,
    /// TLS to servers and Sentinels; also on for `rediss://`.
    pub tls: Option<Tls>,
}

/// A password, or a user's name and password as `user:password`. Files are read whenever a connection could not be made.
#[derive(Clone, Debug)]
pub enum Secret {
    /// The text itself.
    Text(SecretString),
    /// A file with the text; white space around it is no part of it.
    File(PathBuf),
}

/// How TLS is spoken to Redis. Files are read whenever a connection could not be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the authorities that may have signed the server's certificate; without it the system's.
    pub ca: Option<PathBuf>,
    /// PEM files with this client's certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Address of a Redis, and perhaps its credentials.
#[derive(Clone)]
pub struct Url(SecretString);

/// A [`Url`] as its kind of Redis reads it.
pub(super) enum Target {
    Single(ConnectionInfo),
    Sentinel { name: String, sentinels: Vec<ConnectionInfo> },
    Cluster(Vec<ConnectionInfo>),
}

impl Url {
    /// Single: a `redis://`, `rediss://` or `unix://` URL, `host:port`, or a socket's path. Sentinel: the primary's name and the
    /// Sentinels, `name,host:port,…`. Cluster: some of its nodes, `host:port,…`.
    pub fn new(text: impl Into<SecretString>) -> Self {
        Self(text.into())
    }

    pub(super) fn target(&self, kind: Kind) -> RedisResult<Target> {
        let text = self.0.expose_secret();
        let mut parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let name = if kind == Kind::Sentinel { parts.next().unwrap_or_default().to_owned() } else { String::new() };
        let servers = parts.map(server).collect::<RedisResult<Vec<_>>>()?;
        match (kind, servers.as_slice()) {
            (Kind::Single, [server]) => Ok(Target::Single(server.clone())),
            (Kind::Single, _) => Err(refused("one server is written as one URL or HOST:PORT")),
            (Kind::Sentinel, []) => Err(refused("Sentinels are written as NAME,HOST:PORT,…")),
            (Kind::Sentinel, _) => Ok(Target::Sentinel { name, sentinels: servers }),
            (Kind::Cluster, []) => Err(refused("a cluster needs at least one HOST:PORT")),
            (Kind::Cluster, _) => Ok(Target::Cluster(servers)),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Url(…)")
    }
}

fn server(text: &str) -> RedisResult<ConnectionInfo> {
    let info = match text {
        path if path.starts_with('/') => format!("unix://{path}").into_connection_info(),
        url if url.contains("://") => url.into_connection_info(),
        address => format!("redis://{address}").into_connection_info(),
    }?;
    match info.addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => Err(refused("TLS without any check is not supported")),
        _ => Ok(info),
    }
}

fn refused(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, why))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn target(kind: Kind, text: &str) -> Result<Vec<String>, RedisError> {
        let shown = |infos: Vec<ConnectionInfo>| infos.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>();
        Url::new(text).target(kind).map(|target| match target {
            Target::Single(info) => shown(vec![info]),
            Target::Cluster(nodes) => shown(nodes),
            Target::Sentinel { name, sentinels } => [vec![name], shown(sentinels)].concat(),
        })
    }

    #[test]
    fn urls_are_read_for_their_kind_of_redis() {
        for (kind, text, parts) in [
            (Kind::Single, "redis:6379", &["redis:6379"][..]),
            (Kind::Single, "/run/redis.sock", &["/run/redis.sock"]),
            (Kind::Single, "rediss://user:pass@host:6380/1", &["host:6380"]),
            (Kind::Sentinel, "main,a:26379, b:26379", &["main", "a:26379", "b:26379"]),
            (Kind::Cluster, "a:7000,b:7001", &["a:7000", "b:7001"]),
        ] {
            assert_eq!(target(kind, text).unwrap(), parts, "{text}");
        }
        for (kind, text) in [
            (Kind::Single, ""),
            (Kind::Single, "a:1,b:2"),
            (Kind::Single, "rediss://host/#insecure"),
            (Kind::Sentinel, "main"),
            (Kind::Cluster, ""),
        ] {
            target(kind, text).unwrap_err();
        }
    }

    #[test]
    fn k7_secrets_are_not_debug() {
        let url = Url::new("redis://user:hunter2@host");
        let secret = Secret::Text("hunter2".into());
        assert!(!format!("{url:?} {secret:?}").contains("hunter2"));
    }
}

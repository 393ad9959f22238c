//! Where a Redis is, and how one gets in.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use clap::ValueEnum;
use redis::{
    ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult,
};

use super::gate::Gate;

/// How a Redis is laid out (`REDIS_TYPE`).
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

/// Address of a Redis, and perhaps its credentials. `Debug` does not show them.
#[derive(Clone)]
pub struct Url(String);

impl Url {
    /// Single: a `redis://`, `rediss://` or `unix://` URL, `host:port`, or a socket's path. Sentinel: the primary's name and the
    /// Sentinels, `name,host:port,…`. Cluster: some of its nodes, `host:port,…`.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// What the text means for this kind of Redis.
    pub(super) fn target(&self, kind: Kind) -> RedisResult<Target> {
        let mut parts = self.0.split(',').map(str::trim).filter(|part| !part.is_empty());
        Ok(match kind {
            Kind::Single => Target::Single(server(&self.0)?),
            Kind::Cluster => match parts.map(server).collect::<RedisResult<Vec<_>>>()? {
                seeds if seeds.is_empty() => return Err(refused("a cluster needs at least one HOST:PORT")),
                seeds => Target::Cluster(seeds),
            },
            Kind::Sentinel => {
                let name = parts.next().unwrap_or_default().to_owned();
                match parts.map(server).collect::<RedisResult<Vec<_>>>()? {
                    sentinels if sentinels.is_empty() => {
                        return Err(refused("Sentinels are written as NAME,HOST:PORT,…"));
                    }
                    sentinels => Target::Sentinel { name, sentinels },
                }
            }
        })
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url(…)")
    }
}

/// A [`Url`] as its kind of Redis reads it.
pub(super) enum Target {
    Single(ConnectionInfo),
    Sentinel { name: String, sentinels: Vec<ConnectionInfo> },
    Cluster(Vec<ConnectionInfo>),
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

/// How one gets into a Redis and its Sentinels.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// How it is laid out.
    pub kind: Kind,
    /// Credentials of the servers; they win over those in the URL.
    pub auth: Option<Secret>,
    /// Credentials of the Sentinels.
    pub sentinel_auth: Option<Secret>,
    /// TLS to servers and Sentinels; also on for `rediss://`.
    pub tls: Option<Tls>,
    /// How many connections.
    pub connections: Connections,
    /// Pauses before the first connection.
    pub startup: Startup,
    /// It counts only hits of windows of one second, beside another Redis; metrics then tell the two apart.
    pub per_second: bool,
    /// What all connections that are opened with clones of this know about refused credentials.
    pub gates: Gates,
}

impl Access {
    /// What metrics call its connections.
    pub(super) fn pool_name(&self) -> &'static str {
        if self.per_second { "redis_per_second_pool" } else { "redis_pool" }
    }
}

/// Whether credentials are good, once for the servers and once for the Sentinels.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    pub(super) servers: Arc<Gate>,
    pub(super) sentinels: Arc<Gate>,
}

/// How many connections a runtime has to each server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connections {
    /// One, on which commands follow each other without waiting for replies.
    #[default]
    Multiplexed,
    /// So many at most, each with one command at a time.
    Pooled(usize),
}

/// Pauses between attempts to connect until the first that succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Startup {
    /// After the first attempt; then twice as long each time.
    pub initial: Duration,
    /// Never longer.
    pub max: Duration,
}

impl Default for Startup {
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), max: Duration::from_secs(1) }
    }
}

/// A password, or a user's name and password as `user:password`. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The text itself.
    Text(String),
    /// A file with the text, read at each attempt to connect; blanks around it are no part of it.
    File(PathBuf),
}

impl Secret {
    /// Adds it to what a login sends.
    pub(super) async fn apply(&self, info: RedisConnectionInfo) -> io::Result<RedisConnectionInfo> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::File(path) => read(path).await.and_then(|bytes| {
                String::from_utf8(bytes).map_err(|_| io::Error::other(format!("{} is not text", path.display())))
            })?,
        };
        Ok(match text.trim().split_once(':') {
            Some((user, password)) => info.set_username(user).set_password(password),
            None => info.set_password(text.trim()),
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How TLS is spoken to Redis. Files are read at each attempt to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the authorities that may have signed the server's certificate; without it the system's.
    pub ca: Option<PathBuf>,
    /// PEM files with this client's certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Take a certificate of any name, as long as an authority has signed it.
    pub skip_name: bool,
}

/// A file's content; errors name the file.
pub(super) async fn read(path: &PathBuf) -> io::Result<Vec<u8>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()));
    tokio::fs::read(path).await.map_err(named)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn target(kind: Kind, text: &str) -> Result<Vec<String>, String> {
        let shown = |infos: Vec<ConnectionInfo>| infos.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>();
        Url::new(text).target(kind).map_err(|error| error.to_string()).map(|target| match target {
            Target::Single(info) => shown(vec![info]),
            Target::Cluster(seeds) => shown(seeds),
            Target::Sentinel { name, sentinels } => [vec![name], shown(sentinels)].concat(),
        })
    }

    #[test]
    fn urls_are_read_as_upstream_writes_them() {
        for (kind, text, parts) in [
            (Kind::Single, "redis:6379", &["redis:6379"][..]),
            (Kind::Single, "[::1]:6379", &["::1:6379"]),
            (Kind::Single, "/run/redis.sock", &["/run/redis.sock"]),
            (Kind::Single, "rediss://user:pass@host:6380/1", &["host:6380"]),
            (Kind::Sentinel, "main,a:26379, b:26379", &["main", "a:26379", "b:26379"]),
            (Kind::Cluster, "a:7000,b:7001", &["a:7000", "b:7001"]),
        ] {
            assert_eq!(target(kind, text).unwrap(), parts, "{text}");
        }
        for (kind, text) in [
            (Kind::Single, "http://host"),
            (Kind::Single, "rediss://host/#insecure"),
            (Kind::Sentinel, "main"),
            (Kind::Cluster, ""),
        ] {
            assert!(target(kind, text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn secrets_are_read_with_and_without_a_user() {
        let apply = async |text: &str| {
            let info = Secret::Text(text.into()).apply(RedisConnectionInfo::default()).await.unwrap();
            (info.username().map(str::to_owned), info.password().unwrap().to_owned())
        };
        assert_eq!(apply("hunter2").await, (None, "hunter2".into()));
        assert_eq!(apply("joe:hunter:2\n").await, (Some("joe".into()), "hunter:2".into()));
        assert_eq!(format!("{:?}", Secret::Text("hunter2".into())), "Secret(…)");
    }
}

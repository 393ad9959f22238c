//! Counters in Redis, shared by all replicas.

use std::{fmt, time::Duration};

use tokio::time::timeout;

use self::{
    batch::Batches,
    connection::{Connection, Shard},
    script::{Reply, Script},
};
use super::{Charge, CounterStore, Outcome, StoreError};
use crate::key::Key;

mod batch;
mod connection;
mod script;
mod split;

/// Counts in scripts, so that each request is one step, at one moment of Redis' own clock. Requests that come together
/// share a call. Clones share everything.
#[derive(Clone)]
pub struct Redis {
    connection: Connection,
    batches: Batches,
    options: Options,
}

/// How to use a Redis.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub url: Url,
    /// Deadline of one request's charges; also how long a hung Redis holds a request up.
    pub timeout: Duration,
    /// Stands before every key.
    pub key_prefix: String,
}

/// Address and credentials of a Redis. `Debug` does not show them.
#[derive(Clone)]
pub struct Url(String);

impl Url {
    /// Takes `redis://`, `rediss://` and `unix://` URLs, and upstream's `host:port` and socket paths.
    pub fn new(text: &str) -> Self {
        Self(match text {
            path if path.starts_with('/') => format!("unix://{path}"),
            url if url.contains("://") => url.to_owned(),
            address => format!("redis://{address}"),
        })
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url(…)")
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Redis {
    /// Connects in the background, on the runtime it is called in; fails only when the URL is none.
    pub fn connect(options: Options) -> Result<Self, StoreError> {
        let connection = Connection::open(&options)?;
        let batches = Batches::new(connection.clone(), Script::new(&options.key_prefix), options.timeout);
        Ok(Self { connection, batches, options })
    }

    /// Waits until Redis answers a ping.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let ping = redis::cmd("PING");
        match timeout(self.options.timeout, self.connection.run(self.connection.shard(0), &ping)).await {
            Ok(answer) => answer.map(drop).map_err(StoreError::Redis),
            Err(_) => Err(StoreError::Timeout(self.options.timeout)),
        }
    }

    fn shard_of(&self, key: Key) -> Shard {
        self.connection.shard(script::slot(key))
    }

    /// The shard of all charges if it is the same.
    fn only_shard(&self, charges: &[Charge]) -> Option<Shard> {
        let mut shards = charges.iter().map(|charge| self.shard_of(charge.key));
        let first = shards.next()?;
        shards.all(|shard| shard == first).then_some(first)
    }

    async fn send(&self, shard: Shard, charges: &[Charge]) -> Result<Reply, StoreError> {
        self.batches.send(shard, script::encode(charges), charges.len()).await
    }
}

impl CounterStore for Redis {
    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        match self.only_shard(charges) {
            Some(shard) => Ok(self.send(shard, charges).await?.outcomes(charges)),
            None => self.charge_split(charges).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;

    use super::*;

    #[test]
    fn urls_are_read_as_upstream_writes_them() {
        for (text, url) in [
            ("redis:6379", "redis://redis:6379"),
            ("/run/redis.sock", "unix:///run/redis.sock"),
            ("rediss://user:pass@host:6380/1", "rediss://user:pass@host:6380/1"),
        ] {
            assert_eq!(Url::new(text).0, url);
            assert!(Url::new(text).0.as_str().into_connection_info().is_ok(), "{url}");
        }
    }
}

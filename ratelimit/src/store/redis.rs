//! Counters in Redis, shared by all replicas.

use std::{fmt, time::Duration};

use redis::{
    Client, IntoConnectionInfo, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::time::timeout;

use super::{Charge, CounterStore, Outcome, StoreError};

/// How long one attempt to connect may take. Charges do not wait for it, they have their own deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// One multiplexed connection that all charges of one runtime share, and that comes back by itself. Each request is one
/// script call, so it takes one round trip and all of its counters see the same moment of Redis' own clock.
#[derive(Clone)]
pub struct Redis {
    connection: ConnectionManager,
    script: Script,
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
        let info = options.url.0.as_str().into_connection_info().map_err(StoreError::Url)?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_min_delay(RECONNECT_DELAY)
            .set_max_delay(RECONNECT_DELAY)
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        let connection = Client::open(info).and_then(|client| ConnectionManager::new_lazy_with_config(client, config));
        let script = Script::new(include_str!("redis/charge.lua"));
        Ok(Self { connection: connection.map_err(StoreError::Url)?, script, options })
    }

    /// Waits until Redis answers a ping.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut connection = self.connection.clone();
        self.within_deadline(redis::cmd("PING").exec_async(&mut connection)).await
    }

    async fn within_deadline<T>(&self, call: impl Future<Output = Result<T, RedisError>>) -> Result<T, StoreError> {
        match timeout(self.options.timeout, call).await {
            Ok(answer) => answer.map_err(StoreError::Redis),
            Err(_) => Err(StoreError::Timeout(self.options.timeout)),
        }
    }
}

impl CounterStore for Redis {
    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        let mut call = self.script.prepare_invoke();
        for charge in charges {
            // The braces make a cluster place all windows of a counter on one node.
            call.key(format!("{}{{{}}}", self.options.key_prefix, charge.key)).arg(charge.hits).arg(charge.window);
            call.arg(charge.limit).arg(charge.denies as u8).arg(charge.undo as u8);
        }
        let mut connection = self.connection.clone();
        let reply: Vec<u64> = self.within_deadline(call.invoke_async(&mut connection)).await?;
        match reply.as_slice() {
            [now, denied, counts @ ..] if counts.len() == charges.len() => Ok(charges
                .iter()
                .zip(counts)
                .map(|(charge, &count)| charge.outcome(count, *denied == 1, seconds_left(charge.window, *now)))
                .collect()),
            _ => Err(StoreError::Reply),
        }
    }
}

fn seconds_left(window: u32, now: u64) -> u32 {
    let elapsed = now % u64::from(window.max(1));
    window - u32::try_from(elapsed).unwrap_or_default()
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn windows_end_on_the_epochs_grid() {
        assert_eq!(seconds_left(60, 119), 1);
        assert_eq!(seconds_left(60, 120), 60);
    }
}

//! The way to a Redis.

use std::{fmt, time::Duration};

use redis::{
    Client, Cmd, IntoConnectionInfo, RedisResult, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::{Options, StoreError};

/// How long one attempt to connect may take. Charges do not wait for it, they have their own deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// One multiplexed connection that all charges of one runtime share, and that comes back by itself.
#[derive(Clone)]
pub(super) struct Connection {
    manager: ConnectionManager,
}

/// Servers that one call can reach: all keys whose slots share a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shard;

impl Connection {
    /// Connects in the background, on the runtime it is called in; fails only when the URL is none.
    pub(super) fn open(options: &Options) -> Result<Self, StoreError> {
        let info = options.url.0.as_str().into_connection_info().map_err(StoreError::Url)?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_min_delay(RECONNECT_DELAY)
            .set_max_delay(RECONNECT_DELAY)
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        let manager = Client::open(info).and_then(|client| ConnectionManager::new_lazy_with_config(client, config));
        Ok(Self { manager: manager.map_err(StoreError::Url)? })
    }

    /// Where the keys of a slot are.
    #[expect(clippy::unused_self, reason = "a cluster asks its map")]
    pub(super) fn shard(&self, _slot: u16) -> Shard {
        Shard
    }

    /// Runs a command once: one whose reply is lost may have been executed, and is not repeated.
    pub(super) async fn run(&self, _shard: Shard, command: &Cmd) -> RedisResult<Value> {
        command.query_async(&mut self.manager.clone()).await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection(…)")
    }
}

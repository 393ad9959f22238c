//! Connections to one server, as the pool makes and keeps them.

use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleResult};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};

/// A connection that was in use so recently needs no test before it is used again: that would be a second question to Redis for
/// each. One that fails is not kept.
const PROVEN: Duration = Duration::from_millis(100);

/// What deadpool-redis makes and tests.
pub(super) struct Manager(pub(super) deadpool_redis::Manager);

impl managed::Manager for Manager {
    type Type = MultiplexedConnection;
    type Error = RedisError;

    async fn create(&self) -> RedisResult<MultiplexedConnection> {
        self.0.create().await
    }

    async fn recycle(&self, connection: &mut MultiplexedConnection, metrics: &Metrics) -> RecycleResult<RedisError> {
        if metrics.last_used() < PROVEN { Ok(()) } else { self.0.recycle(connection, metrics).await }
    }
}

//! The open connections to one server.

use deadpool_redis::{Manager, Pool, PoolError};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cmd, from_redis_value,
};

use super::options::Connections;

/// One connection for all commands, or a pool of them.
#[derive(Clone)]
pub(super) enum Wire {
    Multiplexed(MultiplexedConnection),
    Pooled(Pool),
}

/// What a server is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Primary,
    Replica,
    /// A Sentinel, a proxy, or a server that does not let this user ask.
    Unknown,
}

impl Wire {
    pub(super) async fn open(client: Client, config: &AsyncConnectionConfig, kind: Connections) -> RedisResult<Self> {
        Ok(match kind {
            Connections::Multiplexed => {
                Self::Multiplexed(client.get_multiplexed_async_connection_with_config(config).await?)
            }
            Connections::Pooled(size) => {
                let manager = Manager::new_with_config(client.get_connection_info().clone(), config.clone())?;
                let pool = Pool::builder(manager).max_size(size.max(1)).build();
                Self::Pooled(pool.map_err(|error| failed("building a pool", &error))?)
            }
        })
    }

    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Multiplexed(connection) => connection.clone().send_packed_command(command).await,
            Self::Pooled(pool) => checkout(pool).await?.send_packed_command(command).await,
        }
    }

    /// Sends it to a cluster's node that is just taking its slot over.
    pub(super) async fn send_asking(&self, command: &Cmd) -> RedisResult<Value> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("ASKING").add_command(command.clone());
        let mut replies = match self {
            Self::Multiplexed(connection) => connection.clone().req_packed_commands(&pipeline, 0, 2).await?,
            Self::Pooled(pool) => checkout(pool).await?.req_packed_commands(&pipeline, 0, 2).await?,
        };
        replies.pop().unwrap_or(Value::Nil).extract_error()
    }

    pub(super) async fn role(&self) -> RedisResult<Role> {
        let denied = |error: &RedisError| {
            matches!(error.kind(), ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError))
        };
        match self.send(&cmd("ROLE")).await.and_then(Value::extract_error) {
            Ok(Value::Array(parts)) => Ok(match parts.into_iter().next().map(from_redis_value::<String>) {
                Some(Ok(role)) if role == "master" => Role::Primary,
                Some(Ok(role)) if role == "slave" => Role::Replica,
                _ => Role::Unknown,
            }),
            Err(error) if !denied(&error) => Err(error),
            _ => self.send(&cmd("PING")).await.map(|_| Role::Unknown),
        }
    }

    /// Connections that are open.
    pub(super) fn open_connections(&self) -> usize {
        match self {
            Self::Multiplexed(_) => 1,
            Self::Pooled(pool) => pool.status().size,
        }
    }
}

async fn checkout(pool: &Pool) -> RedisResult<deadpool_redis::Connection> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) => error,
        error => failed("taking a connection from the pool", &error),
    })
}

fn failed(what: &'static str, error: &impl ToString) -> RedisError {
    RedisError::from((ErrorKind::Client, what, error.to_string()))
}

//! A store in Redis, shared by all replicas: one server, a primary that Sentinels name, or a cluster.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, FromRedisValue, cmd};
use tokio::sync::broadcast;
use tokio::time::timeout;

pub use self::options::{Access, Kind, Options, Secret, Tls, Url};
use self::pools::Pools;
use super::{Abort, BACKLOG, Error, Listener, bounded};
use crate::background::Background;

mod cluster;
mod login;
mod options;
mod pools;
mod sentinel;
mod single;
mod topic;

/// Sets the value if it is still what the caller has seen.
const SWAP: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1 end return 0";

/// A set is sorted by when its members expire, on Redis' own clock; it lives as long as the last of them.
const ADD: &str = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) \
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) \
    redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1]) \
    if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end";

const MEMBERS: &str = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) \
    return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')";

const DISCARD: &str = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) \
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) \
    return redis.call('ZREM', KEYS[1], ARGV[1])";

/// Entries in Redis. Connections live on the [`Background`], whoever asks.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    pools: Pools,
    background: Background,
    options: Options,
}

impl fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Redis").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Redis {
    /// Connects when it is first used; fails only when the options can never work.
    pub fn new(options: Options, background: Background) -> Result<Self, Error> {
        let pools = Pools::open(&options, &background)?;
        Ok(Self { shared: Arc::new(Shared { pools, background, options }) })
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.run(self.command("GET", key)).await
    }

    pub(super) async fn put(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), Error> {
        let mut command = self.command("SET", key);
        command.arg(value).arg("PX").arg(milliseconds(ttl));
        self.run(command).await
    }

    pub(super) async fn put_new(&self, key: &str, value: &[u8], ttl: Duration) -> Result<bool, Error> {
        let mut command = self.command("SET", key);
        command.arg(value).arg("PX").arg(milliseconds(ttl)).arg("NX");
        let set: Option<String> = self.run(command).await?;
        Ok(set.is_some())
    }

    pub(super) async fn swap(&self, key: &str, old: &[u8], new: &[u8], ttl: Duration) -> Result<bool, Error> {
        let mut script = self.script(SWAP, key);
        script.arg(old).arg(new).arg(milliseconds(ttl));
        self.run(script).await
    }

    pub(super) async fn take(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.run(self.command("GETDEL", key)).await
    }

    pub(super) async fn remove(&self, key: &str) -> Result<bool, Error> {
        self.run(self.command("DEL", key)).await
    }

    pub(super) async fn add(&self, set: &str, member: &[u8], ttl: Duration) -> Result<(), Error> {
        let mut script = self.script(ADD, set);
        script.arg(member).arg(milliseconds(ttl));
        self.run(script).await
    }

    pub(super) async fn discard(&self, set: &str, member: &[u8]) -> Result<bool, Error> {
        let mut script = self.script(DISCARD, set);
        script.arg(member);
        self.run(script).await
    }

    pub(super) async fn members(&self, set: &str) -> Result<Vec<Bytes>, Error> {
        self.run(self.script(MEMBERS, set)).await
    }

    pub(super) async fn announce(&self, topic: &str, message: &[u8]) -> Result<(), Error> {
        let mut command = self.command("PUBLISH", topic);
        command.arg(message);
        self.run::<()>(command).await
    }

    pub(super) fn listen(&self, topic: &str) -> Listener {
        let (sender, news) = broadcast::channel(BACKLOG);
        let channel = self.name(topic);
        let following = topic::follow(self.shared.pools.clone(), channel, sender.clone());
        let task = Abort(self.shared.background.spawn(following).abort_handle());
        Listener { news, _sender: sender, _task: Some(Arc::new(task)) }
    }

    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.shared.options.prefix)
    }

    fn command(&self, name: &str, key: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(self.name(key));
        command
    }

    fn script(&self, source: &str, key: &str) -> Cmd {
        let mut command = cmd("EVAL");
        command.arg(source).arg(1).arg(self.name(key));
        command
    }

    /// Sends a command once. Given up by its caller, it goes on to its end.
    async fn run<T: FromRedisValue + Send + 'static>(&self, command: Cmd) -> Result<T, Error> {
        let bound = self.shared.options.timeout;
        let pools = self.shared.pools.clone();
        let running = async move {
            match timeout(bound, pools.run(&command)).await {
                Ok(reply) => Ok(redis::from_redis_value(reply?).map_err(redis::RedisError::from)?),
                Err(_) => Err(Error::Timeout(bound)),
            }
        };
        self.shared.background.spawn(running).await.map_err(|_| Error::Ended)?
    }
}

fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(bounded(ttl).as_millis()).unwrap_or(u64::MAX)
}

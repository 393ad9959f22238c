//! How many replicas there are, by what they write into Redis.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{FromRedisValue, Value};
use tokio::time::{sleep, timeout};

use super::{Local, Redis, StoreError};

/// Pause between two heartbeats.
const PAUSE: Duration = Duration::from_secs(1);
/// A replica that has written nothing for so long is gone. Fewer replicas are believed when they have been fewer for as long,
/// so a Redis that starts empty does not make each of them think that it is alone.
const LAPSE: Duration = Duration::from_secs(5);
/// How long a heartbeat may take. Nobody waits for it.
const DEADLINE: Duration = Duration::from_secs(1);

/// KEYS[1] is a set of the replicas, sorted by when they wrote last. ARGV: the replica, and milliseconds until it lapses.
/// Returns the time, the replica's place in the order of names, and how many there are.
const SCRIPT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local members, number = redis.call('ZRANGE', KEYS[1], 0, -1), 0
for _, member in ipairs(members) do
  if member < ARGV[1] then
    number = number + 1
  end
end
return { string.format('%.0f', now), number, #members }
";

/// A replica among those that share a Redis.
#[derive(Debug)]
pub struct Member {
    redis: Redis,
    local: Arc<Local>,
    name: String,
    /// How many replicas there are, unless Redis is to tell.
    fixed: Option<u32>,
    /// The highest count of replicas lately, and until when it holds.
    most: (u32, Instant),
}

impl Member {
    /// Joins with a random name. `local` learns how many replicas there are, but for a `fixed` number of them, and the time.
    pub fn join(redis: Redis, local: Arc<Local>, fixed: Option<u32>) -> Self {
        if let Some(count) = fixed {
            local.set_replicas(count, None);
        }
        Self { redis, local, name: format!("{:032x}", rand::random::<u128>()), fixed, most: (1, Instant::now()) }
    }

    /// Writes and reads for as long as it is polled.
    pub async fn keep(mut self) {
        loop {
            match timeout(DEADLINE, self.beat()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "no heartbeat"),
                Err(_) => tracing::debug!("no heartbeat in time"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Writes and reads once.
    pub async fn beat(&mut self) -> Result<(), StoreError> {
        let lapse = LAPSE.as_millis().to_string();
        let told = self.redis.run_script(SCRIPT, "members", &[&self.name, &lapse]).await?;
        let (now, number, count) = read(&told).ok_or(StoreError::Reply)?;
        self.local.set_clock(now, Instant::now());
        if self.fixed.is_none() {
            self.learn(count, number);
        }
        Ok(())
    }

    fn learn(&mut self, count: u32, number: u32) {
        let now = Instant::now();
        if count >= self.most.0 || now >= self.most.1 {
            self.most = (count, now + LAPSE);
        }
        let number = (count == self.most.0).then_some(number);
        self.local.set_replicas(self.most.0, number);
    }
}

fn read(value: &Value) -> Option<(u64, u32, u32)> {
    let (now, number, count): (String, u32, u32) = FromRedisValue::from_redis_value_ref(value).ok()?;
    Some((now.parse().ok()?, number, count))
}

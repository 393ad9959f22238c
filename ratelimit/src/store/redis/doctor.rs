//! Looks for settings of a Redis that break limits: `ratelimit doctor`, and a few of its checks at run time.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::gauge;
use redis::{Cmd, RedisResult, cmd, from_redis_value};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use self::checks::Facts;
use super::{Connection, Kind, Options, Redis, Shard};
use crate::{
    key::Key,
    store::{Algorithm, Charge, CounterStore, Denies, OnStoreLoss, StoreError, Undo},
};

mod checks;

/// How often the dangerous settings are looked at while the program runs.
const LOOK: Duration = Duration::from_secs(5);
/// How long a server may take to answer the doctor.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pings that the latency is measured with.
const PINGS: usize = 100;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Limits may be less exact, or lost in a failure.
    Warn,
    /// Limits are broken, or will be.
    Fail,
}

/// What one check of one server found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which server.
    pub server: String,
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub status: Status,
    /// What was found.
    pub value: String,
    /// What to change; empty where nothing is to be.
    pub advice: String,
}

/// Checks every server that counts. Fails only on settings that can never work.
pub async fn examine(options: Options) -> Result<Vec<Finding>, StoreError> {
    let redis = Redis::connect(Options { timeout: PATIENCE, ..options.clone() })?;
    let answer = redis.ping().await;
    let shards = redis.connection.shards();
    let failed = |error: &dyn fmt::Display| {
        Finding::new("connection", Status::Fail, error).advise("check REDIS_URL, REDIS_TYPE, REDIS_AUTH and REDIS_TLS")
    };
    if let Err(error) = answer {
        return Ok(vec![failed(&error)]);
    }
    let mut findings = vec![charges(&redis).await];
    for shard in shards {
        let timeout = if shard.second { options.per_second.as_ref().map(|second| second.timeout) } else { None };
        let kind = if shard.second { options.per_second.as_ref().map(|second| second.access.kind) } else { None };
        let expected = (kind.unwrap_or(options.access.kind), timeout.unwrap_or(options.timeout));
        match facts(&redis.connection, shard).await {
            Ok(facts) => findings.extend(checks::all(&facts, expected.0 == Kind::Sentinel, expected.1)),
            Err(error) => findings.push(failed(&error)),
        }
    }
    Ok(findings)
}

/// Logs settings that are dangerous as soon as they are, and tells them in a gauge, for ever.
pub async fn watch(connection: &Connection) {
    let mut known: HashMap<(String, &'static str), String> = HashMap::new();
    loop {
        for shard in connection.shards() {
            let Ok(Ok(info)) = timeout(PATIENCE, info(connection, shard)).await else { continue };
            for finding in checks::dangers(&info) {
                let unsafe_now = finding.status != Status::Ok;
                gauge!("ratelimit_redis_unsafe", "server" => finding.server.clone(), "check" => finding.check)
                    .set(if unsafe_now { 1.0 } else { 0.0 });
                let Finding { server, check, value, advice, .. } = finding;
                let before = known.insert((server.clone(), check), value.clone());
                if unsafe_now && before.as_ref() != Some(&value) {
                    tracing::warn!(%server, check, %value, %advice, "Redis is set so that limits can be lost");
                }
            }
        }
        sleep(LOOK).await;
    }
}

async fn ask<T: redis::FromRedisValue>(connection: &Connection, shard: Shard, command: &Cmd) -> RedisResult<T> {
    Ok(from_redis_value(connection.run(shard, command).await?)?)
}

async fn info(connection: &Connection, shard: Shard) -> RedisResult<HashMap<String, String>> {
    let text: String = ask(connection, shard, &cmd("INFO")).await?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    Ok(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

async fn facts(connection: &Connection, shard: Shard) -> RedisResult<Facts> {
    let info = info(connection, shard).await?;
    let config = ask(connection, shard, cmd("CONFIG").arg("GET").arg("*")).await.ok();
    let asked = Instant::now();
    let time: RedisResult<(u64, u64)> = ask(connection, shard, &cmd("TIME")).await;
    let halfway = asked.elapsed() / 2;
    let offset = time.ok().and_then(|(seconds, micros)| {
        let there = Duration::new(seconds, 0) + Duration::from_micros(micros);
        let here = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.saturating_sub(halfway);
        Some(there.abs_diff(here))
    });
    let mut pings = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let sent = Instant::now();
        let _: String = ask(connection, shard, &cmd("PING")).await?;
        pings.push(sent.elapsed());
    }
    pings.sort_unstable();
    Ok(Facts { info, config, offset, pings })
}

/// Counts as requests do, with every algorithm, in counters of its own that are gone within seconds: shows whether this
/// user may use all commands of the script.
async fn charges(redis: &Redis) -> Finding {
    let algorithms =
        [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::Gcra { per_window: 1 }, Algorithm::Concurrency];
    for algorithm in algorithms {
        for window in [1, 2] {
            let charge = Charge {
                key: Key::new("ratelimit doctor", window, algorithm, &[], &[]),
                hits: 1,
                limit: 1,
                denies: Denies::Nothing,
                undo: Undo::Never,
                algorithm,
                window,
                on_store_loss: OnStoreLoss::Error,
                leases: true,
            };
            let back = Charge { hits: -1, ..charge };
            if let Err(error) = redis.charge(&[charge, back]).await {
                let advice = "allow the user: ACL SETUSER NAME ~PREFIX* +eval +evalsha +time +hget +hincrby +hset +hlen \
                              +expire +get +set +del +ping +role +info";
                return Finding::new("charge", Status::Fail, &error).advise(advice);
            }
        }
    }
    Finding::new("charge", Status::Ok, &"counted with every algorithm")
}

impl Finding {
    fn new(check: &'static str, status: Status, value: &(impl fmt::Display + ?Sized)) -> Self {
        Self { server: String::new(), check, status, value: value.to_string(), advice: String::new() }
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: advice.into(), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            Status::Ok => "OK",
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
        };
        write!(f, "{status:4} {} {}: {}", self.server, self.check, self.value)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "\n     {}", self.advice) }
    }
}

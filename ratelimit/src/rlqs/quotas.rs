//! All streams and the limits that they share.

use std::collections::hash_map::Entry as MapEntry;

use ahash::HashMap;
use envoy_types::pb::{
    envoy::{
        extensions::common::ratelimit::v3::rate_limit_descriptor::Entry,
        service::rate_limit_quota::v3::{
            BucketId, RateLimitQuotaResponse, RateLimitQuotaUsageReports,
            rate_limit_quota_response::{
                BucketAction,
                bucket_action::{AbandonAction, BucketAction as Action, QuotaAssignmentAction},
            },
            rate_limit_quota_usage_reports::BucketQuotaUsage,
        },
        r#type::v3::{
            RateLimitStrategy, TokenBucket,
            rate_limit_strategy::{BlanketRule, Strategy},
        },
    },
    google::protobuf::{Duration, UInt32Value},
};

use super::{
    metrics::Metrics,
    pool::{Pool, Quota, Share, Times},
};
use crate::{
    config::{Config, Limit, PerUnit, Rule},
    store::Algorithm,
};

/// Buckets of one stream, at most.
const MAX_BUCKETS_OF_STREAM: usize = 1000;
/// Buckets of all streams, at most, those of streams that have just ended included.
const MAX_BUCKETS: usize = 100_000;
/// Pairs in the id of a bucket, at most.
const MAX_PAIRS: usize = 8;
/// Bytes in the id of a bucket, at most.
const MAX_ID_BYTES: usize = 1024;
/// How long messages may be underway, in milliseconds.
const UNDERWAY: u64 = 2000;

/// One stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(u64);

/// Why reports were refused; the stream ends with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The first message has no domain.
    #[error("the first message must have a domain")]
    NoDomain,
    /// A later message has another domain than the first.
    #[error("a stream has one domain: open another stream for another domain")]
    OtherDomain,
    /// The configuration does not have the domain.
    #[error("unknown domain")]
    UnknownDomain,
    /// A bucket has no id, or an empty one.
    #[error("usage {0} has no bucket_id")]
    NoId(usize),
    /// A bucket's id is too large.
    #[error("bucket_id of usage {0} has more than {MAX_PAIRS} pairs or {MAX_ID_BYTES} bytes")]
    LargeId(usize),
    /// The stream has too many buckets.
    #[error("a stream has at most {MAX_BUCKETS_OF_STREAM} buckets")]
    TooManyOfStream,
    /// All streams have too many buckets together.
    #[error("too many buckets are in use")]
    TooMany,
}

/// The limits that streams share. Times are milliseconds of any clock that does not go back.
#[derive(Debug)]
pub struct Quotas {
    times: Times,
    /// The most replicas that there were lately, and until when they count.
    replicas: (u32, u64),
    streams: HashMap<u64, Stream>,
    pools: HashMap<PoolKey, Pool>,
    next: u64,
    /// No less than the buckets there are.
    buckets: usize,
    swept: u64,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Stream {
    domain: String,
    buckets: HashMap<Pairs, Subscription>,
}

#[derive(Debug)]
struct Subscription {
    number: u64,
    reported: u64,
    /// Where it shares; `None` if it may do all or nothing.
    pool: Option<PoolKey>,
}

/// A bucket's id, sorted.
type Pairs = Vec<(String, String)>;

/// What has a limit of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PoolKey {
    domain: String,
    pairs: Pairs,
    window: u32,
}

/// What the configuration says about a bucket.
enum Allowance {
    All,
    Nothing,
    Part(PoolKey, Quota),
    /// Its rule cannot be divided.
    Unfit,
}

impl Quotas {
    /// Assignments last `ttl`, in milliseconds.
    pub fn new(ttl: u64) -> Self {
        let times = Times { hold: ttl + UNDERWAY, sure: ttl.saturating_sub(UNDERWAY).max(ttl / 2), ttl };
        let (streams, pools, metrics) = (HashMap::default(), HashMap::default(), Metrics::new());
        Self { times, replicas: (1, 0), streams, pools, next: 0, buckets: 0, swept: 0, metrics }
    }

    /// A stream begins.
    pub fn open(&mut self) -> StreamId {
        self.next += 1;
        self.streams.insert(self.next, Stream::default());
        self.show();
        StreamId(self.next)
    }

    /// A stream has ended.
    pub fn close(&mut self, stream: StreamId, now: u64) {
        for subscription in self.streams.remove(&stream.0).into_iter().flat_map(|stream| stream.buckets.into_values()) {
            leave(&mut self.pools, stream.0, &subscription);
        }
        self.sweep(now);
        self.show();
    }

    /// Answers what a stream reports, an action for each bucket. Each of `replicas` divides its part of the limits; when there are
    /// fewer than before, only once what the others have given has lapsed.
    pub fn report(
        &mut self,
        stream: StreamId,
        reports: &RateLimitQuotaUsageReports,
        config: &Config,
        replicas: u32,
        now: u64,
    ) -> Result<RateLimitQuotaResponse, ReportError> {
        self.sweep(now);
        if replicas >= self.replicas.0 || now >= self.replicas.1 {
            self.replicas = (replicas, now + self.times.hold);
        }
        let replicas = self.replicas.0;
        let domain = self.domain(stream, &reports.domain, config)?;
        let mut bucket_action = Vec::with_capacity(reports.bucket_quota_usages.len().min(MAX_BUCKETS_OF_STREAM));
        for (at, usage) in reports.bucket_quota_usages.iter().enumerate() {
            let pairs = pairs(usage, at)?;
            let allowance = allowance(config, &domain, &pairs, replicas);
            let action = self.answer(stream, pairs, usage, allowance, now)?;
            bucket_action.push(BucketAction { bucket_id: usage.bucket_id.clone(), bucket_action: Some(action) });
        }
        self.show();
        Ok(RateLimitQuotaResponse { bucket_action })
    }

    /// The stream's domain, which its first message names.
    fn domain(&mut self, stream: StreamId, named: &str, config: &Config) -> Result<String, ReportError> {
        let stream = self.streams.entry(stream.0).or_default();
        match (stream.domain.as_str(), named) {
            ("", "") => return Err(ReportError::NoDomain),
            ("", named) if config.domain(named).is_none() => return Err(ReportError::UnknownDomain),
            ("", named) => named.clone_into(&mut stream.domain),
            (domain, named) if !named.is_empty() && named != domain => return Err(ReportError::OtherDomain),
            _ => {}
        }
        Ok(stream.domain.clone())
    }

    fn answer(
        &mut self,
        StreamId(id): StreamId,
        pairs: Pairs,
        usage: &BucketQuotaUsage,
        allowance: Allowance,
        now: u64,
    ) -> Result<Action, ReportError> {
        let pool = match &allowance {
            Allowance::Part(key, _) => Some(key),
            Allowance::All | Allowance::Nothing | Allowance::Unfit => None,
        };
        let stream = self.streams.entry(id).or_default();
        let count = stream.buckets.len();
        let number = match stream.buckets.entry(pairs) {
            MapEntry::Occupied(mut known) => {
                known.get_mut().reported = now;
                // Envoy would not notice that only the window has changed, so a bucket that comes to another limit starts anew.
                if known.get().pool.is_some() && known.get().pool.as_ref() != pool {
                    leave(&mut self.pools, id, &known.remove());
                    self.metrics.abandoned.increment(1);
                    return Ok(Action::AbandonAction(AbandonAction {}));
                }
                known.get_mut().pool = pool.cloned();
                known.get().number
            }
            MapEntry::Vacant(_) if count >= MAX_BUCKETS_OF_STREAM => return Err(ReportError::TooManyOfStream),
            MapEntry::Vacant(_) if self.buckets >= MAX_BUCKETS => return Err(ReportError::TooMany),
            MapEntry::Vacant(new) => {
                self.buckets += 1;
                self.next += 1;
                new.insert(Subscription { number: self.next, reported: now, pool: pool.cloned() }).number
            }
        };
        self.metrics.allowed.increment(usage.num_requests_allowed);
        self.metrics.denied.increment(usage.num_requests_denied);
        Ok(match allowance {
            Allowance::All => self.blanket(BlanketRule::AllowAll),
            Allowance::Nothing => self.blanket(BlanketRule::DenyAll),
            Allowance::Unfit => {
                self.metrics.abandoned.increment(1);
                Action::AbandonAction(AbandonAction {})
            }
            Allowance::Part(key, quota) => {
                let requests = usage.num_requests_allowed.saturating_add(usage.num_requests_denied);
                let pool = self.pools.entry(key).or_default();
                pool.report((id, number), requests, now);
                match pool.assign((id, number), quota, self.times, now) {
                    Share { requests: 0, .. } => self.blanket(BlanketRule::DenyAll),
                    share => self.token_bucket(share, quota.window),
                }
            }
        })
    }

    fn blanket(&self, rule: BlanketRule) -> Action {
        match rule {
            BlanketRule::AllowAll => self.metrics.assigned_allow.increment(1),
            BlanketRule::DenyAll => self.metrics.assigned_deny.increment(1),
        }
        self.assignment(Strategy::BlanketRule(rule.into()))
    }

    fn token_bucket(&self, share: Share, window: u32) -> Action {
        self.metrics.assigned_share.increment(1);
        self.assignment(Strategy::TokenBucket(TokenBucket {
            max_tokens: share.burst,
            tokens_per_fill: Some(UInt32Value { value: share.requests }),
            fill_interval: Some(Duration { seconds: window.into(), nanos: 0 }),
        }))
    }

    fn assignment(&self, strategy: Strategy) -> Action {
        let (seconds, millis) = (self.times.ttl / 1000, self.times.ttl % 1000);
        let nanos = i32::try_from(millis * 1_000_000).unwrap_or_default();
        Action::QuotaAssignmentAction(QuotaAssignmentAction {
            assignment_time_to_live: Some(Duration { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos }),
            rate_limit_strategy: Some(RateLimitStrategy { strategy: Some(strategy) }),
        })
    }

    /// Forgets, now and then, what is over and what nobody has reported for long.
    fn sweep(&mut self, now: u64) {
        if now.saturating_sub(self.swept) < self.times.hold / 2 {
            return;
        }
        self.swept = now;
        let (pools, stale) = (&mut self.pools, now.saturating_sub(2 * self.times.hold));
        for (id, stream) in &mut self.streams {
            stream.buckets.retain(|_, subscription| {
                let keep = subscription.reported >= stale;
                if !keep {
                    leave(pools, *id, subscription);
                }
                keep
            });
        }
        pools.retain(|_, pool| {
            pool.expire(now);
            pool.len() > 0
        });
        let subscriptions: usize = self.streams.values().map(|stream| stream.buckets.len()).sum();
        self.buckets = subscriptions.max(pools.values().map(Pool::len).sum());
    }

    #[expect(clippy::cast_precision_loss, reason = "there are never so many")]
    fn show(&self) {
        self.metrics.clients.set(self.streams.len() as f64);
        self.metrics.buckets.set(self.pools.len() as f64);
    }
}

fn leave(pools: &mut HashMap<PoolKey, Pool>, stream: u64, subscription: &Subscription) {
    if let Some(pool) = subscription.pool.as_ref().and_then(|key| pools.get_mut(key)) {
        pool.leave((stream, subscription.number));
    }
}

/// A bucket's id; `at` is the usage's place in the message.
fn pairs(usage: &BucketQuotaUsage, at: usize) -> Result<Pairs, ReportError> {
    let BucketId { bucket } = usage.bucket_id.as_ref().ok_or(ReportError::NoId(at))?;
    let bytes: usize = bucket.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bucket.is_empty() {
        return Err(ReportError::NoId(at));
    }
    if bucket.len() > MAX_PAIRS || bytes > MAX_ID_BYTES {
        return Err(ReportError::LargeId(at));
    }
    let mut pairs: Pairs = bucket.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    pairs.sort();
    Ok(pairs)
}

fn allowance(config: &Config, domain: &str, pairs: &Pairs, replicas: u32) -> Allowance {
    let entries = pairs.iter().map(|(key, value)| Entry { key: key.clone(), value: value.clone() }).collect();
    let found = config.domain(domain).and_then(|domain| domain.rule_unordered(entries));
    let Some((rule, entries)) = found.filter(|(rule, _)| !rule.shadow_mode) else { return Allowance::All };
    let Limit::PerUnit(limit) = rule.limit_of(&entries) else { return Allowance::All };
    if limit.requests_per_unit == 0 {
        return Allowance::Nothing;
    }
    if limit.algorithm == Algorithm::Concurrency {
        return Allowance::Unfit;
    }
    let key = PoolKey { domain: domain.to_owned(), pairs: counted_as(rule, entries), window: limit.window() };
    match part(limit, replicas) {
        Quota { requests: 0, .. } => Allowance::Nothing,
        quota => Allowance::Part(key, quota),
    }
}

/// The values that have a limit of their own.
fn counted_as(rule: &Rule, entries: Vec<Entry>) -> Pairs {
    let shared = rule.shared.iter().map(Option::as_deref).chain(std::iter::repeat(None));
    let pair = |(entry, shared): (Entry, Option<&str>)| (entry.key, shared.map_or(entry.value, str::to_owned));
    entries.into_iter().zip(shared).map(pair).collect()
}

/// What one of `replicas` may divide. A quarter of what may come at once is handed out as bursts.
fn part(limit: PerUnit, replicas: u32) -> Quota {
    let of = |limit: u32| limit / replicas.max(1);
    Quota { requests: of(limit.requests_per_unit), window: limit.window(), burst: of(limit.burst).div_ceil(4) }
}

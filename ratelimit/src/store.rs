//! Where hits are counted.

use std::{fmt, future::Future, slice, str::FromStr, sync::Arc, time::Duration};

pub use self::{
    lease::Lease,
    loss::{Local, Loss},
    membership::Member,
    memory::Memory,
    near::Near,
    redis::Redis,
    stack::Stack,
    standing::{Holder, Standing, foresee},
};
use crate::key::Key;

mod algorithm;
pub mod lease;
mod loss;
mod membership;
mod memory;
pub mod near;
pub mod redis;
pub mod stack;
mod standing;

/// Hits to add to one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Which counter.
    pub key: Key,
    /// Added to the counter. Zero only reads it; a negative number gives hits back, and the counter stops at zero.
    pub hits: i64,
    /// Counts above it are over the limit. For [`Algorithm::Gcra`] this is the burst.
    pub limit: u32,
    /// What being over the limit means for the request.
    pub denies: Denies,
    /// When the charge is taken back.
    pub undo: Undo,
    /// How hits are counted and forgotten.
    pub algorithm: Algorithm,
    /// Length of the counter's window in seconds, on the store's clock; at least one.
    pub window: u32,
    /// Who decides while the store cannot.
    pub on_store_loss: OnStoreLoss,
    /// Hits of its counter may be debited before they are needed; no for one whose count is to be right at any moment.
    pub leases: bool,
}

/// How a counter forgets hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// All at once, at the end of a window that is aligned to the Unix epoch.
    #[default]
    FixedWindow,
    /// Each when it is as old as the window, so no interval of that length ever takes more than the limit.
    SlidingWindow,
    /// Evenly, so many in each window (generic cell rate algorithm); the charge's limit is how many may come at once.
    Gcra {
        /// Hits that one window gives back; at least one.
        per_window: u32,
    },
    /// When they are given back by negative hits; those that never are, when they are as old as the window.
    Concurrency,
}

/// Who decides about a charge while the store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreLoss {
    /// The request gets an error, and Envoy's `failure_mode_deny` decides. What envoyproxy/ratelimit does.
    Error,
    /// Each replica counts for itself, and admits its share of the limit.
    Share,
    /// What has been leased before is admitted, nothing else.
    LeaseOnly,
    /// Everything is admitted.
    Allow,
    /// Everything is denied.
    Deny,
}

impl OnStoreLoss {
    pub(crate) const ALL: [Self; 5] = [Self::Error, Self::Share, Self::LeaseOnly, Self::Allow, Self::Deny];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Share => "share",
            Self::LeaseOnly => "lease_only",
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for OnStoreLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Takes the words of the configuration in upper or lower case, with `-` or `_`.
impl FromStr for OnStoreLoss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase().replace('-', "_");
        let found = Self::ALL.into_iter().find(|loss| loss.name() == name);
        found.ok_or_else(|| format!("invalid on_store_loss '{text}', expected error, share, lease_only, allow or deny"))
    }
}

/// What a charge that goes over its limit means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denies {
    /// It passes nevertheless.
    Nothing = 0,
    /// It is denied.
    Alone = 1,
    /// It is denied when all charges of this kind in it are over.
    Together = 2,
}

/// Whether a charge is taken back when its request is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// It stays.
    Never = 0,
    /// It is taken back.
    Denied = 1,
    /// It is taken back if others deny the request. It stays if it is over its own limit, for what has cost more than was
    /// left has cost all that was left.
    DeniedByOthers = 2,
}

/// A counter after its charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Hits in this window: with the charge's own if they stay or are too many, else without.
    pub count: u64,
    /// The hits stay; false for those that a denied request gave back.
    pub charged: bool,
    /// Whole seconds until the fixed window ends, or else until nothing of the counter is left; at least one.
    pub seconds_left: u32,
    /// It was known before to be over its limit; nothing was counted.
    pub near: bool,
}

/// Why hits could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The memory store holds as many counters of running windows as it may.
    #[error("the memory store is full with {0} counters; raise MEMORY_MAX_COUNTERS")]
    Full(usize),
    /// The URL of Redis cannot be used.
    #[error("the URL of Redis is not valid: {0}")]
    Url(#[source] ::redis::RedisError),
    /// Redis refused a charge, or could not be reached.
    #[error("cannot count in Redis: {0}")]
    Redis(#[source] ::redis::RedisError),
    /// Redis did not answer in time.
    #[error("Redis did not answer within {0:?}")]
    Timeout(Duration),
    /// More charges wait for Redis than it can take.
    #[error("{0} charges wait for Redis already")]
    Busy(usize),
    /// Redis has lost counts, and its replicas tell it what they remember.
    #[error("Redis counts nothing until its replicas have told it what they had counted")]
    Learning,
    /// Leases need all counters in one place.
    #[error("LEASES need a single Redis or Sentinel, not a cluster")]
    LeasesInCluster,
    /// Redis answered with something else than one count for each charge.
    #[error("Redis answered a charge with something unexpected")]
    Reply,
    /// The store does not answer, and a rule wants an error then.
    #[error("the counter store does not answer")]
    Lost,
}

/// Counts hits by the store's own clock, so all replicas that share a store share its windows.
pub trait CounterStore: Send + Sync + 'static {
    /// Applies all charges in order, or what their [`Undo`] leaves of them if they deny the request, as one atomic step.
    /// Returns one outcome for each. After an error any part of them may have been applied: errors can deny too early,
    /// never admit too much.
    fn charge(&self, charges: &[Charge]) -> impl Future<Output = Result<Vec<Outcome>, StoreError>> + Send;

    /// Charges without the store, from what has been taken from it before; `None` when that is not enough for all charges.
    fn charge_held(&self, _charges: &[Charge]) -> Option<Vec<Outcome>> {
        None
    }

    /// Looks at the counters of charges, and charges nothing. An error where a charge would be decided without the store.
    fn peek(&self, charges: &[Charge]) -> impl Future<Output = Result<Vec<Standing>, StoreError>> + Send {
        let looks = standing::looks(charges);
        async move { Ok(self.charge(&looks).await?.into_iter().map(Standing::from).collect()) }
    }

    /// Which part of the store has the charge's counter. Parts fail by themselves.
    fn part(&self, _charge: &Charge) -> usize {
        0
    }

    /// Hits of the charge's counter that this replica has taken from the store in the running window, as far as is known.
    fn debited(&self, _charge: &Charge) -> u64 {
        0
    }

    /// Takes note of what was decided without the store, at `now` milliseconds of its clock, to tell it when it is back. False
    /// when it was told already, so that nothing may be added.
    fn remember(&self, _charges: &[Charge], _outcomes: &[Outcome], _now: u64) -> bool {
        true
    }
}

impl StoreError {
    fn of_redis(error: ::redis::RedisError) -> Self {
        match error.code() {
            Some(code) if code.starts_with("LEASE_") => Self::Learning,
            _ => Self::Redis(error),
        }
    }
}

impl Charge {
    /// Whether a counter that stands at `count` is over the limit.
    pub(crate) fn is_over(&self, count: u64) -> bool {
        count > u64::from(self.limit)
    }

    /// What is told about a charge that is alone in its request, at a counter that stood at `before`.
    fn alone(&self, before: u64) -> Outcome {
        let count = before.saturating_add_signed(self.hits);
        self.outcome(count, is_denied(slice::from_ref(self), &[count]), 0)
    }

    /// What is told about a charge that led to `count`.
    pub(crate) fn outcome(&self, count: u64, denied: bool, seconds_left: u32) -> Outcome {
        let charged = !denied
            || match self.undo {
                Undo::Never => true,
                Undo::Denied => false,
                Undo::DeniedByOthers => self.is_over(count),
            };
        let told = if charged || self.is_over(count) { count } else { count.saturating_add_signed(-self.hits) };
        Outcome { count: told, charged, seconds_left, near: false }
    }
}

/// Whether charges that led to these counts deny their request.
pub(crate) fn is_denied(charges: &[Charge], counts: &[u64]) -> bool {
    let over = |denies| {
        let of_kind = charges.iter().zip(counts).filter(move |(charge, _)| charge.denies == denies);
        of_kind.map(|(charge, count)| charge.is_over(*count))
    };
    over(Denies::Alone).any(|over| over)
        || (over(Denies::Together).next().is_some() && over(Denies::Together).all(|over| over))
}

/// The stores to choose from.
#[derive(Clone, Debug)]
pub enum Any {
    /// In this process, shared by its runtimes.
    Memory(Arc<Memory>),
    /// In Redis, one connection for each runtime.
    Redis(Redis),
    /// In Redis, or by each rule's `on_store_loss` while it does not answer.
    Guarded(Loss<Redis>),
    /// The same, with denials that need no Redis.
    Near(Loss<Near<Redis>>),
    /// The same, with leases.
    Leased(Loss<Lease>),
}

impl CounterStore for Any {
    /// What waits for Redis is a large future; it is boxed, so that what is decided here does not carry it around.
    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        match self {
            Self::Memory(memory) => memory.charge_now(charges),
            Self::Redis(redis) => Box::pin(redis.charge(charges)).await,
            Self::Guarded(loss) => Box::pin(loss.charge(charges)).await,
            Self::Near(loss) => loss.charge(charges).await,
            Self::Leased(loss) => loss.charge(charges).await,
        }
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Vec<Standing>, StoreError> {
        match self {
            Self::Memory(memory) => memory.peek(charges).await,
            Self::Redis(redis) => redis.peek(charges).await,
            Self::Guarded(loss) => loss.peek(charges).await,
            Self::Near(loss) => loss.peek(charges).await,
            Self::Leased(loss) => loss.peek(charges).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_waits_for_nobody_carries_little() {
        let store = Any::Memory(Arc::new(Memory::new(1)));
        let size = size_of_val(&store.charge(&[]));
        assert!(size <= 1024, "{size} bytes");
    }
}

//! Where hits are counted.

use std::{future::Future, sync::Arc, time::Duration};

pub use self::{memory::Memory, redis::Redis};
use crate::key::Key;

mod memory;
pub mod redis;

/// Hits to add to one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Which counter.
    pub key: Key,
    /// Added to the counter. Zero only reads it; a negative number gives hits back, and the counter stops at zero.
    pub hits: i64,
    /// Length of the counter's fixed window in seconds, aligned to the Unix epoch by the store's clock; at least one.
    pub window: u32,
}

/// A counter after its charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Hits in this window, the charge's own included.
    pub count: u64,
    /// Whole seconds until the window ends, at least one.
    pub seconds_left: u32,
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
    /// Redis answered with something else than one count for each charge.
    #[error("Redis answered a charge with something unexpected")]
    Reply,
}

/// Counts hits in fixed windows. Windows are aligned to the epoch by the store's own clock, so all replicas that share
/// a store share its windows.
pub trait CounterStore: Send + Sync + 'static {
    /// Applies all charges in order, each of them atomically, and returns one outcome for each. After an error any part
    /// of them may have been applied: errors can deny too early, never admit too much.
    fn charge(&self, charges: &[Charge]) -> impl Future<Output = Result<Vec<Outcome>, StoreError>> + Send;
}

/// The stores to choose from.
#[derive(Clone, Debug)]
pub enum Any {
    /// In this process, shared by its runtimes.
    Memory(Arc<Memory>),
    /// In Redis, one connection for each runtime.
    Redis(Redis),
}

impl CounterStore for Any {
    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        match self {
            Self::Memory(memory) => memory.charge(charges).await,
            Self::Redis(redis) => redis.charge(charges).await,
        }
    }
}

//! Stores with all that stands between them and requests.

use std::{sync::Arc, time::Duration};

use super::{Any, CounterStore, Lease, Local, Loss, Member, Near, Redis, StoreError, lease, near, redis};

/// How long a denial is believed where hits may be given back unseen: requests over several servers do that.
const BELIEVED_IN_PARTS: Duration = Duration::from_secs(1);

/// What a replica's stores in Redis share, one for each runtime.
#[derive(Clone, Debug)]
pub struct Stack {
    redis: redis::Options,
    deadline: Duration,
    replicas: Option<u32>,
    local: Arc<Local>,
    near: Option<Arc<near::Table>>,
    leases: Option<Arc<lease::Table>>,
}

/// What stands before Redis.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// When a request stops waiting for Redis, and [`on_store_loss`](super::Charge::on_store_loss) decides.
    pub deadline: Duration,
    /// Counters in memory while Redis is away.
    pub max_counters: usize,
    /// How many replicas share the limits then; as many as Redis has heard of if `None`.
    pub replicas: Option<u32>,
    /// Bytes for counters that are known to be used up, zero for none. Leases know them anyway.
    pub near_bytes: usize,
    /// Counters of which leases are remembered; without leases if `None`.
    pub leases: Option<usize>,
    /// What explanations call this replica; a random number if `None`.
    pub replica_name: Option<String>,
}

impl Stack {
    /// Connects to nothing yet.
    pub fn new(redis: redis::Options, options: &Options) -> Self {
        let longest = redis.is_in_parts().then_some(BELIEVED_IN_PARTS);
        let near = (options.near_bytes > 0 && options.leases.is_none())
            .then(|| Arc::new(near::Table::new(options.near_bytes, longest)));
        let leases = options.leases.map(lease::Table::new);
        let leases = match &options.replica_name {
            Some(name) => leases.map(|table| table.named(name)),
            None => leases,
        };
        Self {
            redis,
            deadline: options.deadline,
            replicas: options.replicas,
            local: Arc::new(Local::new(options.max_counters)),
            near,
            leases: leases.map(Arc::new),
        }
    }

    /// The store for the runtime this is called in.
    pub fn open(&self) -> Result<Any, StoreError> {
        if let Some(lease) = self.lease()? {
            return Ok(Any::Leased(self.guarded(lease.redis().clone(), lease)));
        }
        let redis = Redis::connect(self.redis.clone())?;
        Ok(match &self.near {
            None => Any::Guarded(self.guarded(redis.clone(), redis)),
            Some(table) => {
                let near = Near::new(redis.clone(), Arc::clone(table), Arc::clone(&self.local));
                Any::Near(self.guarded(redis, near))
            }
        })
    }

    /// What this replica knows without Redis.
    pub fn local(&self) -> Arc<Local> {
        Arc::clone(&self.local)
    }

    /// Tells Redis, when polled, that this replica lives, and hears of the others. Each process has one.
    pub fn member(&self, redis: Redis) -> Member {
        Member::join(redis, Arc::clone(&self.local), self.replicas)
    }

    /// A connection of the runtime this is called in, for the care of what was leased.
    pub fn lease(&self) -> Result<Option<Lease>, StoreError> {
        let connect = |table| Lease::connect(self.redis.clone(), Arc::clone(table));
        self.leases.as_ref().map(connect).transpose()
    }

    fn guarded<S: CounterStore>(&self, redis: Redis, store: S) -> Loss<S> {
        // The first request does not wait for the connection.
        tokio::spawn(async move { redis.ping().await });
        Loss::new(store, self.deadline, Arc::clone(&self.local))
    }
}

//! The store that the settings ask for, decorators included.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use proto::{
    drain::Trigger,
    readiness::{Block, Readiness},
};
use tokio::{runtime::Runtime, time};

use super::RETRY;
use crate::{
    settings::{BackendType, Settings},
    store::{
        self, CounterStore, Lease, Local, Loss, Member, Memory, Redis, StoreError, lease,
        redis::{Options, doctor},
    },
};

/// Opens a store for each runtime; what they share lives here.
pub(super) struct Stores {
    memory: Arc<Memory>,
    max_counters: usize,
    local: Arc<Local>,
    leases: Option<Arc<lease::Table>>,
    /// That share the limits, where somebody said how many.
    replicas: Option<u32>,
    /// When a request stops waiting for Redis, and counts here.
    deadline: Duration,
    redis: Option<Options>,
    /// How long Redis may take at start; zero is for ever.
    patience: Duration,
    needs_connection: bool,
    /// Redis has taken longer.
    given_up: Arc<OnceLock<StoreError>>,
}

impl Stores {
    pub(super) fn new(settings: &Settings) -> Self {
        let max_counters = settings.store.memory_max_counters;
        let local = Local::new(max_counters);
        // In memory, nobody but the settings knows of other replicas.
        if let (BackendType::Memory, Some(replicas)) = (settings.backend_type(), settings.store.replicas) {
            local.set_replicas(u32::try_from(replicas).unwrap_or(u32::MAX), None);
        }
        let leases = settings.store.leases && settings.backend_type() == BackendType::Redis;
        let leases = leases.then(|| Arc::new(lease::Table::new(settings.store.lease_max_counters)));
        Self {
            memory: Arc::new(Memory::new(max_counters)),
            max_counters,
            local: Arc::new(local),
            leases,
            replicas: settings.store.replicas.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
            deadline: settings.store.store_deadline,
            redis: (settings.backend_type() == BackendType::Redis).then(|| settings.redis()),
            patience: settings.redis.redis_startup_max_elapsed_time,
            needs_connection: settings.redis.redis_health_check_active_connection,
            given_up: Arc::default(),
        }
    }

    /// The store for the runtime this is called in: one memory for all of them, connections to Redis for each.
    pub(super) fn open(&self) -> Result<store::Any, StoreError> {
        let Some(options) = &self.redis else { return Ok(store::Any::Memory(Arc::clone(&self.memory))) };
        Ok(if let Some(table) = &self.leases {
            let lease = Lease::connect(options.clone(), Arc::clone(table))?;
            store::Any::Leased(self.guarded(lease.redis().clone(), lease))
        } else {
            let redis = Redis::connect(options.clone())?;
            store::Any::Guarded(self.guarded(redis.clone(), redis))
        })
    }

    /// Counters that are nobody's but a second configuration's, for the runtime this is called in.
    pub(super) fn open_apart(&self) -> Result<store::Any, StoreError> {
        Ok(match &self.redis {
            None => store::Any::Memory(Arc::new(Memory::new(self.max_counters))),
            Some(options) => store::Any::Redis(Redis::connect(options.apart("shadow:"))?),
        })
    }

    /// What this replica knows without Redis.
    pub(super) fn local(&self) -> Arc<Local> {
        Arc::clone(&self.local)
    }

    fn guarded<S: CounterStore>(&self, redis: Redis, store: S) -> Loss<S> {
        // The first request does not wait for the connection.
        tokio::spawn(async move { redis.ping().await });
        Loss::new(store, self.deadline, Arc::clone(&self.local))
    }

    /// Not ready before Redis has answered once, nor, if so set, while there is no connection to it. Meanwhile its settings
    /// are watched.
    pub(super) fn block_readiness(
        &self,
        readiness: &Readiness,
        end: &Arc<Trigger>,
        background: &Runtime,
    ) -> Result<(), StoreError> {
        let Some(options) = &self.redis else { return Ok(()) };
        let _on = background.enter();
        let redis = Redis::connect(options.clone())?;
        let (patience, needs_connection) = (self.patience, self.needs_connection);
        let (readiness, end, given_up) = (readiness.clone(), Arc::clone(end), Arc::clone(&self.given_up));
        let block = readiness.block("redis");
        background.spawn(Member::join(redis.clone(), Arc::clone(&self.local), self.replicas).keep());
        if let Some(table) = &self.leases {
            background.spawn(Lease::connect(options.clone(), Arc::clone(table))?.tend());
            background.spawn(await_epoch(Arc::clone(table), readiness.block("leases")));
        }
        background.spawn(async move {
            if let Err(error) = await_redis(&redis, patience, block).await {
                tracing::error!(%error, "ending, as REDIS_STARTUP_MAX_ELAPSED_TIME is over");
                let _ = given_up.set(error);
                end.drain();
                return;
            }
            let watched = doctor::watch(redis.connection());
            if needs_connection {
                tokio::join!(watched, follow_connections(&redis, &readiness));
            } else {
                watched.await;
            }
        });
        Ok(())
    }

    /// Gives leases back, when nothing is decided any more.
    pub(super) fn close(&self, background: &Runtime) -> Result<(), StoreError> {
        let (Some(options), Some(table)) = (&self.redis, &self.leases) else { return Ok(()) };
        let _on = background.enter();
        let lease = Lease::connect(options.clone(), Arc::clone(table))?;
        background.block_on(lease.close())
    }

    /// Why the program has ended, if Redis is the reason.
    pub(super) fn given_up(self) -> Option<StoreError> {
        Arc::into_inner(self.given_up).and_then(OnceLock::into_inner)
    }
}

async fn await_redis(redis: &Redis, patience: Duration, _block: Block) -> Result<(), StoreError> {
    let begin = Instant::now();
    while let Err(error) = redis.ping().await {
        tracing::warn!(%error, "Redis does not answer yet");
        if !patience.is_zero() && begin.elapsed() > patience {
            return Err(error);
        }
        time::sleep(RETRY).await;
    }
    Ok(())
}

/// Blocks readiness while no connection is open.
async fn follow_connections(redis: &Redis, readiness: &Readiness) {
    let mut block = None;
    loop {
        if redis.connection().active() > 0 {
            block = None;
        } else if block.is_none() {
            block = Some(readiness.block("redis connection"));
        }
        time::sleep(RETRY).await;
    }
}

async fn await_epoch(table: Arc<lease::Table>, _block: Block) {
    while !table.is_open() {
        time::sleep(RETRY).await;
    }
}

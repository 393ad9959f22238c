//! The store that the settings ask for, decorators included.

use std::sync::Arc;

use proto::readiness::{Block, Readiness};
use tokio::{runtime::Runtime, time};

use super::RETRY;
use crate::{
    settings::{BackendType, Settings},
    store::{self, CounterStore, Lease, Local, Loss, Member, Memory, Redis, StoreError, lease, redis},
};

/// Opens a store for each runtime; what they share lives here.
pub(super) struct Stores<'s> {
    settings: &'s Settings,
    memory: Arc<Memory>,
    local: Arc<Local>,
    leases: Option<Arc<lease::Table>>,
}

impl<'s> Stores<'s> {
    pub(super) fn new(settings: &'s Settings) -> Self {
        let max_counters = settings.store.memory_max_counters;
        let local = Local::new(max_counters);
        let leases = settings.store.leases && settings.backend_type() == BackendType::Redis;
        let leases = leases.then(|| Arc::new(lease::Table::new(settings.store.lease_max_counters)));
        Self { settings, memory: Arc::new(Memory::new(max_counters)), local: Arc::new(local), leases }
    }

    /// The store for the runtime this is called in: one memory for all of them, one connection to Redis for each.
    pub(super) fn open(&self) -> Result<store::Any, StoreError> {
        Ok(match self.settings.backend_type() {
            BackendType::Memory => store::Any::Memory(Arc::clone(&self.memory)),
            BackendType::Redis => {
                if let Some(table) = &self.leases {
                    let lease = Lease::connect(self.settings.redis(), Arc::clone(table))?;
                    store::Any::Leased(self.guarded(lease.redis().clone(), lease))
                } else {
                    let redis = Redis::connect(self.settings.redis())?;
                    store::Any::Guarded(self.guarded(redis.clone(), redis))
                }
            }
        })
    }

    /// Counters that are nobody's but a second configuration's, for the runtime this is called in.
    pub(super) fn open_apart(&self) -> Result<store::Any, StoreError> {
        Ok(match self.settings.backend_type() {
            BackendType::Memory => store::Any::Memory(Arc::new(Memory::new(self.settings.store.memory_max_counters))),
            BackendType::Redis => {
                let options = self.settings.redis();
                let key_prefix = format!("{}shadow:", options.key_prefix);
                store::Any::Redis(Redis::connect(redis::Options { key_prefix, ..options })?)
            }
        })
    }

    fn guarded<S: CounterStore>(&self, redis: Redis, store: S) -> Loss<S> {
        // The first request does not wait for the connection.
        tokio::spawn(async move { redis.ping().await });
        Loss::new(store, self.settings.store.store_deadline, Arc::clone(&self.local))
    }

    /// Not ready before Redis has answered once.
    pub(super) fn block_readiness(&self, readiness: &Readiness, background: &Runtime) -> Result<(), StoreError> {
        if self.settings.backend_type() == BackendType::Redis {
            let _on = background.enter();
            let redis = Redis::connect(self.settings.redis())?;
            let replicas = self.settings.store.replicas.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
            background.spawn(Member::join(redis.clone(), Arc::clone(&self.local), replicas).keep());
            background.spawn(await_redis(redis, readiness.block("redis")));
            if let Some(table) = &self.leases {
                background.spawn(Lease::connect(self.settings.redis(), Arc::clone(table))?.tend());
                background.spawn(await_epoch(Arc::clone(table), readiness.block("leases")));
            }
        }
        Ok(())
    }

    /// Gives leases back, when nothing is decided any more.
    pub(super) fn close(&self, background: &Runtime) -> Result<(), StoreError> {
        let Some(table) = &self.leases else { return Ok(()) };
        let _on = background.enter();
        let lease = Lease::connect(self.settings.redis(), Arc::clone(table))?;
        background.block_on(lease.close())
    }
}

async fn await_redis(redis: Redis, _block: Block) {
    while let Err(error) = redis.ping().await {
        tracing::warn!(%error, "Redis does not answer yet");
        time::sleep(RETRY).await;
    }
}

async fn await_epoch(table: Arc<lease::Table>, _block: Block) {
    while !table.is_open() {
        time::sleep(RETRY).await;
    }
}

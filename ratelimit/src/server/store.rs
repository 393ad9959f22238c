//! The store that the settings ask for, decorators included.

use std::sync::Arc;

use proto::readiness::{Block, Readiness};
use tokio::{runtime::Runtime, time};

use super::RETRY;
use crate::{
    settings::{BackendType, Settings},
    store::{self, Local, Loss, Member, Memory, Redis, StoreError},
};

/// Opens a store for each runtime; what they share lives here.
pub(super) struct Stores<'s> {
    settings: &'s Settings,
    memory: Arc<Memory>,
    local: Arc<Local>,
}

impl<'s> Stores<'s> {
    pub(super) fn new(settings: &'s Settings) -> Self {
        let max_counters = settings.store.memory_max_counters;
        let local = Local::new(max_counters);
        Self { settings, memory: Arc::new(Memory::new(max_counters)), local: Arc::new(local) }
    }

    /// The store for the runtime this is called in: one memory for all of them, one connection to Redis for each.
    pub(super) fn open(&self) -> Result<store::Any, StoreError> {
        Ok(match self.settings.backend_type() {
            BackendType::Memory => store::Any::Memory(Arc::clone(&self.memory)),
            BackendType::Redis => store::Any::Guarded(self.guarded(Redis::connect(self.settings.redis())?)),
        })
    }

    fn guarded(&self, redis: Redis) -> Loss<Redis> {
        let first = redis.clone();
        // The first request does not wait for the connection.
        tokio::spawn(async move { first.ping().await });
        Loss::new(redis, self.settings.store.store_deadline, Arc::clone(&self.local))
    }

    /// Not ready before Redis has answered once.
    pub(super) fn block_readiness(&self, readiness: &Readiness, background: &Runtime) -> Result<(), StoreError> {
        if self.settings.backend_type() == BackendType::Redis {
            let _on = background.enter();
            let redis = Redis::connect(self.settings.redis())?;
            let replicas = self.settings.store.replicas.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
            background.spawn(Member::join(redis.clone(), Arc::clone(&self.local), replicas).keep());
            background.spawn(await_redis(redis, readiness.block("redis")));
        }
        Ok(())
    }
}

async fn await_redis(redis: Redis, _block: Block) {
    while let Err(error) = redis.ping().await {
        tracing::warn!(%error, "Redis does not answer yet");
        time::sleep(RETRY).await;
    }
}

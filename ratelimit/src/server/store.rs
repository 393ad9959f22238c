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
        self, Local, Memory, Redis, Stack, StoreError, lease,
        redis::{Options, doctor},
    },
};

/// Opens a store for each runtime; what they share lives here.
pub(super) struct Stores {
    memory: Arc<Memory>,
    max_counters: usize,
    redis: Option<(Options, Stack)>,
    local: Arc<Local>,
    /// How long Redis may take at start; zero is for ever.
    patience: Duration,
    needs_connection: bool,
    /// Redis has taken longer.
    given_up: Arc<OnceLock<StoreError>>,
}

impl Stores {
    pub(super) fn new(settings: &Settings) -> Self {
        let max_counters = settings.store.memory_max_counters;
        let redis = (settings.backend_type() == BackendType::Redis).then(|| settings.redis());
        let redis = redis.map(|redis| (redis.clone(), Stack::new(redis, &settings.store.stack())));
        let local = redis.as_ref().map_or_else(|| Arc::new(Local::new(max_counters)), |(_, stack)| stack.local());
        // In memory, nobody but the settings knows of other replicas.
        if let (None, Some(replicas)) = (&redis, settings.store.replicas) {
            local.set_replicas(u32::try_from(replicas).unwrap_or(u32::MAX), None);
        }
        Self {
            memory: Arc::new(Memory::new(max_counters)),
            max_counters,
            redis,
            local,
            patience: settings.redis.redis_startup_max_elapsed_time,
            needs_connection: settings.redis.redis_health_check_active_connection,
            given_up: Arc::default(),
        }
    }

    /// The store for the runtime this is called in: one memory for all of them, connections to Redis for each.
    pub(super) fn open(&self) -> Result<store::Any, StoreError> {
        match &self.redis {
            None => Ok(store::Any::Memory(Arc::clone(&self.memory))),
            Some((_, stack)) => stack.open(),
        }
    }

    /// Counters that are nobody's but a second configuration's, for the runtime this is called in.
    pub(super) fn open_apart(&self) -> Result<store::Any, StoreError> {
        Ok(match &self.redis {
            None => store::Any::Memory(Arc::new(Memory::new(self.max_counters))),
            Some((options, _)) => store::Any::Redis(Redis::connect(options.apart("shadow:"))?),
        })
    }

    /// What this replica knows without Redis.
    pub(super) fn local(&self) -> Arc<Local> {
        Arc::clone(&self.local)
    }

    /// Not ready before Redis has answered once, nor, if so set, while there is no connection to it. Meanwhile its settings
    /// are watched.
    pub(super) fn block_readiness(
        &self,
        readiness: &Readiness,
        end: &Arc<Trigger>,
        background: &Runtime,
    ) -> Result<(), StoreError> {
        let Some((options, stack)) = &self.redis else { return Ok(()) };
        let _on = background.enter();
        let redis = Redis::connect(options.clone())?;
        let (patience, needs_connection) = (self.patience, self.needs_connection);
        let (readiness, end, given_up) = (readiness.clone(), Arc::clone(end), Arc::clone(&self.given_up));
        let block = readiness.block("redis");
        background.spawn(stack.member(redis.clone()).keep());
        if let Some(lease) = stack.lease()? {
            background.spawn(await_epoch(Arc::clone(lease.table()), readiness.block("leases")));
            background.spawn(lease.tend());
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
        let Some((_, stack)) = &self.redis else { return Ok(()) };
        let _on = background.enter();
        stack.lease()?.map_or(Ok(()), |lease| background.block_on(lease.close()))
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

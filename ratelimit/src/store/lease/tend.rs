//! What keeps a replica a member: greetings, ledgers, returns. One task for each process.

use std::sync::atomic::Ordering;

use tokio::time::{self, MissedTickBehavior};

use super::{HEARTBEAT, Lease, TIMING};
use crate::{
    lease::{Epoch, Greeting, ReplicaId},
    store::{StoreError, redis::Counted},
};

/// Counters in one call.
const BATCH: usize = 100;

/// What is known between two heartbeats.
#[derive(Debug, Default)]
struct Known {
    returned: u64,
    members: Vec<ReplicaId>,
}

impl Lease {
    /// Greets Redis, asserts the ledger in each new epoch, and gives back what lies idle, for ever.
    pub async fn tend(self) {
        let mut known = Known::default();
        let mut heartbeat = time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let greeted = self.greet(&mut known).await;
            self.table.hears.store(greeted.is_ok(), Ordering::Relaxed);
            if let Err(error) = greeted {
                tracing::debug!(%error, "Redis does not take notice of this replica");
            }
            tokio::select! {
                _ = heartbeat.tick() => {}
                () = self.table.hurry.notified() => time::sleep(HEARTBEAT / 10).await,
            }
        }
    }

    /// Gives back all leases, at the end. Nothing may be charged from here on.
    pub async fn close(&self) -> Result<(), StoreError> {
        // What is asked for just now would stay counted. It ends within the deadline of a call.
        while self.table.is_renewing() {
            time::sleep(HEARTBEAT / 100).await;
        }
        let released = self.table.release(true);
        // Numbers of returns begin far above those of the task that tends.
        self.give_back(u64::from(u32::MAX), &released).await.map(drop)
    }

    async fn greet(&self, known: &mut Known) -> Result<(), StoreError> {
        let table = &self.table;
        let unasserted = table.fence.lock().unasserted();
        if let Some(epoch) = unasserted {
            table.seal();
            if let Err(error) = self.assert(epoch).await {
                table.unseal();
                return Err(error);
            }
            table.change_fence(|fence| fence.assert(epoch));
        }
        let greeting = Greeting {
            replica: table.replica,
            asserted: table.fence.lock().asserted(),
            returned: known.returned,
            knows: known.members.clone(),
        };
        table.metrics.greet_calls.increment(1);
        let (welcome, questions) = self.redis.greet(&greeting, TIMING).await?;
        let (is_new, opens) = table.change_fence(|fence| {
            let before = *fence;
            fence.hear(welcome.epoch, welcome.open);
            (fence.epoch() != before.epoch(), before.charging().is_none() && fence.charging().is_some())
        });
        let epoch = welcome.epoch.0;
        if is_new && !welcome.open {
            tracing::info!(
                epoch,
                "Redis is new, or may have lost counts; it is told what was counted before it counts on"
            );
        }
        if opens {
            tracing::info!(epoch, members = welcome.members.len(), "leases may be asked for");
        }
        if welcome.open {
            table.members.store(u32::try_from(welcome.members.len()).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
            known.members = welcome.members;
        }
        if is_new {
            table.hurry();
            return Ok(());
        }
        let sums = table.sweep();
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        {
            table.metrics.outstanding.set(sums.outstanding as f64);
            table.metrics.bound.set(sums.ledger as f64);
            table.metrics.counters.set(sums.counters as f64);
            table.metrics.members.set(known.members.len() as f64);
        }
        self.answer(&questions).await?;
        if table.returning().is_some() {
            known.returned = self.give_back(known.returned, &table.release(false)).await?;
        }
        Ok(())
    }

    async fn assert(&self, epoch: Epoch) -> Result<(), StoreError> {
        for ledgers in self.table.ledgers().chunks(BATCH) {
            self.table.metrics.assert_calls.increment(1);
            self.redis.assert(self.table.replica, epoch, ledgers).await?;
        }
        Ok(())
    }

    /// Sends returns, numbered from behind `returned`. Those whose call fails are lost: the hits stay counted.
    async fn give_back(&self, mut returned: u64, released: &[Counted]) -> Result<u64, StoreError> {
        let Some(epoch) = self.table.returning() else { return Ok(returned) };
        for returns in released.chunks(BATCH) {
            returned += 1;
            self.table.metrics.return_calls.increment(1);
            if let Err(error) = self.redis.take_back(self.table.replica, epoch, returned, returns).await {
                tracing::debug!(%error, "a lease was not given back");
            }
        }
        Ok(returned)
    }
}

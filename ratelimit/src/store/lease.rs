//! Charges that are decided here, with hits that were debited in Redis before.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    Algorithm, Charge, CounterStore, Outcome, Standing, StoreError,
    redis::{Charged, Options, Redis},
};
use crate::lease::Timing;

use self::table::Part;
pub use self::table::Table;

mod holders;
mod metrics;
mod table;
mod tend;

/// A replica says this often that it lives, and looks at what lies idle.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// See [`Timing`]. A replica is heard of twice while an epoch settles.
const TIMING: Timing = Timing { membership: 2000, settle: 500 };

/// Fixed windows of which this replica holds a lease are decided here, and so are those it knows to be used up; all else is
/// charged in Redis. One for each runtime; all of a process share a [`Table`].
#[derive(Clone)]
pub struct Lease {
    redis: Redis,
    table: Arc<Table>,
}

/// What a request took of leases; put back when the request fails or is given up.
struct Taken<'a> {
    table: &'a Table,
    charges: &'a [Charge],
    parts: &'a [Part],
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.table.put_back_all(self.charges, self.parts);
    }
}

/// A lease that is asked for. The table hears of its end, even if that is the end of the runtime it is asked for on.
struct Renewal {
    table: Arc<Table>,
    charge: Charge,
    reply: Option<Charged>,
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.table.renewed(&self.charge, self.reply.as_ref());
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("redis", &self.redis).finish_non_exhaustive()
    }
}

impl Lease {
    /// Connects in the background, on the runtime it is called in. Nothing is charged before [`Self::tend`] runs somewhere.
    pub fn connect(options: Options, table: Arc<Table>) -> Result<Self, StoreError> {
        let redis = Redis::connect_in(options, table.charging())?;
        if redis.is_cluster() {
            return Err(StoreError::LeasesInCluster);
        }
        Ok(Self { redis, table })
    }

    /// Where hits are debited.
    pub(crate) fn redis(&self) -> &Redis {
        &self.redis
    }

    /// What is shared with the other runtimes.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Takes what leases hold, and decides if that is enough. Else what was taken is still to be spent or put back.
    fn decide(&self, charges: &[Charge]) -> (Vec<Part>, Option<Vec<Outcome>>) {
        let now = self.table.now();
        let (parts, renewals) = self.table.cover(charges, now);
        for renewal in renewals {
            self.renew(renewal);
        }
        let outcomes = self.table.decide(charges, &parts, now);
        (parts, outcomes)
    }

    /// Charges what is not covered by leases, and takes note of what Redis says.
    async fn charge_rest(&self, charges: &[Charge], parts: &[Part]) -> Result<Vec<Outcome>, StoreError> {
        let rest: Vec<_> = charges.iter().zip(parts).map(|(charge, part)| part.rest(charge)).collect();
        let mut taken = Taken { table: &self.table, charges, parts };
        match self.redis.charge_in_epoch(&rest).await {
            Ok(reply) => {
                taken.parts = &[];
                self.table.metrics.by_store.increment(1);
                self.table.metrics.charge_calls.increment(1);
                self.table.settle(charges, parts, &rest, &reply)
            }
            Err(StoreError::Learning) => {
                self.table.hurry();
                // Whoever knows that the epoch is not open asks nobody, and Redis may be away.
                let hears = self.table.hears.load(Ordering::Relaxed);
                Err(if hears { StoreError::Learning } else { StoreError::Lost })
            }
            Err(error) => Err(error),
        }
    }

    /// Debits a lease, in the background.
    fn renew(&self, charge: Charge) {
        let redis = self.redis.clone();
        let mut renewal = Renewal { table: Arc::clone(&self.table), charge, reply: None };
        tokio::spawn(async move {
            renewal.table.metrics.renew_calls.increment(1);
            renewal.reply = redis.charge_in_epoch(&[charge]).await.ok();
            drop(renewal);
        });
    }
}

impl CounterStore for Lease {
    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        let (parts, outcomes) = self.decide(charges);
        match outcomes {
            Some(outcomes) => Ok(outcomes),
            // Redis may have counted a request that is given up while it waits. The ledger need not: nothing was admitted.
            None => Box::pin(self.charge_rest(charges, &parts)).await,
        }
    }

    fn charge_held(&self, charges: &[Charge]) -> Option<Vec<Outcome>> {
        let (parts, outcomes) = self.decide(charges);
        if outcomes.is_none() {
            self.table.put_back_all(charges, &parts);
        }
        outcomes
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Vec<Standing>, StoreError> {
        let (debited, holders) = (self.redis.peek(charges).await?, self.holders(charges).await?);
        let standings = charges.iter().zip(debited).zip(holders).map(|((charge, debited), holders)| {
            let leased = self.table.held(charge).min(debited.count);
            Standing { count: debited.count - leased, leased, holders, ..debited }
        });
        Ok(standings.collect())
    }

    fn debited(&self, charge: &Charge) -> u64 {
        self.table.debited(charge)
    }

    fn remember(&self, charges: &[Charge], outcomes: &[Outcome], now: u64) -> bool {
        let counted = |(charge, outcome): &(&Charge, &Outcome)| {
            charge.algorithm == Algorithm::FixedWindow && charge.hits > 0 && outcome.charged
        };
        charges.iter().zip(outcomes).filter(counted).all(|(charge, _)| self.table.remember(charge, now))
    }
}

//! Denials that need no store: counters that are known to be used up.

use std::sync::Arc;

pub use self::table::Table;
use super::{Algorithm, Charge, CounterStore, Local, Outcome, Standing, StoreError, Undo, is_denied};

mod metrics;
mod table;

/// Answers requests by itself whose every charge is over a fixed window's limit, until the window ends; asks its store about
/// all others. One that is over only some of its limits is asked about too: what is left of the others is not known here.
/// Whatever is not known, or was forgotten, costs a question and admits nothing. Clones share everything.
#[derive(Clone, Debug)]
pub struct Near<S> {
    store: S,
    table: Arc<Table>,
    clock: Arc<Local>,
}

/// Forgets counters whose hits are given back, also when nobody waits for the answer any more.
struct Refund<'a> {
    table: &'a Table,
    charges: &'a [Charge],
}

impl<S: CounterStore> Near<S> {
    /// Stores of one replica share `table`, and `clock` tells when the store's seconds end.
    pub fn new(store: S, table: Arc<Table>, clock: Arc<Local>) -> Self {
        Self { store, table, clock }
    }

    /// The answer, if nothing of it has to be counted.
    fn deny(&self, charges: &[Charge], now: u64) -> Option<Vec<Outcome>> {
        if charges.is_empty() || charges.iter().any(|charge| !is_counted(charge)) {
            return None;
        }
        let mut outcomes = Vec::with_capacity(charges.len());
        let mut counts = Vec::with_capacity(charges.len());
        for charge in charges {
            let (stored, left) = self.table.find(charge.key, now)?;
            let count = stored.saturating_add_signed(charge.hits);
            let outcome = Outcome { near: true, ..charge.outcome(count, true, left) };
            if !charge.is_over(count) || (outcome.charged && !may_be_left_out(charge, stored)) {
                return None;
            }
            counts.push(count);
            outcomes.push(outcome);
        }
        is_denied(charges, &counts).then_some(outcomes)
    }

    /// Remembers what the store told about a request sent at `sent`, when the store's second lasted for `phase` milliseconds
    /// more.
    fn learn(&self, charges: &[Charge], outcomes: &[Outcome], sent: u64, phase: u64, refunds: u64) {
        for (at, (charge, outcome)) in charges.iter().zip(outcomes).enumerate() {
            // Of two charges on one counter, each was told with the other's hits.
            let again = || charges.iter().enumerate().any(|(other, twin)| other != at && twin.key == charge.key);
            if !is_counted(charge) || again() {
                continue;
            }
            let taken_back = !outcome.charged && charge.is_over(outcome.count);
            let stored = if taken_back { outcome.count.saturating_add_signed(-charge.hits) } else { outcome.count };
            if taken_back || charge.is_over(stored.saturating_add(1)) {
                let end = sent + u64::from(outcome.seconds_left.saturating_sub(1)) * 1000 + phase;
                self.table.insert(charge.key, stored, end, sent, refunds);
            }
        }
    }
}

fn is_counted(charge: &Charge) -> bool {
    charge.algorithm == Algorithm::FixedWindow && charge.hits >= 0
}

/// Hits that would stay, though denied. Those of a request that was never admitted may be missing from a counter that is over
/// already; what a response has cost may not, or a refund would admit it again.
fn may_be_left_out(charge: &Charge, stored: u64) -> bool {
    charge.hits == 0 || (charge.undo == Undo::Never && charge.is_over(stored))
}

impl<S: CounterStore> CounterStore for Near<S> {
    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        let sent = self.table.now();
        if let Some(outcomes) = self.deny(charges, sent) {
            return Ok(outcomes);
        }
        let refund = charges.iter().any(|charge| charge.hits < 0).then_some(Refund { table: &self.table, charges });
        let (phase, refunds) = (1000 - self.clock.now() % 1000, self.table.refunds());
        let outcomes = Box::pin(self.store.charge(charges)).await?;
        drop(refund);
        self.learn(charges, &outcomes, sent, phase, refunds);
        Ok(outcomes)
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Vec<Standing>, StoreError> {
        self.store.peek(charges).await
    }

    fn charge_held(&self, charges: &[Charge]) -> Option<Vec<Outcome>> {
        self.deny(charges, self.table.now()).or_else(|| self.store.charge_held(charges))
    }

    fn part(&self, charge: &Charge) -> usize {
        self.store.part(charge)
    }

    fn debited(&self, charge: &Charge) -> u64 {
        self.store.debited(charge)
    }

    fn remember(&self, charges: &[Charge], outcomes: &[Outcome], now: u64) -> bool {
        self.store.remember(charges, outcomes, now)
    }
}

impl Drop for Refund<'_> {
    fn drop(&mut self) {
        for charge in self.charges.iter().filter(|charge| charge.hits < 0) {
            self.table.remove(charge.key);
        }
    }
}

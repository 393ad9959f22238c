//! What happens while a store does not answer.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use self::breaker::Breakers;
pub use self::local::Local;
use super::{Algorithm, Charge, CounterStore, Denies, OnStoreLoss, Outcome, Standing, StoreError, Undo};
use crate::{key::Key, metrics};

mod breaker;
mod known;
mod local;

/// Pause between two looks whether a lost store is back.
const PROBE_PAUSE: Duration = Duration::from_millis(250);
/// How long a person who looks at counters waits at least.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits for its store no longer than a deadline. Charges that the store does not answer are decided by their
/// [`on_store_loss`](Charge::on_store_loss), and after a few of them nobody waits any more until the store is back. Parts
/// of a store are lost and found by themselves. Nothing is ever repeated. Clones share everything.
#[derive(Clone, Debug)]
pub struct Loss<S> {
    shared: Arc<Shared<S>>,
}

#[derive(Debug)]
struct Shared<S> {
    store: S,
    deadline: Duration,
    breakers: Breakers,
    local: Arc<Local>,
    metrics: metrics::Loss,
}

impl<S: CounterStore> Loss<S> {
    /// Waits for `store` as long as `deadline`. Stores of one replica share `local`.
    pub fn new(store: S, deadline: Duration, local: Arc<Local>) -> Self {
        let (breakers, metrics) = (Breakers::new(Instant::now()), metrics::Loss::new());
        Self { shared: Arc::new(Shared { store, deadline, breakers, local, metrics }) }
    }

    /// Whether any part of the store is given up, for now.
    pub fn is_open(&self) -> bool {
        self.shared.breakers.open() > 0
    }
}

impl<S: CounterStore> CounterStore for Loss<S> {
    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        let shared = &self.shared;
        if shared.is_lost(charges) {
            return shared.charge_without_store(charges);
        }
        match shared.ask(charges).await {
            Ok(outcomes) => {
                shared.succeeded(charges);
                shared.local.learn(charges, &outcomes);
                Ok(outcomes)
            }
            Err(error) => {
                tracing::debug!(%error, "decided without the counter store");
                // A store that learns answers at once, and soon takes charges again.
                if !matches!(error, StoreError::Learning) {
                    shared.failed(&error, charges);
                }
                shared.charge_without_store(charges).map_err(|_| error)
            }
        }
    }

    /// Beside the breaker: who looks does not decide whether the store is lost.
    async fn peek(&self, charges: &[Charge]) -> Result<Vec<Standing>, StoreError> {
        let deadline = self.shared.deadline.max(PATIENCE);
        match timeout(deadline, self.shared.store.peek(charges)).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Timeout(deadline)),
        }
    }
}

impl<S: CounterStore> Shared<S> {
    async fn ask(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        match timeout(self.deadline, self.store.charge(charges)).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Timeout(self.deadline)),
        }
    }

    fn charge_without_store(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        self.metrics.decided(charges);
        if let Some(outcomes) = self.store.charge_held(charges) {
            return Ok(outcomes);
        }
        let outcomes = self.local.charge(charges, |charge| self.store.debited(charge))?;
        if self.store.remember(charges, &outcomes, self.local.now()) {
            return Ok(outcomes);
        }
        let unshared = charges.iter().map(|charge| match charge.on_store_loss {
            OnStoreLoss::Share => Charge { on_store_loss: OnStoreLoss::Deny, ..*charge },
            _ => *charge,
        });
        self.local.charge(&unshared.collect::<Vec<_>>(), |_| 0)
    }

    /// Whether a part that some of the charges need is given up.
    fn is_lost(&self, charges: &[Charge]) -> bool {
        charges.iter().any(|charge| self.breakers.of(self.store.part(charge)).is_open())
    }

    fn succeeded(&self, charges: &[Charge]) {
        for charge in charges {
            self.breakers.of(self.store.part(charge)).succeeded();
        }
    }

    /// Which part has failed a request is not known, but those that did not succeed with others.
    fn failed(self: &Arc<Self>, error: &StoreError, charges: &[Charge]) {
        self.metrics.failures.increment(1);
        let now = Instant::now();
        for (at, charge) in charges.iter().enumerate() {
            let part = self.store.part(charge);
            let seen = charges.iter().take(at).any(|other| self.store.part(other) == part);
            if !seen && self.breakers.of(part).failed(now) {
                self.lose(error, part, charge);
            }
        }
    }

    fn lose(self: &Arc<Self>, error: &StoreError, part: usize, charge: &Charge) {
        self.metrics.open.increment(1);
        if self.local.lose() {
            tracing::error!(%error, "the counter store is lost; each rule's on_store_loss decides until it is back");
        }
        tokio::spawn(probe(Arc::downgrade(self), part, beside(charge)));
    }

    fn restored(&self, part: usize) {
        self.breakers.of(part).close();
        self.metrics.open.decrement(1);
        if self.local.find() {
            tracing::info!("the counter store is back");
        }
    }
}

impl<S> Drop for Shared<S> {
    fn drop(&mut self) {
        for _ in 0..self.breakers.open() {
            self.metrics.open.decrement(1);
            self.local.find();
        }
    }
}

/// Charges what nobody else counts, until the store takes it.
async fn probe<S: CounterStore>(shared: Weak<Shared<S>>, part: usize, charge: Charge) {
    loop {
        sleep(PROBE_PAUSE).await;
        let Some(shared) = shared.upgrade() else { return };
        if matches!(shared.ask(&[charge]).await, Ok(_) | Err(StoreError::Learning)) {
            return shared.restored(part);
        }
    }
}

/// A hit on a counter that no descriptor has, in the same part of the store as the one that failed. It has to be a hit: a
/// store without memory left still reads.
fn beside(charge: &Charge) -> Charge {
    Charge {
        key: Key(charge.key.0 >> 112 << 112),
        hits: 1,
        limit: u32::MAX,
        denies: Denies::Nothing,
        undo: Undo::Never,
        algorithm: Algorithm::FixedWindow,
        // Windows of a second may have a store of their own.
        window: charge.window.min(2),
        on_store_loss: charge.on_store_loss,
        leases: true,
    }
}

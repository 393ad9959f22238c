//! Requests whose counters lie on several shards, which no single step can charge.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{sleep, timeout};

use super::{Redis, connection::Shard, script::Reply};
use crate::store::{Charge, Denies, Outcome, StoreError, Undo, is_denied};

/// Pause before a counter is looked for again that was nowhere.
const PAUSE: Duration = Duration::from_millis(2);

/// The charges of a request that lie on one shard, and where they stand in it.
struct Part {
    shard: Shard,
    charges: Vec<Charge>,
    positions: Vec<usize>,
}

impl Redis {
    /// Charges all shards at once, each in one step, and gives back what has been charged in vain if any of them denies.
    /// Never admits more than the limits; until hits are back, others may be denied that a single step would admit.
    pub(super) async fn charge_split(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        let parts = self.parts(charges);
        let replies = join_all(parts.iter().map(|part| self.send(part.shard, &part.charges))).await;
        if replies.iter().any(|reply| reply.as_ref().is_err_and(is_elsewhere)) {
            for (part, _) in parts.iter().zip(&replies).filter(|(_, reply)| is_charged(reply)) {
                self.recall(part).await;
            }
            return self.charge_one_by_one(charges).await;
        }
        let replies = replies.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(self.decide(charges, &parts, &replies))
    }

    /// Charges one counter after the other where a part of a slot has moved to another node, so that each is found.
    pub(super) async fn charge_one_by_one(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        let parts: Vec<_> = charges.iter().enumerate().map(|(position, charge)| self.part(position, *charge)).collect();
        let mut replies = Vec::with_capacity(parts.len());
        for part in &parts {
            let within = self.connection.timeout(part.shard);
            let reply = timeout(within, self.pursue(part)).await.unwrap_or(Err(StoreError::Timeout(within)));
            replies.push(reply?);
        }
        Ok(self.decide(charges, &parts, &replies))
    }

    /// Asks the owner first: only a counter that it does not have may be created where the slot goes.
    async fn pursue(&self, part: &Part) -> Result<Reply, StoreError> {
        let Some(charge) = part.charges.first() else { return Err(StoreError::Reply) };
        loop {
            match self.send(self.shard_of(charge), &part.charges).await {
                Err(error) if is_elsewhere(&error) => self.connection.mistrust(part.shard),
                reply => return reply,
            }
            match self.batches.send_with_key(self.shard_of(charge), charge).await {
                Err(error) if is_elsewhere(&error) => sleep(PAUSE).await,
                reply => return reply,
            }
        }
    }

    fn decide(&self, charges: &[Charge], parts: &[Part], replies: &[Reply]) -> Vec<Outcome> {
        let mut counters = vec![(0, 0); charges.len()];
        for (part, reply) in parts.iter().zip(replies) {
            for (position, counter) in part.positions.iter().zip(reply.counters(&part.charges)) {
                if let Some(slot) = counters.get_mut(*position) {
                    *slot = counter;
                }
            }
        }
        let denied = is_denied(charges, &counters.iter().map(|(count, _)| *count).collect::<Vec<_>>());
        if denied {
            for (part, _) in parts.iter().zip(replies).filter(|(_, reply)| !reply.is_denied()) {
                self.give_back(part, &counters);
            }
        }
        let counted = charges.iter().zip(counters);
        counted.map(|(charge, (count, seconds_left))| charge.outcome(count, denied, seconds_left)).collect()
    }

    fn part(&self, position: usize, charge: Charge) -> Part {
        let denies = if charge.denies == Denies::Together { Denies::Nothing } else { charge.denies };
        let charge = Charge { denies, ..charge };
        Part { shard: self.shard_of(&charge), charges: vec![charge], positions: vec![position] }
    }

    /// Takes all hits of a part back that is charged again elsewhere.
    async fn recall(&self, part: &Part) {
        let hits = part.charges.iter().filter(|charge| charge.hits > 0);
        let back: Vec<_> = hits.map(back).collect();
        if let Err(error) = self.send(part.shard, &back).await {
            tracing::debug!(%error, "hits that are charged again were not taken back");
        }
    }

    /// A part may deny the request by itself, but cannot know whether all quotas of the request are over.
    fn parts(&self, charges: &[Charge]) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        for (position, charge) in charges.iter().enumerate() {
            let part = self.part(position, *charge);
            if let Some(known) = parts.iter_mut().find(|known| known.shard == part.shard) {
                known.charges.extend(part.charges);
                known.positions.push(position);
            } else {
                parts.push(part);
            }
        }
        parts
    }

    /// In the background: the answer does not depend on it.
    fn give_back(&self, part: &Part, counters: &[(u64, u32)]) {
        let charged = part.charges.iter().zip(&part.positions).filter(|(charge, position)| {
            let count = counters.get(**position).map_or(0, |(count, _)| *count);
            charge.hits > 0 && !charge.outcome(count, true, 1).charged
        });
        let back: Vec<_> = charged.map(|(charge, _)| back(charge)).collect();
        if !back.is_empty() {
            let (redis, shard) = (self.clone(), part.shard);
            tokio::spawn(async move {
                if let Err(error) = redis.send(shard, &back).await {
                    tracing::debug!(%error, "hits of a denied request were not given back");
                }
            });
        }
    }
}

/// A charge that takes another's hits back.
fn back(charge: &Charge) -> Charge {
    Charge { hits: -charge.hits, denies: Denies::Nothing, undo: Undo::Never, ..*charge }
}

fn is_charged(reply: &Result<Reply, StoreError>) -> bool {
    reply.as_ref().is_ok_and(|reply| !reply.is_denied())
}

/// Whether the script found that a node of a cluster does not have a counter. Nothing of its request is charged then.
pub(super) fn is_elsewhere(error: &StoreError) -> bool {
    match error {
        StoreError::Redis(error) => error.detail().is_some_and(|detail| detail.contains("non local key")),
        _ => false,
    }
}

//! Requests whose counters lie on several shards, which no single step can charge.

use futures::future::try_join_all;

use super::{Redis, connection::Shard};
use crate::store::{Charge, Denies, Outcome, StoreError, Undo, is_denied};

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
        let replies = parts.iter().map(|part| self.send(part.shard, &part.charges));
        let replies = try_join_all(replies).await?;

        let mut counters = vec![(0, 0); charges.len()];
        for (part, reply) in parts.iter().zip(&replies) {
            for (position, counter) in part.positions.iter().zip(reply.counters()) {
                if let Some(slot) = counters.get_mut(*position) {
                    *slot = counter;
                }
            }
        }
        let denied = is_denied(charges, &counters.iter().map(|(count, _)| *count).collect::<Vec<_>>());
        if denied {
            for (part, _) in parts.iter().zip(&replies).filter(|(_, reply)| !reply.is_denied()) {
                self.give_back(part, &counters);
            }
        }
        let counted = charges.iter().zip(counters);
        Ok(counted.map(|(charge, (count, seconds_left))| charge.outcome(count, denied, seconds_left)).collect())
    }

    /// A part may deny the request by itself, but cannot know whether all quotas of the request are over.
    fn parts(&self, charges: &[Charge]) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        for (position, charge) in charges.iter().enumerate() {
            let denies = if charge.denies == Denies::Together { Denies::Nothing } else { charge.denies };
            let (charge, shard) = (Charge { denies, ..*charge }, self.shard_of(charge.key));
            if let Some(part) = parts.iter_mut().find(|part| part.shard == shard) {
                part.charges.push(charge);
                part.positions.push(position);
            } else {
                parts.push(Part { shard, charges: vec![charge], positions: vec![position] });
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
        let back: Vec<_> = charged
            .map(|(charge, _)| Charge { hits: -charge.hits, denies: Denies::Nothing, undo: Undo::Never, ..*charge })
            .collect();
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

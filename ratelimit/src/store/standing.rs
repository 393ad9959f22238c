//! Counters that are looked at, and what charges would do to them.

use super::{Charge, Denies, Outcome, Undo, is_denied};

use serde::Serialize;

/// A counter that is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Hits in use.
    pub count: u64,
    /// Further hits that this replica has debited for later, and has not used.
    pub leased: u64,
    /// See [`Outcome::seconds_left`].
    pub seconds_left: u32,
    /// Who holds leases, this replica included, and who did not say.
    pub holders: Vec<Holder>,
}

/// A replica that has debited hits of a counter for later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// `REPLICA_NAME`, or a random number.
    pub replica: String,
    /// How many it has not used; `None` if it does not answer.
    pub hits: Option<u64>,
    /// It is the replica that was asked.
    pub own: bool,
}

impl From<Outcome> for Standing {
    fn from(Outcome { count, seconds_left, .. }: Outcome) -> Self {
        Self { count, leased: 0, seconds_left, holders: vec![] }
    }
}

/// Charges that read the same counters, and change nothing.
pub(super) fn looks(charges: &[Charge]) -> Vec<Charge> {
    let look = |charge: &Charge| Charge { hits: 0, denies: Denies::Nothing, undo: Undo::Never, ..*charge };
    charges.iter().map(look).collect()
}

/// What a store would tell about charges to counters that stand so.
pub fn foresee(charges: &[Charge], standings: &[Standing]) -> Vec<Outcome> {
    let mut counts: Vec<u64> = Vec::with_capacity(charges.len());
    for (charge, standing) in charges.iter().zip(standings) {
        let earlier = charges.iter().zip(&counts).rfind(|(earlier, _)| earlier.key == charge.key);
        let before = earlier.map_or(standing.count, |(_, count)| *count);
        counts.push(before.saturating_add_signed(charge.hits));
    }
    let denied = is_denied(charges, &counts);
    let outcomes = charges.iter().zip(counts).zip(standings);
    outcomes.map(|((charge, count), standing)| charge.outcome(count, denied, standing.seconds_left)).collect()
}

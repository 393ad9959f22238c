//! The search for the objects that make Envoy refuse one route configuration.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;

use super::{
    Owner,
    routes::{self, Part},
};

/// After so many refusals in a row, whoever is still under suspicion is held back without a trial.
const PATIENCE: u32 = 64;

/// What is held back of one route configuration.
#[derive(Debug, Default)]
pub(super) struct Hunt {
    /// Under suspicion; each group is released when everything before it has been accepted.
    suspects: Vec<Vec<Owner>>,
    culprits: BTreeMap<Owner, Culprit>,
    /// Refusals since the last time that nobody was under suspicion.
    refusals: u32,
}

#[derive(Debug)]
struct Culprit {
    reason: String,
    /// What was refused. Anything else gets a new trial.
    refused: Part,
    /// Envoy refuses even what its requests are matched by.
    is_unspeakable: bool,
}

impl Hunt {
    /// Nothing is held back.
    pub(super) fn is_over(&self) -> bool {
        self.suspects.is_empty() && self.culprits.is_empty()
    }

    /// The culprits and what is wrong with them.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (Owner, String)> {
        self.culprits.iter().map(|(owner, culprit)| (owner.clone(), culprit.reason.clone()))
    }

    /// Culprits that are other than they were when they were refused get another chance.
    pub(super) fn release_changed(&mut self, wanted: &RouteConfiguration) {
        let parts = routes::parts(wanted);
        self.culprits.retain(|owner, culprit| parts.get(owner) == Some(&culprit.refused));
    }

    /// Envoy has refused `sent`, which was made of `wanted`; whether to try something else.
    pub(super) fn refused(
        &mut self,
        wanted: &RouteConfiguration,
        sent: &RouteConfiguration,
        good: Option<&RouteConfiguration>,
        reason: &str,
    ) -> bool {
        self.refusals += 1;
        let good_parts = good.map(routes::parts).unwrap_or_default();
        let changed = routes::parts(sent).into_iter().filter(|(owner, part)| good_parts.get(owner) != Some(part));
        let mut suspects: Vec<Owner> = changed.map(|(owner, _)| owner).collect();
        // What stands in for a culprit may be what is refused.
        let mut is_better = false;
        for owner in &suspects {
            if let Some(culprit) = self.culprits.get_mut(owner) {
                is_better |= !std::mem::replace(&mut culprit.is_unspeakable, true);
            }
        }
        if is_better {
            return true;
        }
        if suspects.len() == 1 || self.refusals > PATIENCE {
            let mut parts = routes::parts(wanted);
            for owner in suspects {
                let refused = parts.remove(&owner).unwrap_or_default();
                tracing::warn!("{owner} is held back, since Envoy refuses it: {reason}");
                let culprit = Culprit { reason: reason.to_owned(), refused, is_unspeakable: false };
                self.culprits.insert(owner, culprit);
            }
            return true;
        }
        if suspects.is_empty() {
            return false;
        }
        // The first half is tried at once.
        self.suspects.push(suspects.split_off(suspects.len() / 2));
        true
    }

    /// Envoy has accepted what it was sent; whether there is more to try.
    pub(super) fn accepted(&mut self) -> bool {
        let released = self.suspects.pop().is_some();
        if !released {
            self.refusals = 0;
        }
        released
    }

    /// `wanted` without what is held back: instead of it there is what `good` had, and nothing of suspects that it did not
    /// have. A culprit without a past answers 500.
    pub(super) fn compose(&self, wanted: &RouteConfiguration, good: Option<&RouteConfiguration>) -> RouteConfiguration {
        let held: BTreeSet<&Owner> = self.suspects.iter().flatten().chain(self.culprits.keys()).collect();
        let known = good.map(routes::parts).unwrap_or_default();
        let mut composed = wanted.clone();
        for host in &mut composed.virtual_hosts {
            host.routes.retain_mut(|route| {
                let Some(owner) = routes::owner(route.metadata.as_ref()) else { return true };
                if !held.contains(&owner) {
                    return true;
                }
                let speakable = self.culprits.get(&owner).is_some_and(|culprit| !culprit.is_unspeakable);
                if !speakable || known.contains_key(&owner) {
                    return false;
                }
                *route = routes::stub(route);
                true
            });
        }
        if let Some(good) = good {
            routes::put_back(&mut composed, wanted, good, &held);
        }
        composed
    }
}

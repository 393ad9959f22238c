//! Who wants to be in force on which route, and why only one is.

use std::collections::BTreeMap;

use super::{Place, Target};
use crate::{
    ir::{ObjectRef, Proxy},
    translate::policy::{Decision, target::Level},
};

struct Candidate {
    winner: ObjectRef,
    reason: String,
    losers: Vec<(ObjectRef, String)>,
}

/// The policies of one kind on each route, in the order in which they came up: the most specific first.
#[derive(Default)]
pub(super) struct Candidates(BTreeMap<Place, Contest>);

#[derive(Default)]
struct Contest {
    winner: Option<Candidate>,
    /// Those who lost before there was a winner.
    early: Vec<(ObjectRef, String)>,
}

impl Candidates {
    /// Where `policy` wins: on all the places that no other policy has taken.
    pub(super) fn offer(&mut self, places: &[Place], policy: &ObjectRef, target: &Target, broken: bool) -> Vec<Place> {
        let mut won = Vec::new();
        for place in places {
            let contest = self.0.entry(*place).or_default();
            match &mut contest.winner {
                Some(winner) if winner.winner == *policy => {}
                Some(winner) => {
                    // What a merge has already taken in has not lost.
                    if !winner.losers.iter().any(|(known, _)| known == policy) {
                        winner
                            .losers
                            .push((policy.clone(), format!("targets {}, which is less specific", what(target))));
                    }
                }
                None => {
                    let mut reason = format!("targets {}", what(target));
                    if broken {
                        reason.push_str("; it is in error, so the route answers 500");
                    }
                    let losers = std::mem::take(&mut contest.early);
                    contest.winner = Some(Candidate { winner: policy.clone(), reason, losers });
                    won.push(*place);
                }
            }
        }
        won
    }

    /// Says that `policy` has no part in these places.
    pub(super) fn lose(&mut self, places: Vec<Place>, policy: &ObjectRef, reason: &str) {
        for place in places {
            let contest = self.0.entry(place).or_default();
            let losers = match &mut contest.winner {
                Some(winner) => &mut winner.losers,
                None => &mut contest.early,
            };
            losers.push((policy.clone(), reason.to_owned()));
        }
    }

    /// Says that `policy`, where it is the winner, includes what `parent` sets.
    pub(super) fn merge(&mut self, places: &[Place], policy: &ObjectRef, parent: &ObjectRef) {
        for place in places {
            let winner = self.0.get_mut(place).and_then(|contest| contest.winner.as_mut());
            if let Some(winner) = winner.filter(|winner| winner.winner == *policy) {
                winner.reason = format!("{}, merged with {parent}", winner.reason);
                winner.losers.push((parent.clone(), "is merged into the winner".to_owned()));
            }
        }
    }

    pub(super) fn into_decisions(self, proxies: &[Proxy]) -> Vec<Decision> {
        let decisions = self.0.into_iter().filter_map(|(place, contest)| {
            let listener = proxies.get(place.proxy)?.http.get(place.listener)?;
            let Candidate { winner, reason, losers } = contest.winner?;
            let route = listener.routes.get(place.route)?.name.clone();
            Some(Decision { listener: listener.name.clone(), route, winner, losers, reason })
        });
        decisions.collect()
    }
}

fn what(target: &Target) -> String {
    match (target.level(), &target.section) {
        (Level::Rule, Some(rule)) => format!("rule {rule} of the route"),
        (Level::Listener | Level::SetListener, Some(listener)) => format!("listener {listener} of {}", target.object),
        (Level::Rule | Level::Route, _) => "the route".to_owned(),
        (Level::SetListener | Level::Set | Level::Listener | Level::Gateway, _) => target.object.to_string(),
    }
}

//! Who wants to be in force on which route, and why only one is.

use std::{borrow::Cow, sync::Arc};

use super::{Place, Target};
use crate::{
    ir::{ObjectRef, Proxy},
    translate::policy::{Decision, target::Level},
};

struct Candidate {
    winner: Arc<ObjectRef>,
    reason: Cow<'static, str>,
    losers: Vec<(Arc<ObjectRef>, Cow<'static, str>)>,
}

/// The policies of one kind on each route, in the order in which they came up: the most specific first.
pub(in super::super) struct Candidates(Vec<Contest>);

#[derive(Default)]
struct Contest {
    winner: Option<Candidate>,
    /// Those who lost before there was a winner.
    early: Vec<(Arc<ObjectRef>, Cow<'static, str>)>,
}

impl Candidates {
    /// For so many routes.
    pub(super) fn new(routes: usize) -> Self {
        Self((0..routes).map(|_| Contest::default()).collect())
    }

    fn at(&mut self, places: &[Place], mut tell: impl FnMut(Place, &mut Contest)) {
        for place in places {
            if let Some(contest) = self.0.get_mut(place.route) {
                tell(*place, contest);
            }
        }
    }

    /// Where `policy` wins: on all the places that no other policy has taken.
    pub(super) fn offer(
        &mut self,
        places: &[Place],
        policy: &Arc<ObjectRef>,
        target: &Target,
        broken: bool,
    ) -> Vec<Place> {
        let mut won = Vec::new();
        self.at(places, |place, contest| match &mut contest.winner {
            Some(winner) if winner.winner == *policy => {}
            Some(winner) => {
                // What a merge has already taken in has not lost.
                if !winner.losers.iter().any(|(known, _)| known == policy) {
                    let reason = format!("targets {}, which is less specific", what(target));
                    winner.losers.push((Arc::clone(policy), reason.into()));
                }
            }
            None => {
                let reason = match (target.level(), broken) {
                    (Level::Route, false) => Cow::Borrowed("targets the route"),
                    (_, false) => format!("targets {}", what(target)).into(),
                    (_, true) => format!("targets {}; it is in error, so the route answers 500", what(target)).into(),
                };
                let losers = std::mem::take(&mut contest.early);
                contest.winner = Some(Candidate { winner: Arc::clone(policy), reason, losers });
                won.push(place);
            }
        });
        won
    }

    /// Says that `policy` has no part in these places.
    pub(super) fn lose(&mut self, places: &[Place], policy: &Arc<ObjectRef>, reason: &str) {
        self.at(places, |_, contest| {
            let losers = match &mut contest.winner {
                Some(winner) => &mut winner.losers,
                None => &mut contest.early,
            };
            losers.push((Arc::clone(policy), reason.to_owned().into()));
        });
    }

    /// Says that `policy`, where it is the winner, includes what `parent` sets.
    pub(super) fn merge(&mut self, places: &[Place], policy: &Arc<ObjectRef>, parent: &Arc<ObjectRef>) {
        self.at(places, |_, contest| {
            if let Some(winner) = contest.winner.as_mut().filter(|winner| winner.winner == *policy) {
                winner.reason = format!("{}, merged with {parent}", winner.reason).into();
                winner.losers.push((Arc::clone(parent), "is merged into the winner".into()));
            }
        });
    }

    /// Who is in force on the routes of `proxies`.
    pub(in super::super) fn into_decisions(self, proxies: &[Proxy]) -> Vec<Decision> {
        let listeners = proxies.iter().flat_map(|proxy| &proxy.http);
        let routes = listeners.flat_map(|listener| {
            let name: Arc<str> = listener.name.as_str().into();
            listener.routes.iter().map(move |route| (Arc::clone(&name), route))
        });
        let decisions = self.0.into_iter().zip(routes).filter_map(|(contest, (listener, route))| {
            let Candidate { winner, reason, losers } = contest.winner?;
            Some(Decision { listener, route: route.clone(), winner, losers, reason })
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

//! A line in the log for whatever overrides do.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use metrics::gauge;

use super::{
    Target,
    overlay::{Applied, InForce},
};
use crate::config::Limit;

/// What was in force when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Audit {
    in_force: BTreeMap<Target, InForce>,
    /// Overrides that match no rule, by place and reason, so that each is told once.
    unmatched: BTreeSet<(String, &'static str)>,
}

impl Audit {
    /// Tells what is not as it was.
    pub(super) fn record(&mut self, applied: &Applied, now: Timestamp) {
        for (target, was) in self.in_force.iter().filter(|(target, _)| !applied.in_force.contains_key(target)) {
            let expired = was.over.expires.is_some_and(|expires| expires <= now);
            log(if expired { "override expired" } else { "override ended" }, target, was, was.limit, was.written);
        }
        for (target, is) in &applied.in_force {
            match self.in_force.get(target) {
                None => log("override begins", target, is, is.written, is.limit),
                Some(was) if was.differs(is) => log("override changes", target, is, was.limit, is.limit),
                Some(_) => {}
            }
        }
        let unmatched = applied.unmatched.iter().map(|(over, reason)| (over.place.clone(), *reason)).collect();
        for (over, reason) in &applied.unmatched {
            let (place, target) = (&over.place, &over.target);
            if !self.unmatched.contains(&(place.clone(), *reason)) {
                tracing::warn!(place, override_of = %target, reason, "override changes nothing");
            }
        }
        self.unmatched = unmatched;
        self.in_force.clone_from(&applied.in_force);
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
        gauge!("ratelimit_service_overrides_in_force").set(self.in_force.len() as f64);
    }
}

impl InForce {
    fn differs(&self, other: &Self) -> bool {
        let (one, two) = (&self.over, &other.over);
        self.limit != other.limit || one.expires != two.expires || one.reason != two.reason
    }
}

fn log(event: &str, target: &Target, of: &InForce, old: Limit, new: Limit) {
    let over = &of.over;
    tracing::info!(
        place = over.place,
        domain = target.domain,
        rule = target.rule(),
        values = target.values(),
        old = %old,
        new = %new,
        expires = over.expires.map_or("never".to_owned(), |expires| expires.to_string()),
        reason = over.reason,
        "{event}"
    );
}

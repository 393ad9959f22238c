//! The configuration in force: what a source says, with overrides over it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{Overridden, Override, Overrides, Target, audit::Audit};
use crate::{
    config::{Config, Limit},
    service::CurrentConfig,
};

/// Where sources and overrides meet. Without overrides, what a source publishes is in force as it is.
#[derive(Clone, Debug)]
pub struct Overlay {
    in_force: CurrentConfig,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    written: Option<Arc<Config>>,
    overrides: Overrides,
    audit: Audit,
    /// When the next override expires.
    next: Option<Timestamp>,
}

/// A configuration with overrides over it.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) config: Config,
    pub(super) in_force: BTreeMap<Target, InForce>,
    /// With the reason.
    pub(super) unmatched: Vec<(Arc<Override>, &'static str)>,
}

/// An override with what it replaces and what by.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) over: Arc<Override>,
    pub(super) written: Limit,
    pub(super) limit: Limit,
}

impl From<CurrentConfig> for Overlay {
    fn from(in_force: CurrentConfig) -> Self {
        Self { in_force, state: Arc::default() }
    }
}

impl Overlay {
    /// Puts a source's configuration in force under the overrides.
    pub fn publish(&self, written: Config) {
        let mut state = self.state.lock();
        state.written = Some(Arc::new(written));
        self.rebuild(&mut state, Timestamp::now());
    }

    /// Puts other overrides in force; all of before end or change.
    pub fn replace(&self, overrides: Overrides, now: Timestamp) {
        let mut state = self.state.lock();
        state.overrides = overrides;
        self.rebuild(&mut state, now);
    }

    /// Ends overrides that have expired. Returns when the next one will.
    pub fn refresh(&self, now: Timestamp) -> Option<Timestamp> {
        let mut state = self.state.lock();
        if state.next.is_some_and(|next| next <= now) {
            self.rebuild(&mut state, now);
        }
        state.next
    }

    fn rebuild(&self, state: &mut State, now: Timestamp) {
        state.next = state.overrides.unexpired(now).filter_map(|over| over.expires).min();
        let Some(written) = &state.written else { return };
        let applied = apply(written, &state.overrides, now);
        state.audit.record(&applied, now);
        let config = if applied.in_force.is_empty() { Arc::clone(written) } else { Arc::new(applied.config) };
        self.in_force.store(Some(config));
    }
}

/// Of two overrides for one target, the one that expires first is in force: a short one lies over a lasting one.
pub(super) fn apply(written: &Config, overrides: &Overrides, now: Timestamp) -> Applied {
    let mut chosen = BTreeMap::new();
    for over in overrides.unexpired(now) {
        match chosen.entry(&over.target) {
            Entry::Vacant(vacant) => drop(vacant.insert(over)),
            Entry::Occupied(mut other) if ends_before(over, other.get()) => drop(other.insert(over)),
            Entry::Occupied(_) => {}
        }
    }
    if chosen.is_empty() {
        return Applied::default();
    }
    let mut applied = Applied { config: written.clone(), ..Applied::default() };
    for (target, over) in chosen {
        match lay(&mut applied.config, over) {
            Ok(in_force) => drop(applied.in_force.insert(target.clone(), in_force)),
            Err(reason) => applied.unmatched.push((Arc::clone(over), reason)),
        }
    }
    applied
}

fn ends_before(one: &Override, other: &Override) -> bool {
    one.expires.is_some_and(|expires| other.expires.is_none_or(|other| expires < other))
}

fn lay(config: &mut Config, over: &Arc<Override>) -> Result<InForce, &'static str> {
    let domain = config.domain_mut(&over.target.domain).ok_or("there is no such domain")?;
    let rule = domain.rule_mut(&over.target.path)?;
    let written = rule.overridden.as_ref().map_or(rule.limit, |overridden| overridden.written);
    let limit = over.change.of(written)?;
    let overridden = rule.overridden.get_or_insert_with(|| Box::new(Overridden::new(written)));
    if over.target.path.iter().all(|step| step.matches.is_none()) {
        overridden.whole = Some(Arc::clone(over));
        rule.limit = limit;
    } else {
        overridden.insert(limit, Arc::clone(over));
    }
    Ok(InForce { over: Arc::clone(over), written, limit })
}

//! Which policy is in force on each route.
//!
//! Policies attach by level: to the rules of a route, to whole routes, to listeners of a ListenerSet, to ListenerSets, to
//! listeners of a Gateway, to Gateways. On every route the most
//! specific one wins wholesale, and the oldest one at the same target; a route's policy with a `mergeType` takes the
//! place of both itself and the policy of its listener or Gateway.

mod ancestors;
mod attachment;
mod in_force;
mod kind;
mod merge;
mod security;
mod target;
mod traffic;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use controller_api::{
    backend_ref::BackendRef, backend_traffic_policy::BackendTrafficPolicy, security_policy::SecurityPolicy,
};

use self::{
    attachment::{Shape, Topology},
    in_force::InForce,
};
use super::{Report, inputs::Inputs, kept::Kept};
use crate::{ir, snapshot::Changes};

/// Which policy of one kind is in force on one route of one listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// `<namespace>/<gateway>/<listener>`.
    pub listener: Arc<str>,
    /// The route.
    pub route: ir::HttpRoute,
    /// The policy that is in force.
    pub winner: Arc<ir::ObjectRef>,
    /// Policies that target this route too, most specific first, and why each lost.
    pub losers: Vec<(Arc<ir::ObjectRef>, Cow<'static, str>)>,
    /// Why the winner won.
    pub reason: Cow<'static, str>,
}

/// What the policies add to a translation beside what they change in the proxies.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// What `extauth` asks of the routes that need it.
    pub(super) auth_policies: Vec<proto::extauth::Policy>,
    /// Backends that the policies refer to, beside the policy.
    pub(super) backend_refs: Vec<(ir::ObjectRef, BackendRef)>,
    /// Who won on each route.
    pub(super) decisions: Vec<Decision>,
}

/// What a translation leaves for the next one.
#[derive(Debug, Default)]
pub(super) struct Memory {
    shapes: Kept<Arc<Shape>>,
    traffic: attachment::Memory<BackendTrafficPolicy, ir::Traffic>,
    security: attachment::Memory<SecurityPolicy, ir::Security>,
}

impl Memory {
    /// Begins a translation.
    pub(super) fn begin(&mut self, changes: &Changes) {
        self.shapes.begin(changes);
        self.traffic.begin(changes);
        self.security.begin(changes);
    }

    /// Ends a translation.
    pub(super) fn end(&mut self) {
        self.shapes.end();
        self.traffic.end();
        self.security.end();
    }
}

/// Decides for every route of `proxies` and writes the policies' statuses into `report`.
pub(super) fn apply(
    inputs: &Inputs<'_>,
    proxies: &mut [ir::Proxy],
    memory: &mut Memory,
    report: &mut Report,
) -> Outcome {
    let topology = Topology::new(inputs, proxies, &mut memory.shapes);
    let mut in_force = vec![InForce::default(); topology.len()];
    let traffic = traffic::Kind { settings: inputs.settings };
    let traffic = attachment::attach(&traffic, inputs, &topology, &mut in_force, &mut memory.traffic, report);
    let security = security::Kind { inputs };
    let security = attachment::attach(&security, inputs, &topology, &mut in_force, &mut memory.security, report);
    in_force::put(in_force, proxies);
    let auth_policies: BTreeMap<_, _> =
        security.auth_policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect();
    let mut decisions = traffic.candidates.into_decisions(proxies);
    decisions.extend(security.candidates.into_decisions(proxies));
    Outcome { auth_policies: auth_policies.into_values().collect(), backend_refs: security.backend_refs, decisions }
}

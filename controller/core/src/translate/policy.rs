//! Which policy is in force on each route.
//!
//! Policies attach by level: to the rules of a route, to whole routes, to listeners of a ListenerSet, to ListenerSets, to
//! listeners of a Gateway, to Gateways. On every route the most
//! specific one wins wholesale, and the oldest one at the same target; a route's policy with a `mergeType` takes the
//! place of both itself and the policy of its listener or Gateway.

mod ancestors;
mod attachment;
mod kind;
mod merge;
mod security;
mod target;
mod traffic;

use std::collections::BTreeMap;

use controller_api::backend_ref::BackendRef;

use super::{Report, inputs::Inputs};
use crate::ir;

/// Which policy of one kind is in force on one route of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `<namespace>/<gateway>/<listener>`.
    pub listener: String,
    /// [`ir::HttpRoute::name`].
    pub route: String,
    /// The policy that is in force.
    pub winner: ir::ObjectRef,
    /// Policies that target this route too, most specific first, and why each lost.
    pub losers: Vec<(ir::ObjectRef, String)>,
    /// Why the winner won.
    pub reason: String,
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

/// Decides for every route of `proxies` and writes the policies' statuses into `report`.
pub(super) fn apply(inputs: &Inputs<'_>, proxies: &mut [ir::Proxy], report: &mut Report) -> Outcome {
    let mut traffic = traffic::Kind { settings: inputs.settings };
    let mut security = security::Kind { inputs, auth_policies: BTreeMap::new(), backend_refs: Vec::new() };
    let mut decisions = attachment::attach(&mut traffic, inputs, proxies, report);
    decisions.extend(attachment::attach(&mut security, inputs, proxies, report));
    let auth_policies = security.auth_policies.into_values().collect();
    Outcome { auth_policies, backend_refs: security.backend_refs, decisions }
}

//! Which policy is in force on each route.

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
    /// What `ratelimit` counts.
    pub(super) rate_limits: Vec<envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig>,
    /// What `extauth` asks of the routes that need it.
    pub(super) auth_policies: Vec<proto::extauth::Policy>,
    /// Who won on each route.
    pub(super) decisions: Vec<Decision>,
}

/// Decides for every route of `proxies` and writes the policies' statuses into `report`.
pub(super) fn apply(_inputs: &Inputs<'_>, _proxies: &mut [ir::Proxy], _report: &mut Report) -> Outcome {
    Outcome::default()
}

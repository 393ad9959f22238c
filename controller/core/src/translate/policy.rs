//! Which policy is in force on each route.

use crate::{Settings, Snapshot, ir, translate::Report};

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
pub struct Outcome {
    /// What `ratelimit` counts.
    pub rate_limits: Vec<envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig>,
    /// What `extauth` asks of the routes that need it.
    pub auth_policies: Vec<proto::extauth::Policy>,
    /// Who won on each route.
    pub decisions: Vec<Decision>,
}

/// Decides for every route of `proxies` and writes the policies' statuses into `report`.
pub fn apply(_snapshot: &Snapshot, _settings: &Settings, _proxies: &mut [ir::Proxy], _report: &mut Report) -> Outcome {
    Outcome::default()
}

//! The whole translation: what the objects of a snapshot ask for, and what is wrong with them.

use std::collections::BTreeMap;

use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig;

use crate::{Settings, Snapshot, infra, ir, xds};

pub mod policy;
pub mod status;

pub use policy::Decision;
pub use status::{ObjectStatus, Report};

/// Everything that follows from a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// By key: `<namespace>/<gateway>`.
    pub proxies: BTreeMap<String, Proxy>,
    /// What `ratelimit` counts: one for each domain.
    pub rate_limits: Vec<RateLimitConfig>,
    /// What `extauth` asks of the routes that need it.
    pub auth_policies: Vec<proto::extauth::Policy>,
    /// New statuses of the objects that are ours to report on, without transition times.
    pub statuses: Vec<ObjectStatus>,
    /// Which policy won on each route, and why.
    pub decisions: Vec<Decision>,
}

/// One Envoy fleet.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// What it must do.
    pub ir: ir::Proxy,
    /// The same in Envoy's messages.
    pub resources: xds::Resources,
    /// What has to run for it.
    pub infra: infra::Fleet,
}

/// Translates all of it. Whatever is wrong with an object is a condition in its status, and nothing else suffers from it.
pub fn translate(snapshot: &Snapshot, settings: &Settings) -> Translation {
    let mut report = Report::default();
    let mut proxies: Vec<ir::Proxy> = Vec::new();
    let policies = policy::apply(snapshot, settings, &mut proxies, &mut report);
    let proxies = proxies.into_iter().map(|proxy| {
        let resources = xds::build(&proxy, settings);
        let infra = infra::fleet(&proxy, BTreeMap::new(), BTreeMap::new());
        (proxy.key.clone(), Proxy { ir: proxy, resources, infra })
    });
    Translation {
        proxies: proxies.collect(),
        rate_limits: policies.rate_limits,
        auth_policies: policies.auth_policies,
        statuses: report.statuses,
        decisions: policies.decisions,
    }
}

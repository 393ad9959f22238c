//! The whole translation: what the objects of a snapshot ask for, and what is wrong with them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig;

use crate::{
    Settings, Snapshot, infra, ir,
    xds::{self, piece::Known},
};

mod attachment;
mod authority;
mod backend;
mod backend_status;
mod backend_tls;
mod backend_tls_status;
mod cors_filter;
mod external_auth;
mod fault;
mod gateway;
mod gateway_class;
mod grant;
mod grpc_match;
mod grpc_route;
mod header_modifier;
mod hostname;
mod http_route;
mod http_route_filter;
mod inputs;
mod listener;
mod listener_set;
mod name;
mod order;
mod parameters;
pub mod policy;
mod re2;
mod route;
mod route_filter;
mod route_match;
mod route_rule;
mod rule_settings;
mod selector;
mod status;
mod tls;
mod transport_route;

use inputs::Inputs;

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
    pub ir: Arc<ir::Proxy>,
    /// The same in Envoy's messages.
    pub resources: xds::Resources,
    /// What has to run for it.
    pub infra: infra::Fleet,
}

/// What a translation leaves for the next one, so that this only has to do what has changed.
///
/// It holds results beside the inputs that they follow from. They are used where the inputs are equal, so that what is in it
/// never makes a difference to a translation but in time.
#[derive(Debug, Default)]
pub struct Memo {
    /// By key of the proxy.
    proxies: HashMap<String, Known>,
}

/// Translates all of it. Whatever is wrong with an object is a condition in its status, and nothing else suffers from it.
pub fn translate(snapshot: &Snapshot, settings: &Settings) -> Translation {
    Memo::default().translate(snapshot, settings)
}

impl Memo {
    /// Does what [`translate`] does.
    pub fn translate(&mut self, snapshot: &Snapshot, settings: &Settings) -> Translation {
        let inputs = Inputs::new(snapshot, settings);
        let mut report = Report::default();
        let mut gateways = gateway::gateways(&inputs, &mut report);
        http_route::attach(&inputs, &mut gateways, &mut report);
        grpc_route::attach(&inputs, &mut gateways, &mut report);
        order::sort_all(&mut gateways);
        transport_route::attach(&inputs, &mut gateways, &mut report);
        backend_status::report(&inputs, &mut report);
        let mut tls_uses = backend_tls_status::Uses::by_routes(&inputs, &mut gateways);
        for gateway in gateways.values() {
            gateway.report(&inputs, &mut report);
        }

        let (fleets, mut proxies): (Vec<_>, Vec<_>) =
            gateways.into_values().map(|gateway| (gateway.fleet(&inputs), gateway.proxy)).unzip();
        let policies = policy::apply(&inputs, &mut proxies, &mut report);
        for (policy, reference) in &policies.backend_refs {
            tls_uses.add_policy(&inputs, policy, reference.into());
        }
        tls_uses.report(&inputs, &mut report);
        let mut before = std::mem::take(&mut self.proxies);
        let proxies = proxies.into_iter().zip(fleets).map(|(proxy, infra)| {
            let (key, ir) = (proxy.key.clone(), Arc::new(proxy));
            let (resources, known) = xds::advance(&ir, settings, before.remove(&key).unwrap_or_default());
            self.proxies.insert(key.clone(), known);
            (key, Proxy { ir, resources, infra })
        });
        Translation {
            proxies: proxies.collect(),
            rate_limits: xds::rate_limits(self.proxies.values()),
            auth_policies: policies.auth_policies,
            statuses: report.statuses,
            decisions: policies.decisions,
        }
    }
}

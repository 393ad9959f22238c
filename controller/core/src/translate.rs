//! The whole translation: what the objects of a snapshot ask for, and what is wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig;

use crate::{
    Settings, Snapshot, infra, ir,
    snapshot::Changes,
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
mod kept;
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
mod rules_overlap;
mod selector;
mod status;
mod tls;
mod transport_route;

use attachment::Attached;
use inputs::Inputs;
use kept::Kept;

pub use policy::Decision;
pub use status::{Json, ObjectStatus, Report};

/// Everything that follows from a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// By key: `<namespace>/<gateway>`, or `<class>` with merged Gateways.
    pub proxies: BTreeMap<String, Proxy>,
    /// What `ratelimit` counts: one for each domain.
    pub rate_limits: Arc<Vec<RateLimitConfig>>,
    /// What `extauth` asks of the routes that need it.
    pub auth_policies: Vec<proto::extauth::Policy>,
    /// New statuses of the objects that are ours to report on, without transition times.
    pub statuses: Vec<Arc<ObjectStatus>>,
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
    /// What the last translation was one of.
    inputs: Option<(Snapshot, Settings)>,
    /// What was made of routes of kind `HTTPRoute` and `GRPCRoute`.
    routes: Kept<Option<Arc<Attached>>>,
    /// The statuses of Backends.
    backends: Kept<Arc<ObjectStatus>>,
    policies: policy::Memory,
    /// By key of the proxy.
    proxies: HashMap<String, Known>,
    /// What `ratelimit` counts for them.
    rate_limits: Arc<Vec<RateLimitConfig>>,
}

/// The keys of the proxies that a snapshot asks for.
pub fn proxy_keys(snapshot: &Snapshot, settings: &Settings) -> BTreeSet<String> {
    gateway::proxy_keys(&Inputs::new(snapshot, settings))
}

/// Translates all of it. Whatever is wrong with an object is a condition in its status, and nothing else suffers from it.
pub fn translate(snapshot: &Snapshot, settings: &Settings) -> Translation {
    Memo::default().translate(snapshot, settings)
}

impl Memo {
    /// Lets go of what does not hold any longer.
    fn begin(&mut self, snapshot: &Snapshot, settings: &Settings) {
        let changes = match self.inputs.take() {
            Some((before, known)) if known == *settings => Changes::between(&before, snapshot),
            _ => Changes { everything: true, ..Changes::default() },
        };
        self.inputs = Some((snapshot.clone(), settings.clone()));
        self.routes.begin(&changes);
        self.backends.begin(&changes);
        self.policies.begin(&changes);
    }

    /// Lets go of what was of no use.
    fn end(&mut self) {
        self.routes.end();
        self.backends.end();
        self.policies.end();
    }

    /// Does what [`translate`] does.
    pub fn translate(&mut self, snapshot: &Snapshot, settings: &Settings) -> Translation {
        self.begin(snapshot, settings);
        let inputs = Inputs::new(snapshot, settings);
        let mut report = Report::default();
        let mut gateways = gateway::gateways(&inputs, &mut report);
        http_route::attach(&inputs, &mut gateways, &mut self.routes, &mut report);
        grpc_route::attach(&inputs, &mut gateways, &mut self.routes, &mut report);
        order::sort_all(&mut gateways);
        transport_route::attach(&inputs, &mut gateways, &mut report);
        backend_status::report(&inputs, &mut self.backends, &mut report);
        let mut tls_uses = backend_tls_status::Uses::by_routes(&inputs, &mut gateways);
        for gateway in gateways.values() {
            gateway.report(&inputs, &mut report);
        }

        let (mut proxies, fleets) = gateway::fleet::join(&inputs, gateways);
        let policies = policy::apply(&inputs, &mut proxies, &mut self.policies, &mut report);
        for (policy, reference) in &policies.backend_refs {
            tls_uses.add_policy(&inputs, policy, reference.into());
        }
        tls_uses.report(&inputs, &mut report);
        rules_overlap::tell(&proxies, &mut report);
        self.end();
        let mut before = std::mem::take(&mut self.proxies);
        let proxies = proxies.into_iter().zip(fleets).map(|(proxy, infra)| {
            let (key, ir) = (proxy.key.clone(), Arc::new(proxy));
            let (resources, known) = xds::advance(&ir, settings, before.remove(&key).unwrap_or_default());
            self.proxies.insert(key.clone(), known);
            (key, Proxy { ir, resources, infra })
        });
        let proxies = proxies.collect();
        // What is left has no proxy any longer.
        if !before.is_empty() || !self.proxies.values().all(Known::has_same_limits) {
            self.rate_limits = Arc::new(xds::rate_limits(self.proxies.values()));
        }
        Translation {
            proxies,
            rate_limits: Arc::clone(&self.rate_limits),
            auth_policies: policies.auth_policies,
            statuses: report.statuses,
            decisions: policies.decisions,
        }
    }
}

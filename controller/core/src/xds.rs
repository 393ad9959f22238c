//! Envoy's messages for one [`crate::ir::Proxy`].
//!
//! Nothing here fails: whatever cannot be expressed has been refused while the IR was built.

mod access_log;
pub mod bootstrap;
mod canonical;
mod cluster;
mod endpoint;
mod filter;
mod listener;
mod matcher;
mod metadata;
pub mod name;
pub(crate) mod piece;
mod rate_limit;
mod ready;
mod resources;
mod route;
mod secret;
mod service;
mod tcp;
mod udp;
mod value;

pub use resources::{Named, Resource, Resources, Type};

use resources::hash;

use std::sync::Arc;

use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig;

use self::piece::Known;
use crate::{Settings, ir};

/// Everything that Envoy needs to do what `proxy` says.
pub fn build(proxy: &ir::Proxy, settings: &Settings) -> Resources {
    advance(&Arc::new(proxy.clone()), settings, Known::default()).0
}

/// The same. What `known` holds of the last time is used where nothing has changed, and makes no other difference.
pub(crate) fn advance(proxy: &Arc<ir::Proxy>, settings: &Settings, known: Known) -> (Resources, Known) {
    let mut known = known.advance(proxy);
    let ports = listener::Port::all(proxy, settings, known.pieces());
    let sketches: Vec<_> = ports.iter().map(listener::Port::sketch).collect();
    let sketches = listener::listeners(proxy, &sketches, settings);
    let listeners = known.listeners(&sketches, || listener::listeners(proxy, &ports, settings));
    let configurations = ports.iter().map(|port| route::configuration(port, known.pieces())).collect();
    let mut resources = Resources::default();
    resources.add(&ready::listener(&settings.bind_address(&proxy.key).to_string()));
    if let Some(local) = &proxy.local {
        cluster::add_local(&mut resources, &proxy.key, local);
    }
    for listener in &proxy.tcp {
        tcp::resources(proxy, listener, &mut resources);
    }
    for listener in &proxy.udp {
        udp::resources(proxy, listener, settings, &mut resources);
    }
    for port in &ports {
        if let Some(tls) = port.tls() {
            secret::add(&mut resources, tls);
        }
        resources.extend(port.pieces().flat_map(|piece| &piece.resources));
        for filter in filter::FILTERS {
            filter.resources(port, &mut resources);
        }
    }
    drop(ports);
    known.keep(&mut resources, listeners, configurations);
    (resources, known)
}

/// What `ratelimit` counts for all of these proxies.
pub(crate) fn rate_limits<'k>(known: impl Iterator<Item = &'k Known>) -> Vec<RateLimitConfig> {
    rate_limit::configs(known.flat_map(Known::pieces).flatten().flat_map(|piece| &piece.limits))
}

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
mod rate_limit;
mod ready;
mod resources;
mod route;
mod secret;
mod service;
mod tcp;
mod udp;
mod value;

pub(crate) use rate_limit::configs as rate_limits;
pub use resources::{Named, Resource, Resources, Type};

use resources::hash;

use crate::{
    Settings,
    ir::{self, Action},
};

/// Everything that Envoy needs to do what `proxy` says.
pub fn build(proxy: &ir::Proxy, settings: &Settings) -> Resources {
    let mut resources = Resources::default();
    resources.add(&ready::listener(&settings.bind_address(&proxy.key).to_string()));
    if let Some(local) = &proxy.local {
        cluster::add_local(&mut resources, &proxy.key, local);
    }
    let ports = listener::Port::all(proxy, settings);
    for listener in listener::listeners(proxy, &ports, settings) {
        resources.add(&listener);
    }
    for listener in &proxy.tcp {
        tcp::resources(proxy, listener, &mut resources);
    }
    for listener in &proxy.udp {
        udp::resources(proxy, listener, settings, &mut resources);
    }
    for port in ports {
        resources.add(&route::configuration(&port));
        if let Some(tls) = port.tls() {
            secret::add(&mut resources, tls);
        }
        for route in port.routes() {
            add_backends(&mut resources, proxy, route);
        }
        for filter in filter::FILTERS {
            filter.resources(&port, &mut resources);
        }
    }
    resources
}

fn add_backends(resources: &mut Resources, proxy: &ir::Proxy, route: &ir::HttpRoute) {
    let Action::Forward(destination) = &route.action else { return };
    let metadata = metadata::of(&route.route, route.rule_name.as_deref(), &route.metadata);
    let traffic = route.traffic.as_deref();
    let options = cluster::Options { traffic, certificate: proxy.client_certificate.as_ref(), ..Default::default() };
    cluster::add(resources, destination, cluster::Options { metadata: Some(&metadata), ..options });
    for mirror in &route.mirrors {
        cluster::add(resources, &mirror.destination, options);
    }
}

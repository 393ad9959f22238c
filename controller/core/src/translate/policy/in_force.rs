//! What the policies of all kinds come to on a route.

use std::sync::Arc;

use crate::ir::{Action, Proxy, Security, Traffic};

/// The policies in force on one route.
#[derive(Clone, Debug, Default)]
pub(super) struct InForce {
    pub(super) traffic: Option<Arc<Traffic>>,
    pub(super) security: Option<Arc<Security>>,
    /// A policy is broken: the route answers 500 rather than doing without it.
    pub(super) closed: bool,
}

/// Puts what is in force, in the order of the routes of all listeners, on the routes of `proxies`.
pub(super) fn put(in_force: Vec<InForce>, proxies: &mut [Proxy]) {
    let routes = proxies.iter_mut().flat_map(|proxy| &mut proxy.http).flat_map(|listener| &mut listener.routes);
    for (route, InForce { traffic, security, closed }) in routes.zip(in_force) {
        (route.traffic, route.security) = (traffic, security);
        if closed {
            route.action = Action::Respond { status: 500, body: String::new(), format: false };
        }
    }
}

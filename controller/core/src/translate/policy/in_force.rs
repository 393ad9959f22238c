//! What the policies of all kinds come to on a route.

use std::sync::Arc;

use crate::{
    ir::{Action, HttpRoute, Proxy, Security, Traffic},
    translate::{inputs::Inputs, kept::Kept},
};

/// The policies in force on one route.
#[derive(Clone, Debug, Default)]
pub(super) struct InForce {
    pub(super) traffic: Option<Arc<Traffic>>,
    pub(super) security: Option<Arc<Security>>,
    /// A policy is broken: the route answers 500 rather than doing without it.
    pub(super) closed: bool,
}

/// A route with its policies, and what these were.
pub(super) type Governed = (InForce, Arc<HttpRoute>);

impl InForce {
    /// These are the very same policies.
    fn is(&self, other: &Self) -> bool {
        let address = |one: &Self| (one.traffic.as_ref().map(Arc::as_ptr), one.security.as_ref().map(Arc::as_ptr));
        address(self) == address(other) && self.closed == other.closed
    }

    fn on(self, route: &HttpRoute) -> HttpRoute {
        let Self { traffic, security, closed } = self;
        let mut route = HttpRoute { traffic, security, ..route.clone() };
        if closed {
            route.action = Action::Respond { status: 500, body: String::new(), format: false };
        }
        route
    }
}

/// Puts what is in force, in the order of the routes of all listeners, on the routes of `proxies`.
pub(super) fn put(inputs: &Inputs<'_>, in_force: Vec<InForce>, kept: &mut Kept<Governed>, proxies: &mut [Proxy]) {
    let routes = proxies.iter_mut().flat_map(|proxy| &mut proxy.http).flat_map(|listener| &mut listener.routes);
    for (route, in_force) in routes.zip(in_force) {
        if !in_force.is(&InForce::default()) {
            let holds = |(known, _): &Governed| known.is(&in_force);
            let make = || (in_force.clone(), Arc::new(in_force.clone().on(route)));
            *route = kept.of_if(inputs, route, holds, make).1;
        }
    }
}

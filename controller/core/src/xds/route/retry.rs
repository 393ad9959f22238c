//! How long a route waits for its backend and how often it asks again.

use envoy_types::pb::envoy::config::route::v3::RouteAction;

use crate::{ir::HttpRoute, xds::value::millis};

/// A route with a deadline must not be cut off for silence before it.
const IDLE_TIMEOUT_MS: u64 = 3_600_000;

pub(super) fn apply(action: &mut RouteAction, route: &HttpRoute) {
    let timeout = route.timeouts.backend_request_ms.or(route.timeouts.request_ms);
    action.timeout = timeout.map(millis);
    action.idle_timeout = timeout.map(|timeout| match timeout {
        0 => millis(0),
        timeout => millis(timeout.max(IDLE_TIMEOUT_MS)),
    });
}

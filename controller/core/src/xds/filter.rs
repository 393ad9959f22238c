//! The HTTP filters: what each puts into the chain of a port, onto its routes, and beside them.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
    google::protobuf::Any,
};
use prost::Name;

use super::{Resources, listener::Port, value::any};
use crate::ir::HttpRoute;

mod cors;
mod credential_injector;
mod csrf;
mod ext_authz;
mod fault;
mod grpc;
pub(crate) mod jwt_authn;
mod local_ratelimit;
mod ratelimit;
mod rbac;
mod retry;
mod router;
mod stateful_session;

pub(crate) use router::router;

/// One kind of filter. A kind may have several instances in a chain, each with its own name.
pub(crate) trait Filter: Sync {
    /// The instances that some route of the port needs, in order.
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter>;

    /// What a route on the listener of this name sets for them, by the name of the instance.
    fn route(&self, _listener: &str, _route: &HttpRoute) -> Vec<(String, Any)> {
        Vec::new()
    }

    /// The clusters and secrets that they refer to.
    fn resources(&self, _port: &Port<'_>, _resources: &mut Resources) {}
}

/// Every kind, in the order in which requests pass them.
pub(crate) const FILTERS: &[&dyn Filter] = &[
    &fault::Fault,
    &cors::Cors,
    &csrf::Csrf,
    &ext_authz::ExtAuthz,
    &jwt_authn::JwtAuthn,
    &stateful_session::StatefulSession,
    &rbac::Rbac,
    &local_ratelimit::LocalRatelimit,
    &ratelimit::Ratelimit,
    &grpc::Web,
    &grpc::Stats,
    &credential_injector::CredentialInjector,
    &router::Router,
];

/// What `route` on the listener of this name sets for all filters.
pub(crate) fn route(listener: &str, route: &HttpRoute) -> HashMap<String, Any> {
    FILTERS.iter().flat_map(|filter| filter.route(listener, route)).collect()
}

/// An instance that is on for every route.
pub(crate) fn enabled<M: Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(any(config))), ..Default::default() }
}

/// An instance that only runs on the routes that configure it.
pub(crate) fn disabled<M: Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter { disabled: true, ..enabled(name, config) }
}

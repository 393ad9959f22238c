//! `gateway.envoyproxy.io/v1alpha1`: Envoy Gateway's resources as Rust types, one module a kind.
//!
//! Names, defaults and limits are upstream's, so that its manifests are ours. Fields that Tollgate does not translate are
//! kept apart by name, so that a policy which uses one can say so instead of looking as if it worked.
//!
//! Gateway API's own kinds come from the `gateway-api` crate, save the routes whose v1 it lacks or whose parts it names
//! anew for each kind.

pub mod backend;
pub mod backend_ref;
pub mod backend_traffic_policy;
pub mod cluster_settings;
mod duration;
pub mod envoy_proxy;
pub mod fault_injection;
pub mod grpc_route;
pub mod http_route_filter;
mod lenient;
pub mod policy;
pub mod rate_limit;
pub mod route;
pub mod security_policy;
pub mod tcp_route;
pub mod tls_route;
pub mod udp_route;

pub use duration::{Duration, DurationError};

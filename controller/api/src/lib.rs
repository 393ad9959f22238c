//! `gateway.envoyproxy.io/v1alpha1`: Envoy Gateway's resources as Rust types, one module a kind.

pub mod backend;
pub mod backend_traffic_policy;
pub mod security_policy;

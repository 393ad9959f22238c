//! `gateway.envoyproxy.io/v1alpha1`: Envoy Gateway's resources as Rust types, one module a kind.
//!
//! Names, defaults and limits are upstream's, so that its manifests are ours. Fields that Tollgate does not translate are
//! kept apart by name, so that a policy which uses one can say so instead of looking as if it worked.

pub mod backend;
pub mod backend_ref;
pub mod backend_traffic_policy;
pub mod cluster_settings;
mod duration;
pub mod fault_injection;
mod lenient;
pub mod policy;
pub mod rate_limit;
pub mod security_policy;

pub use duration::{Duration, DurationError};

//! What Tollgate's services share: messages that `envoy-types` lacks, JSON for protobuf, and the server shell.

pub mod descriptors;
pub mod drain;
pub mod extauth;
pub mod health;
pub mod json;
pub mod messages;
pub mod metrics;
pub mod readiness;
pub mod reflection;
pub mod serve;
pub mod telemetry;

//! What Tollgate's services share: messages that `envoy-types` lacks, JSON for protobuf, directories that are
//! followed, and the server shell.

pub mod descriptors;
pub mod directory;
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

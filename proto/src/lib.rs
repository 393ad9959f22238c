//! What Tollgate's services share: messages that `envoy-types` lacks, JSON for protobuf, directories that are
//! followed, a client of xDS servers, and the server shell.

pub mod descriptors;
pub mod directory;
pub mod drain;
pub mod extauth;
pub mod go;
pub mod health;
pub mod json;
pub mod messages;
pub mod metrics;
pub mod readiness;
pub mod reflection;
pub mod serve;
pub mod telemetry;
pub mod xds;

//! What Tollgate's services share: messages that `envoy-types` lacks, JSON for protobuf, and the server shell.

pub mod extauth;

//! Everything that is tested from outside, in one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../../../proto/tests/shared/certificates.rs"]
mod certificates;
mod config;
mod connection;
mod dir;
mod doctor;
mod envoy;
mod envoy_filter;
mod envoy_gateway;
mod explain;
mod fault_proxy;
mod faults;
mod fuzz;
mod grammar;
mod histories;
mod insight;
mod lease;
mod lease_model;
mod limiter;
#[path = "../../../proto/tests/shared/load.rs"]
mod load;
mod loss;
mod near;
mod overrides;
mod program;
mod redis;
mod redis_faults;
#[path = "../../../proto/tests/shared/redis_nodes.rs"]
mod redis_nodes;
mod redis_plain;
mod redis_server;
mod redis_topology;
mod requests;
mod rlqs;
mod rlqs_envoy;
mod security;
mod statsd;
mod stores;
mod tls;
#[path = "../../../proto/tests/shared/tools.rs"]
mod tools;
mod trace;
mod xds;
mod xds_server;

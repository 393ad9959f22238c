//! What `extauth` lets through and what not. A letter and a number in a test's name say what is attacked (`j` tokens, `k` keys, `h`
//! headers, `a` paths, `e` the protocol); `cve` repeats what befell others.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod api_key;
mod attempts;
mod background;
mod basic;
mod caps;
mod cel;
#[path = "../../../proto/tests/shared/certificates.rs"]
mod certificates;
mod client_certificate;
mod config;
mod decisions;
mod envoy;
mod explain;
mod fetch;
mod floods;
mod front;
mod gate;
mod http_service;
mod identity;
mod introspection;
mod jwt;
mod jwt_attacks;
mod jwt_claims;
mod key_sets;
mod keyring;
mod kubernetes;
#[path = "../../../proto/tests/shared/load.rs"]
mod load;
mod metrics;
mod oidc;
mod policy;
mod ports;
mod program;
mod properties;
mod readme;
mod redis;
#[path = "../../../proto/tests/shared/redis_nodes.rs"]
mod redis_nodes;
mod reload;
mod results;
mod revocation;
mod rollout;
mod routes;
mod rules;
mod running;
mod secrets;
mod service;
mod session_reads;
mod store;
mod support;
#[path = "../../../proto/tests/shared/tools.rs"]
mod tools;
mod web;
mod xds;
mod xds_server;

//! What `extauth` lets through and what not. A letter and a number in a test's name say what is attacked (`j` tokens, `k` keys, `h`
//! headers, `a` paths, `e` the protocol); `cve` repeats what befell others.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod api_key;
mod attempts;
mod background;
mod basic;
mod cel;
mod client_certificate;
mod config;
mod envoy;
mod explain;
mod fetch;
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
mod metrics;
mod oidc;
mod policy;
mod ports;
mod program;
mod properties;
mod redis;
mod reload;
mod results;
mod revocation;
mod routes;
mod rules;
mod service;
mod store;
mod support;
mod web;

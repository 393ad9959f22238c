//! The real controller with a real Envoy (and a real Redis), driven with real HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "e2e/authorization.rs"]
mod authorization;
#[path = "e2e/bad_input.rs"]
mod bad_input;
#[path = "e2e/examples.rs"]
mod examples;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/files.rs"]
mod files;
#[path = "e2e/http.rs"]
mod http;
#[path = "e2e/https.rs"]
mod https;
#[path = "e2e/limits.rs"]
mod limits;
#[path = "e2e/merged.rs"]
mod merged;
#[path = "e2e/oidc.rs"]
mod oidc;
#[path = "e2e/postgres.rs"]
mod postgres;
#[path = "e2e/redis.rs"]
mod redis;
#[path = "e2e/routes.rs"]
mod routes;
#[path = "e2e/standalone.rs"]
mod standalone;
#[path = "e2e/tls.rs"]
mod tls;
#[path = "e2e/tool.rs"]
mod tool;

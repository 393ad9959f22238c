//! What `extauth` lets through and what not. Tests with a letter and a number in their names are cases of the attack list, those that
//! start with `cve` repeat what befell others.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod api_key;
mod config;
mod envoy;
mod identity;
mod jwt;
mod jwt_attacks;
mod policy;
mod program;
mod reload;
mod service;
mod support;

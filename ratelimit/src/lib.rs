//! Global rate limits for Envoy: `envoy.service.ratelimit.v3.RateLimitService` with counters in memory or Redis.
//!
//! One request flows through [`limiter::plan`] (which limits apply), a [`store::CounterStore`] (count the hits) and
//! [`limiter::Plan::decide`] (the answer); [`service::Service`] ties the three together. Everything that says what is
//! limited is an immutable [`config::Config`], swapped as a whole.

pub mod clients;
pub mod config;
pub mod explain;
pub mod http;
pub mod key;
pub mod lease;
pub mod limiter;
pub mod metrics;
pub mod overrides;
pub mod rlqs;
pub mod server;
pub mod service;
pub mod settings;
pub mod shadow;
pub mod source;
pub mod store;
pub mod talkers;
pub mod trace;

//! External authorization for Envoy: who sends this request, and may it pass?
//!
//! Envoy's `ext_authz` filter asks over gRPC ([`service`]); the context extension `policy` names one of the [`policy`]
//! set, its [`method`]s look for a credential in the request ([`check`], [`credential`]), and the [`verdict`] says what
//! Envoy is to do. Whatever goes wrong on that way denies.

pub mod attempts;
pub mod authority;
pub mod background;
pub mod check;
mod claims;
pub mod config;
pub mod credential;
pub mod decision;
pub mod denied;
pub mod explain;
pub mod fetch;
pub mod header;
pub mod host;
pub mod http_service;
mod json;
pub mod jwks;
pub mod keyring;
pub mod keys;
pub mod method;
pub mod metrics;
pub mod path;
pub mod pattern;
pub mod policy;
mod random;
pub mod resources;
pub mod results;
pub mod revocation;
pub mod routes;
pub mod rules;
mod sealed;
pub mod server;
pub mod service;
pub mod session;
pub mod settings;
pub mod shared;
pub mod source;
pub mod store;
pub mod template;
pub mod tokens;
pub mod verdict;

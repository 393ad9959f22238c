//! `controller serve` beside a real kube-apiserver and etcd.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "kubernetes/api_server.rs"]
mod api_server;
#[path = "kubernetes/churn.rs"]
mod churn;
#[path = "kubernetes/controller.rs"]
mod controller;
#[path = "kubernetes/crds.rs"]
mod crds;
#[path = "kubernetes/debug.rs"]
mod debug;
#[path = "kubernetes/faults.rs"]
mod faults;
#[path = "kubernetes/fleets.rs"]
mod fleets;
#[allow(dead_code, reason = "shared with the tests of standalone")]
#[path = "e2e/http.rs"]
mod http;
#[path = "kubernetes/identity.rs"]
mod identity;
#[path = "kubernetes/losses.rs"]
mod losses;
#[path = "kubernetes/pki.rs"]
mod pki;
#[path = "kubernetes/policies.rs"]
mod policies;
#[path = "kubernetes/refusals.rs"]
mod refusals;
#[path = "kubernetes/rights.rs"]
mod rights;
#[path = "kubernetes/schemas.rs"]
mod schemas;
#[path = "kubernetes/statuses.rs"]
mod statuses;
#[path = "kubernetes/tokens.rs"]
mod tokens;
#[allow(dead_code, reason = "shared with the tests of standalone")]
#[path = "e2e/tool.rs"]
mod tool;
#[path = "kubernetes/variants.rs"]
mod variants;
#[path = "kubernetes/xds.rs"]
mod xds;

//! `envoy.service.rate_limit_quota.v3.RateLimitQuotaService`, experimental: Envoy decides with a share of a rule's limit, and reports
//! what it has decided.
//!
//! [`Quotas`] is all state and does no IO; [`Service`] carries the streams to it. State changes only when a client reports or leaves,
//! so a share that is to go to another is first lowered with its holder's next report, and then waits until the holder cannot have
//! the higher one any more.

pub use self::{
    quotas::{Quotas, ReportError, StreamId},
    service::Service,
};

mod metrics;
mod pool;
mod quotas;
mod service;

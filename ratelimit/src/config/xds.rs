//! Reads one `RateLimitConfig` message, as Envoy Gateway sends them and as our controller makes them.

use envoy_types::pb::ratelimit::config::ratelimit::v3::{RateLimitDescriptor, RateLimitPolicy};
use serde_saphyr::{Location, Spanned};

pub(super) use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig;

use super::{
    Error,
    document::{Descriptor, Document, RateLimit, Replace},
    tree::{Domain, Problem},
    unit::Unit,
};

pub(super) fn parse(message: &RateLimitConfig) -> Result<Domain, Error> {
    let descriptors = message.descriptors.iter().map(descriptor).collect();
    let document = Document { domain: nowhere(message.domain.clone()), descriptors };
    let mut problems = vec![];
    let domain = Domain::build(document, &mut problems);
    match problems.into_iter().next() {
        None => Ok(domain),
        Some(Problem { message: text, .. }) => Err(Error::Resource { name: message.name.clone(), message: text }),
    }
}

fn descriptor(message: &RateLimitDescriptor) -> Spanned<Descriptor> {
    nowhere(Descriptor {
        key: message.key.clone(),
        value: message.value.clone(),
        rate_limit: message.rate_limit.as_ref().map(rate_limit),
        descriptors: message.descriptors.iter().map(descriptor).collect(),
        shadow_mode: message.shadow_mode,
        quota_mode: message.quota_mode,
        detailed_metric: message.detailed_metric,
        metadata: message.metadata.clone(),
        // Not in the message.
        share_threshold: false,
        value_to_metric: false,
    })
}

fn rate_limit(message: &RateLimitPolicy) -> Spanned<RateLimit> {
    nowhere(RateLimit {
        unit: Unit::from_number(message.unit),
        requests_per_unit: message.requests_per_unit,
        unlimited: message.unlimited,
        name: message.name.clone(),
        replaces: message.replaces.iter().map(|replace| nowhere(Replace { name: replace.name.clone() })).collect(),
        // Not in the message.
        unit_multiplier: None,
        algorithm: None,
        burst: None,
        on_store_loss: None,
        leases: None,
    })
}

/// A message has no lines; errors name the descriptor's path instead.
fn nowhere<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Location::UNKNOWN, Location::UNKNOWN)
}

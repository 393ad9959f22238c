//! Reads one `RateLimitConfig` message, as Envoy Gateway sends them and as our controller makes them.

use envoy_types::pb::ratelimit::config::ratelimit::v3::{RateLimitDescriptor, RateLimitPolicy};
use serde_saphyr::{Location, Spanned};

pub(super) use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig;

use super::{
    Error,
    document::{Descriptor, Document, RateLimit, Replace},
    tree::Domain,
    unit::Unit,
};

pub(super) fn parse(message: &RateLimitConfig) -> Result<Domain, Error> {
    let refuse = |text: String| Error::Resource { name: message.name.clone(), message: text };
    let descriptors = message.descriptors.iter().map(descriptor).collect::<Result<_, _>>().map_err(refuse)?;
    let document = Document { domain: nowhere(message.domain.clone()), descriptors };
    Domain::build(document).map_err(|problem| refuse(problem.message))
}

fn descriptor(message: &RateLimitDescriptor) -> Result<Spanned<Descriptor>, String> {
    if message.detailed_metric || message.metadata.is_some() {
        return Err(format!("descriptor {:?}: detailed_metric and metadata are not supported", message.key));
    }
    Ok(nowhere(Descriptor {
        key: message.key.clone(),
        value: message.value.clone(),
        rate_limit: message.rate_limit.as_ref().map(rate_limit),
        descriptors: message.descriptors.iter().map(descriptor).collect::<Result<_, _>>()?,
        shadow_mode: message.shadow_mode,
        quota_mode: message.quota_mode,
        ..Descriptor::default()
    }))
}

fn rate_limit(message: &RateLimitPolicy) -> Spanned<RateLimit> {
    nowhere(RateLimit {
        unit: Unit::from_number(message.unit),
        requests_per_unit: message.requests_per_unit,
        unlimited: message.unlimited,
        name: message.name.clone(),
        replaces: message.replaces.iter().map(|replace| nowhere(Replace { name: replace.name.clone() })).collect(),
    })
}

/// A message has no lines; errors name the descriptor's path instead.
fn nowhere<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Location::UNKNOWN, Location::UNKNOWN)
}

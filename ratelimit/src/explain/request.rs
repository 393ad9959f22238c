//! A request as it is typed.

use std::str::FromStr;

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::RateLimitRequest,
};

/// Keys and values of one descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(pub Vec<(String, String)>);

/// A text without `=`, or without a key before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("say KEY=VALUE instead of `{0}`")]
pub struct NoPair(String);

impl Pairs {
    /// `KEY=VALUE`; the value is whatever follows the first `=`.
    pub fn one(text: &str) -> Result<(String, String), NoPair> {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| NoPair(text.to_owned()))
    }
}

/// `KEY=VALUE,KEY=VALUE`.
impl FromStr for Pairs {
    type Err = NoPair;

    fn from_str(text: &str) -> Result<Self, NoPair> {
        Ok(Self(text.split(',').map(Self::one).collect::<Result<_, _>>()?))
    }
}

/// A request with a descriptor of each.
pub fn request(domain: &str, descriptors: impl IntoIterator<Item = Pairs>, hits_addend: u32) -> RateLimitRequest {
    let descriptor = |Pairs(pairs): Pairs| RateLimitDescriptor {
        entries: pairs.into_iter().map(|(key, value)| Entry { key, value }).collect(),
        ..RateLimitDescriptor::default()
    };
    let descriptors = descriptors.into_iter().map(descriptor).collect();
    RateLimitRequest { domain: domain.to_owned(), descriptors, hits_addend }
}

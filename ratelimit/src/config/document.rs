//! A domain as it is written, before anything is checked that a parser cannot know.

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

use super::unit::Unit;

/// One file or one `RateLimitConfig`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) domain: Spanned<String>,
    #[serde(default)]
    pub(super) descriptors: Vec<Spanned<Descriptor>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Descriptor {
    pub(super) key: String,
    /// Empty for a descriptor that matches every value.
    pub(super) value: String,
    pub(super) rate_limit: Option<Spanned<RateLimit>>,
    pub(super) descriptors: Vec<Spanned<Descriptor>>,
    pub(super) shadow_mode: bool,
    pub(super) quota_mode: bool,
    pub(super) share_threshold: bool,
    #[serde(deserialize_with = "unsupported_if_set")]
    pub(super) detailed_metric: (),
    #[serde(deserialize_with = "unsupported_if_set")]
    pub(super) value_to_metric: (),
    #[serde(deserialize_with = "unsupported")]
    pub(super) metadata: (),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RateLimit {
    pub(super) unit: Option<Unit>,
    pub(super) requests_per_unit: u32,
    pub(super) unlimited: bool,
    pub(super) name: String,
    pub(super) replaces: Vec<Spanned<Replace>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replace {
    pub(super) name: String,
}

impl Descriptor {
    /// How upstream names one level: the key, and the value behind an underscore if there is one.
    pub(super) fn composite(&self) -> String {
        if self.value.is_empty() { self.key.clone() } else { format!("{}_{}", self.key, self.value) }
    }
}

const UNSUPPORTED: &str = "this field of envoyproxy/ratelimit is not supported; remove it";

fn unsupported_if_set<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    if bool::deserialize(deserializer)? { Err(de::Error::custom(UNSUPPORTED)) } else { Ok(()) }
}

fn unsupported<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    de::IgnoredAny::deserialize(deserializer)?;
    Err(de::Error::custom(UNSUPPORTED))
}

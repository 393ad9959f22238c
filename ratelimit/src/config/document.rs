//! A domain as it is written, before anything is checked that a parser cannot know.

use envoy_types::pb::google::protobuf::Struct;
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

use super::{metadata, unit::Unit};

/// One file or one `RateLimitConfig`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) domain: Spanned<String>,
    #[serde(default)]
    pub(super) descriptors: Vec<Spanned<Descriptor>>,
}

#[expect(clippy::struct_excessive_bools, reason = "the fields are those of the file")]
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
    pub(super) detailed_metric: bool,
    pub(super) value_to_metric: bool,
    #[serde(deserialize_with = "metadata::deserialize")]
    pub(super) metadata: Option<Struct>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RateLimit {
    pub(super) unit: Option<Unit>,
    #[serde(deserialize_with = "requests_per_unit")]
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

fn requests_per_unit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let invalid = |_| de::Error::custom("requests_per_unit must be a whole number from 0 to 4294967295");
    u32::deserialize(deserializer).map_err(invalid)
}

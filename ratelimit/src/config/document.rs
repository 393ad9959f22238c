//! A domain as it is written, before anything is checked that a parser cannot know.

use envoy_types::pb::google::protobuf::Struct;
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

use super::{metadata, unit::Unit};
use crate::store::OnStoreLoss;

/// One file or one `RateLimitConfig`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) domain: Spanned<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) descriptors: Vec<Spanned<Descriptor>>,
}

#[expect(clippy::struct_excessive_bools, reason = "the fields are those of the file")]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Descriptor {
    #[serde(deserialize_with = "or_default")]
    pub(super) key: String,
    /// Empty for a descriptor that matches every value.
    #[serde(deserialize_with = "or_default")]
    pub(super) value: String,
    pub(super) rate_limit: Option<Spanned<RateLimit>>,
    #[serde(deserialize_with = "or_default")]
    pub(super) descriptors: Vec<Spanned<Descriptor>>,
    #[serde(deserialize_with = "or_default")]
    pub(super) shadow_mode: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) quota_mode: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) share_threshold: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) detailed_metric: bool,
    #[serde(deserialize_with = "or_default")]
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
    #[serde(deserialize_with = "or_default")]
    pub(super) unlimited: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) replaces: Vec<Spanned<Replace>>,
    #[serde(deserialize_with = "unit_multiplier")]
    pub(super) unit_multiplier: Option<Spanned<u32>>,
    pub(super) algorithm: Option<Spanned<AlgorithmName>>,
    #[serde(deserialize_with = "burst")]
    pub(super) burst: Option<Spanned<u32>>,
    #[serde(alias = "onStoreLoss")]
    pub(super) on_store_loss: Option<Spanned<OnStoreLoss>>,
    pub(super) leases: Option<Spanned<bool>>,
}

/// How hits are counted and forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AlgorithmName {
    #[default]
    FixedWindow,
    SlidingWindow,
    Gcra,
    Concurrency,
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

impl<'de> Deserialize<'de> for AlgorithmName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.to_ascii_lowercase().replace('-', "_").as_str() {
            "fixed_window" => Ok(Self::FixedWindow),
            "sliding_window" => Ok(Self::SlidingWindow),
            "gcra" => Ok(Self::Gcra),
            "concurrency" => Ok(Self::Concurrency),
            _ => Err(de::Error::custom(format!(
                "invalid algorithm '{text}', expected fixed_window, sliding_window, gcra or concurrency"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for OnStoreLoss {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What is left empty is as if it were not there.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn unit_multiplier<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Spanned<u32>>, D::Error> {
    let invalid = |_| de::Error::custom("unit_multiplier must be a whole number from 1 to 4294967295");
    Spanned::deserialize(deserializer).map(Some).map_err(invalid)
}

fn burst<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Spanned<u32>>, D::Error> {
    let invalid = |_| de::Error::custom("burst must be a whole number from 1 to 4294967295");
    Spanned::deserialize(deserializer).map(Some).map_err(invalid)
}

fn requests_per_unit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let invalid = |_| de::Error::custom("requests_per_unit must be a whole number from 0 to 4294967295");
    u32::deserialize(deserializer).map_err(invalid)
}

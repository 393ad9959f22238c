//! A domain as it is written, before anything is checked that a parser cannot know.

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{Location, Spanned};

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
    /// Not supported, as the two below; read so that the error can say so.
    pub(super) detailed_metric: Option<Spanned<bool>>,
    pub(super) value_to_metric: Option<Spanned<bool>>,
    pub(super) metadata: Option<Spanned<de::IgnoredAny>>,
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

    /// Place and name of a field that upstream knows and we do not.
    pub(super) fn unsupported(&self) -> Option<(Location, &'static str)> {
        let set =
            |field: &Option<Spanned<bool>>, name| Some((field.as_ref().filter(|field| field.value)?.referenced, name));
        set(&self.detailed_metric, "detailed_metric")
            .or_else(|| set(&self.value_to_metric, "value_to_metric"))
            .or_else(|| Some((self.metadata.as_ref()?.referenced, "metadata")))
    }
}

fn requests_per_unit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let invalid = |_| de::Error::custom("requests_per_unit must be a whole number from 0 to 4294967295");
    u32::deserialize(deserializer).map_err(invalid)
}

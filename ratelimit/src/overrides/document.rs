//! An override as it is written.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};

use super::target::{Step, Target};
use crate::config::Change;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Override {
    domain: String,
    descriptor: Vec<Entry>,
    rate_limit: Change,
    #[serde(default, deserialize_with = "timestamp")]
    expires: Option<Timestamp>,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: String,
    /// As the rule has it.
    #[serde(default)]
    value: String,
    /// The only value of requests that the override is for.
    #[serde(rename = "match")]
    matches: Option<String>,
}

impl Override {
    /// Refuses what can never apply. `place` is where it is written.
    pub(super) fn check(self, place: String) -> Result<super::Override, &'static str> {
        let Self { domain, descriptor, rate_limit: change, expires, reason } = self;
        if domain.is_empty() {
            return Err("domain must not be empty");
        }
        if descriptor.is_empty() {
            return Err("descriptor must name the rule: the keys, and values where it has them, from the top");
        }
        if descriptor.iter().any(|entry| entry.key.is_empty()) {
            return Err("descriptor has an empty key");
        }
        let closed = |entry: &Entry| !entry.value.is_empty() && !entry.value.contains('*');
        if descriptor.iter().any(|entry| closed(entry) && entry.matches.is_some()) {
            return Err("match is for a key alone or a value with *; this value matches itself only");
        }
        change.check()?;
        let path = descriptor.into_iter().map(|Entry { key, value, matches }| Step { key, value, matches });
        Ok(super::Override { place, target: Target { domain, path: path.collect() }, change, expires, reason })
    }
}

fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let invalid = |text| de::Error::custom(format!("`{text}` is no time; write it as 2030-01-31T18:00:00Z"));
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(|_| invalid(text))).transpose()
}

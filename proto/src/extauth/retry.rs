//! Requests that are tried again.

use serde::{Deserialize, Serialize};

/// When a request to an authority is sent once more, and when that ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Attempts after the first.
    pub num_retries: u32,
    /// After no connection could be made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub connect_failure: bool,
    /// After an attempt without an answer, too late an answer included. The authority may have acted on it: a code for tokens, for
    /// one, is good only once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// After answers with these statuses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status_codes: Vec<u16>,
    /// Milliseconds that one attempt may take; as many as all of them by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_timeout_ms: Option<u64>,
    /// Milliseconds before the first retry; it doubles with each that follows, and any part of it may be taken.
    #[serde(default = "base_interval")]
    pub base_interval_ms: u64,
    /// The longest such pause in milliseconds.
    #[serde(default = "max_interval")]
    pub max_interval_ms: u64,
}

fn base_interval() -> u64 {
    25
}

fn max_interval() -> u64 {
    250
}

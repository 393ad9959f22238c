//! Requests that another site makes a browser send.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster_settings::Fraction;

/// Requests that change something must come from a page of the host that they go to: `Origin`, or else `Referer`, is compared
/// with the authority, without the scheme.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Csrf {
    /// The share of requests that is only counted and never refused; none when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_fraction: Option<Fraction>,
    /// Other origins whose pages may send such requests, such as `https://*.example.com`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub additional_origins: Vec<String>,
}

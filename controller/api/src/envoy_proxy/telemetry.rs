//! What Envoy tells others about traffic.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Metrics; access logs and tracing are not translated yet.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyTelemetry {
    /// Statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<ProxyMetrics>,
    /// Fields that are not translated, by name.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, Value>,
}

/// Statistics.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyMetrics {
    /// The endpoint that Prometheus scrapes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<ProxyPrometheusProvider>,
    /// Fields that are not translated, by name.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, Value>,
}

/// `/stats/prometheus` on port 19001.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyPrometheusProvider {
    /// There is none.
    #[serde(default)]
    pub disable: bool,
    /// Fields that are not translated, by name.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, Value>,
}

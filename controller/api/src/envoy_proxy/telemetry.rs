//! What Envoy tells others about traffic.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::backend_ref::BackendRef;

/// Metrics; access logs and tracing are checked, but not translated yet.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyTelemetry {
    /// Statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<ProxyMetrics>,
    /// A line for each request or connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<ProxyAccessLog>,
    /// Spans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<ProxyTracing>,
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
    /// Where statistics are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<ProxyMetricSink>,
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

/// Where statistics are sent.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyMetricSink {
    /// Its protocol.
    #[serde(rename = "type")]
    pub kind: MetricSinkType,
    /// For the type of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_telemetry: Option<TelemetryReceiver>,
}

/// The protocol of a sink of metrics.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum MetricSinkType {
    /// OTLP over gRPC
    OpenTelemetry,
}

/// A line for each request or connection.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyAccessLog {
    /// There is none.
    #[serde(default)]
    pub disable: bool,
    /// What is written, and where to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<ProxyAccessLogSetting>,
}

/// One access log.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyAccessLogSetting {
    /// What a line looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ProxyAccessLogFormat>,
    /// Expressions in CEL that must hold for a request to be logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
    /// Where lines go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<ProxyAccessLogSink>,
    /// Fields that are not translated, by name.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, Value>,
}

/// What a line of an access log looks like.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct ProxyAccessLogFormat {
    /// Which of the two is meant; both are where it is unset.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ProxyAccessLogFormatType>,
    /// Text with Envoy's `%COMMANDS%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Fields with such text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<BTreeMap<String, String>>,
}

/// How a line is written.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum ProxyAccessLogFormatType {
    /// As text
    Text,
    /// As an object
    JSON,
}

/// Where the lines of an access log go.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyAccessLogSink {
    /// Which of the others is meant.
    #[serde(rename = "type")]
    pub kind: ProxyAccessLogSinkType,
    /// For the type of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileEnvoyProxyAccessLog>,
    /// For the type of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub als: Option<TelemetryReceiver>,
    /// For the type of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_telemetry: Option<TelemetryReceiver>,
}

/// Who takes the lines of an access log.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum ProxyAccessLogSinkType {
    /// Envoy's access log service
    ALS,
    /// A file of Envoy's
    File,
    /// OTLP over gRPC
    OpenTelemetry,
}

/// A file of Envoy's.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct FileEnvoyProxyAccessLog {
    /// Such as `/dev/stdout`.
    pub path: String,
}

/// Spans.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct ProxyTracing {
    /// Who takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<TelemetryReceiver>,
    /// Fields that are not translated, by name.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, Value>,
}

/// A service that takes what Envoy tells.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TelemetryReceiver {
    /// Where it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// The old spelling for one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<BackendRef>,
    /// Fields that are not translated, by name.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, Value>,
}

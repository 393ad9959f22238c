//! `EnvoyProxy`: how the Envoys of a Gateway or a GatewayClass are run.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Duration, policy::PolicyStatus};

mod bootstrap;
mod provider;
mod telemetry;
mod workload;

pub use bootstrap::{BootstrapType, JsonPatchOperation, JsonPatchOperationType, ProxyBootstrap};
pub use provider::{
    EnvoyProxyKubernetesProvider, EnvoyProxyProvider, EnvoyProxyProviderType, ExternalTrafficPolicy,
    KubernetesHorizontalPodAutoscalerSpec, KubernetesPatchSpec, KubernetesPodDisruptionBudgetSpec,
    KubernetesServiceAccountSpec, KubernetesServiceSpec, PatchType, ServiceType,
};
pub use telemetry::{
    FileEnvoyProxyAccessLog, MetricSinkType, ProxyAccessLog, ProxyAccessLogFormat, ProxyAccessLogFormatType,
    ProxyAccessLogSetting, ProxyAccessLogSink, ProxyAccessLogSinkType, ProxyMetricSink, ProxyMetrics,
    ProxyPrometheusProvider, ProxyTelemetry, ProxyTracing, TelemetryReceiver,
};
pub use workload::{KubernetesContainerSpec, KubernetesDaemonSetSpec, KubernetesDeploymentSpec, KubernetesPodSpec};

/// How Envoys are deployed, exposed, started and stopped. A GatewayClass names it by `parametersRef`, a Gateway by
/// `infrastructure.parametersRef`; the Gateway's wins.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "gateway.envoyproxy.io",
    version = "v1alpha1",
    kind = "EnvoyProxy",
    namespaced,
    shortname = "eproxy",
    category = "envoy-gateway",
    status = "PolicyStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyProxySpec {
    /// How a Gateway's EnvoyProxy combines with that of its class; unset, it replaces that one wholesale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_type: Option<ProxyMergeType>,
    /// Where Envoys run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<EnvoyProxyProvider>,
    /// What Envoy logs about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<ProxyLogging>,
    /// What Envoy tells others about traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<ProxyTelemetry>,
    /// Changes to what Envoy is started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<ProxyBootstrap>,
    /// Worker threads; as many as the container's CPU set has when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i32>,
    /// Added to Envoy's command line as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_args: Vec<String>,
    /// All Gateways of the class share one fleet. Only has an effect on a GatewayClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_gateways: Option<bool>,
    /// How Envoy ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<ShutdownConfig>,
    /// Address families of the listeners and the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family: Option<IpFamily>,
    /// Fields that are not translated, by name. The rest is in force.
    #[serde(flatten)]
    pub unsupported: BTreeMap<String, Value>,
}

/// How an EnvoyProxy combines with a less specific one.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum ProxyMergeType {
    /// It takes the place of the other.
    Replace,
    /// Kubernetes' strategic merge patch: lists with a merge key are combined.
    StrategicMerge,
    /// RFC 7386: lists are replaced.
    JSONMerge,
}

/// What Envoy logs about itself.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyLogging {
    /// A level for each of Envoy's components; `default` is for all others, and is `warn` when unset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub level: BTreeMap<String, LogLevel>,
}

/// The least important lines that are logged.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "Envoy's own words")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
    Off,
}

impl LogLevel {
    /// As Envoy's command line takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Off => "off",
        }
    }
}

/// How an Envoy that is to end lets its connections go.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShutdownConfig {
    /// Longest time that connections are waited for; 60 s when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Duration>,
    /// Shortest time between the begin of draining and the end, for load balancers to notice; 10 s when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_drain_duration: Option<Duration>,
    /// Time between the begin of draining and the moment from which readiness is denied; none when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_failure_delay: Option<Duration>,
}

/// Address families.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "named after what they are")]
pub enum IpFamily {
    IPv4,
    IPv6,
    DualStack,
}

//! Where Envoys run, and how they are reached.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::autoscaling::v2::{HorizontalPodAutoscalerBehavior, MetricSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::workload::{KubernetesDaemonSetSpec, KubernetesDeploymentSpec};

/// Where Envoys run.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyProxyProvider {
    /// On Kubernetes or as processes of this machine.
    #[serde(rename = "type")]
    pub kind: EnvoyProxyProviderType,
    /// Settings of `Kubernetes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Box<EnvoyProxyKubernetesProvider>>,
    /// Settings of `Host`, which standalone mode has as options of its command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Value>,
}

/// Where Envoys run.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum EnvoyProxyProviderType {
    /// As pods.
    #[default]
    Kubernetes,
    /// As processes.
    Host,
}

/// The objects that make up a fleet. Without any of the workloads it is a Deployment.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyProxyKubernetesProvider {
    /// Run as a Deployment. Excludes `envoyDaemonSet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy_deployment: Option<KubernetesDeploymentSpec>,
    /// Run on every node. Excludes `envoyDeployment` and `envoyHpa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy_daemon_set: Option<KubernetesDaemonSetSpec>,
    /// How clients reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy_service: Option<KubernetesServiceSpec>,
    /// Scale with load; none when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy_hpa: Option<KubernetesHorizontalPodAutoscalerSpec>,
    /// How many replicas may be evicted at a time; no budget when unset.
    #[serde(rename = "envoyPDB", default, skip_serializing_if = "Option::is_none")]
    pub envoy_pdb: Option<KubernetesPodDisruptionBudgetSpec>,
    /// Who the pods are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy_service_account: Option<KubernetesServiceAccountSpec>,
    /// Bind the listeners' own ports, privileged ones too, instead of moving those below 1024 up by 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_listener_port_as_container_port: Option<bool>,
}

/// The Service before a fleet.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesServiceSpec {
    /// In place of the fleet's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Added to its metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Added to its metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `LoadBalancer` when unset.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ServiceType>,
    /// Which implementation gives it its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer_class: Option<String>,
    /// Whether a load balancer gets node ports too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// Clients that the load balancer lets in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load_balancer_source_ranges: Vec<String>,
    /// The address that the load balancer is asked for.
    #[serde(rename = "loadBalancerIP", default, skip_serializing_if = "Option::is_none")]
    pub load_balancer_ip: Option<String>,
    /// `Local` when unset: clients' addresses are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Applied to the finished object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<KubernetesPatchSpec>,
}

/// Types of Services.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub enum ServiceType {
    ClusterIP,
    #[default]
    LoadBalancer,
    NodePort,
}

impl ServiceType {
    /// As a Service's spec has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
        }
    }
}

/// Which nodes' replicas a node may send outside traffic to.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// Its own.
    #[default]
    Local,
    /// All.
    Cluster,
}

/// A change to a finished object.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesPatchSpec {
    /// `StrategicMerge` when unset.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<PatchType>,
    /// The part of the object that changes.
    pub value: Value,
}

/// How a patch is merged.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum PatchType {
    /// Lists with a merge key are combined.
    #[default]
    StrategicMerge,
    /// RFC 7386: lists are replaced.
    JSONMerge,
}

/// A HorizontalPodAutoscaler.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesHorizontalPodAutoscalerSpec {
    /// In place of the fleet's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Fewest replicas; 1 when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// Most replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<i32>,
    /// What it goes by; 80 % of the requested CPU when unset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricSpec>,
    /// How fast it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
    /// Applied to the finished object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<KubernetesPatchSpec>,
}

/// A PodDisruptionBudget: one of the two numbers.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesPodDisruptionBudgetSpec {
    /// In place of the fleet's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Replicas that must stay, as a number or in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_available: Option<IntOrString>,
    /// Replicas that may go, as a number or in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// Applied to the finished object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<KubernetesPatchSpec>,
}

/// A ServiceAccount.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesServiceAccountSpec {
    /// In place of the fleet's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

//! How many replicas a fleet has, and how many of them may go at a time.

use k8s_openapi::api::{
    autoscaling::v2::{
        CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
        ResourceMetricSource,
    },
    policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
};

use super::{Error, Fleet, Object, object::finish};

/// Percent of the requested CPU that an autoscaler aims at when it is told nothing.
const CPU_UTILIZATION: i32 = 80;

/// The HorizontalPodAutoscaler, if the EnvoyProxy asks for one.
pub(super) fn autoscaler(fleet: &Fleet) -> Result<Option<Object>, Error> {
    let Some(kubernetes) = fleet.kubernetes() else { return Ok(None) };
    let Some(wanted) = &kubernetes.envoy_hpa else { return Ok(None) };
    let target = kubernetes.envoy_deployment.as_ref().and_then(|deployment| deployment.name.as_ref());
    let metrics = if wanted.metrics.is_empty() { vec![cpu()] } else { wanted.metrics.clone() };
    let spec = HorizontalPodAutoscalerSpec {
        scale_target_ref: CrossVersionObjectReference {
            api_version: Some("apps/v1".into()),
            kind: "Deployment".into(),
            name: target.unwrap_or(&fleet.name).clone(),
        },
        min_replicas: wanted.min_replicas,
        max_replicas: wanted.max_replicas.unwrap_or(1),
        metrics: Some(metrics),
        behavior: wanted.behavior.clone(),
    };
    let metadata = fleet.metadata(wanted.name.as_ref());
    let autoscaler = HorizontalPodAutoscaler { metadata, spec, ..Default::default() };
    finish(&autoscaler, wanted.patch.as_ref()).map(Some)
}

fn cpu() -> MetricSpec {
    let target =
        MetricTarget { type_: "Utilization".into(), average_utilization: Some(CPU_UTILIZATION), ..Default::default() };
    let resource = ResourceMetricSource { name: "cpu".into(), target };
    MetricSpec { type_: "Resource".into(), resource: Some(resource), ..Default::default() }
}

/// The PodDisruptionBudget, if the EnvoyProxy asks for one.
pub(super) fn disruption_budget(fleet: &Fleet) -> Result<Option<Object>, Error> {
    let Some(wanted) = fleet.kubernetes().and_then(|kubernetes| kubernetes.envoy_pdb.as_ref()) else {
        return Ok(None);
    };
    let spec = PodDisruptionBudgetSpec {
        min_available: wanted.min_available.clone(),
        max_unavailable: wanted.max_unavailable.clone(),
        selector: Some(fleet.selector()),
        ..Default::default()
    };
    let metadata = fleet.metadata(wanted.name.as_ref());
    let budget = PodDisruptionBudget { metadata, spec: Some(spec), ..Default::default() };
    finish(&budget, wanted.patch.as_ref()).map(Some)
}

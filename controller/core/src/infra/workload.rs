//! The Deployment or DaemonSet of a fleet.

use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, Deployment, DeploymentSpec, DeploymentStrategy,
};

use super::{Error, Fleet, Object, object::finish, pod};
use crate::Settings;

impl Fleet {
    /// Kind and name of what runs its Envoys.
    pub fn workload(&self) -> (&'static str, &str) {
        let kubernetes = self.kubernetes();
        if let Some(wanted) = kubernetes.and_then(|kubernetes| kubernetes.envoy_daemon_set.as_ref()) {
            return ("DaemonSet", wanted.name.as_deref().unwrap_or(&self.name));
        }
        let deployment = kubernetes.and_then(|kubernetes| kubernetes.envoy_deployment.as_ref());
        ("Deployment", deployment.and_then(|wanted| wanted.name.as_deref()).unwrap_or(&self.name))
    }
}

/// What runs the fleet's Envoys.
pub(super) fn workload(fleet: &Fleet, settings: &Settings) -> Result<Object, Error> {
    match fleet.workload().0 {
        "DaemonSet" => daemon_set(fleet, settings),
        _ => deployment(fleet, settings),
    }
}

fn deployment(fleet: &Fleet, settings: &Settings) -> Result<Object, Error> {
    let wanted = fleet.kubernetes().and_then(|kubernetes| kubernetes.envoy_deployment.clone()).unwrap_or_default();
    let autoscaled = fleet.kubernetes().is_some_and(|kubernetes| kubernetes.envoy_hpa.is_some());
    let rolling = DeploymentStrategy { type_: Some("RollingUpdate".into()), ..Default::default() };
    let (pod, container) = (wanted.pod.unwrap_or_default(), wanted.container.unwrap_or_default());
    let mut template = pod::template(fleet, settings, &pod, &container)?;
    if let Some(spec) = template.spec.as_mut().filter(|_| !wanted.init_containers.is_empty()) {
        spec.init_containers = Some(wanted.init_containers);
    }
    let spec = DeploymentSpec {
        // An autoscaler owns the field from then on; a value of ours would undo its doings.
        replicas: (!autoscaled).then(|| wanted.replicas.unwrap_or(1)),
        strategy: Some(wanted.strategy.unwrap_or(rolling)),
        selector: fleet.selector(),
        template,
        revision_history_limit: Some(10),
        progress_deadline_seconds: Some(600),
        ..Default::default()
    };
    let metadata = fleet.metadata(wanted.name.as_ref());
    finish(&Deployment { metadata, spec: Some(spec), ..Default::default() }, wanted.patch.as_ref())
}

fn daemon_set(fleet: &Fleet, settings: &Settings) -> Result<Object, Error> {
    let wanted = fleet.kubernetes().and_then(|kubernetes| kubernetes.envoy_daemon_set.clone()).unwrap_or_default();
    let rolling = DaemonSetUpdateStrategy { type_: Some("RollingUpdate".into()), ..Default::default() };
    let (pod, container) = (wanted.pod.unwrap_or_default(), wanted.container.unwrap_or_default());
    let spec = DaemonSetSpec {
        selector: fleet.selector(),
        template: pod::template(fleet, settings, &pod, &container)?,
        update_strategy: Some(wanted.strategy.unwrap_or(rolling)),
        revision_history_limit: Some(10),
        ..Default::default()
    };
    let metadata = fleet.metadata(wanted.name.as_ref());
    finish(&DaemonSet { metadata, spec: Some(spec), ..Default::default() }, wanted.patch.as_ref())
}

//! The pods of a fleet: Envoy, and beside it the container that ends it gracefully.

use std::collections::BTreeMap;

use controller_api::envoy_proxy::{KubernetesContainerSpec, KubernetesPodSpec};
use k8s_openapi::{
    api::core::v1::{
        ConfigMapVolumeSource, KeyToPath, PodSpec, PodTemplateSpec, ProjectedVolumeSource, SecretVolumeSource,
        ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeProjection,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Error, Fleet, Object, args, bootstrap, object::finish, sds};
use crate::Settings;

mod container;

/// Mode of the files in volumes: 0644.
const FILE_MODE: i32 = 420;
/// Seconds that a pod may take to end beyond the time that draining may take.
const GRACE_SECONDS: u64 = 300;

impl Fleet {
    /// Name of its ServiceAccount.
    pub fn service_account_name(&self) -> &str {
        let wanted =
            self.kubernetes().and_then(|kubernetes| kubernetes.envoy_service_account.as_ref()?.name.as_deref());
        wanted.unwrap_or(&self.name)
    }
}

/// Who the pods are. They get no token of it unless they need one.
pub(super) fn service_account(fleet: &Fleet) -> Result<Object, Error> {
    let metadata = fleet.metadata(Some(&fleet.service_account_name().to_owned()));
    let account =
        ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() };
    finish(&account, None)
}

/// The pods of a Deployment or DaemonSet.
pub(super) fn template(
    fleet: &Fleet,
    settings: &Settings,
    pod: &KubernetesPodSpec,
    container: &KubernetesContainerSpec,
) -> Result<PodTemplateSpec, Error> {
    let spec = PodSpec {
        containers: vec![container::envoy(fleet, settings, container)?, container::shutdown_manager(fleet, settings)],
        service_account_name: Some(fleet.service_account_name().to_owned()),
        automount_service_account_token: Some(false),
        termination_grace_period_seconds: Some(grace_seconds(fleet)),
        dns_policy: Some("ClusterFirst".into()),
        restart_policy: Some("Always".into()),
        scheduler_name: Some("default-scheduler".into()),
        security_context: pod.security_context.clone(),
        affinity: pod.affinity.clone(),
        tolerations: some(&pod.tolerations),
        volumes: Some(named(volumes(fleet, settings), &pod.volumes, |volume| &volume.name)),
        image_pull_secrets: some(&pod.image_pull_secrets),
        node_selector: (!pod.node_selector.is_empty()).then(|| pod.node_selector.clone()),
        topology_spread_constraints: some(&pod.topology_spread_constraints),
        priority_class_name: pod.priority_class_name.clone(),
        ..Default::default()
    };
    Ok(PodTemplateSpec { metadata: Some(metadata(fleet, pod)), spec: Some(spec) })
}

fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// `ours` with `theirs`, which replace those with the same name.
fn named<T: Clone>(ours: Vec<T>, theirs: &[T], name: impl Fn(&T) -> &str) -> Vec<T> {
    let mut all = ours;
    all.retain(|one| theirs.iter().all(|other| name(other) != name(one)));
    all.extend(theirs.iter().cloned());
    all
}

fn grace_seconds(fleet: &Fleet) -> i64 {
    i64::try_from(args::drain_seconds(&fleet.placement.config) + GRACE_SECONDS).unwrap_or(i64::MAX)
}

fn metadata(fleet: &Fleet, pod: &KubernetesPodSpec) -> ObjectMeta {
    let mut labels = pod.labels.clone();
    labels.extend(fleet.labels.clone());
    let mut annotations = BTreeMap::new();
    if bootstrap::scraped(&fleet.placement.config) {
        let scrape = [
            ("prometheus.io/path", "/stats/prometheus"),
            ("prometheus.io/port", "19001"),
            ("prometheus.io/scrape", "true"),
        ];
        annotations.extend(scrape.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    annotations.extend(fleet.annotations.clone());
    annotations.extend(pod.annotations.clone());
    ObjectMeta {
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..Default::default()
    }
}

/// The certificates, and the files that tell Envoy of them.
fn volumes(fleet: &Fleet, settings: &Settings) -> Vec<Volume> {
    let files = |names: &[&str]| ConfigMapVolumeSource {
        name: fleet.name.clone(),
        items: Some(names.iter().copied().map(key_to_path).collect()),
        default_mode: Some(FILE_MODE),
        optional: Some(false),
    };
    let map = |name: &str, files| Volume { name: name.into(), config_map: Some(files), ..Default::default() };
    let token = settings.credentials().has_token();
    let mut sds_files = vec![sds::TRUSTED_CA];
    sds_files.extend(settings.credentials().has_certificate().then_some(sds::CERTIFICATE));
    sds_files.extend(token.then_some(sds::TOKEN));
    let certificates = if settings.gateway_namespace_mode {
        map("certs", files(&[sds::AUTHORITIES]))
    } else {
        let secret = SecretVolumeSource {
            secret_name: Some("envoy".into()),
            default_mode: Some(FILE_MODE),
            ..Default::default()
        };
        Volume { name: "certs".into(), secret: Some(secret), ..Default::default() }
    };
    token.then(|| token_volume(settings)).into_iter().chain([certificates, map("sds", files(&sds_files))]).collect()
}

/// The pod's token, for the control plane only.
fn token_volume(settings: &Settings) -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(settings.controller_host()),
        expiration_seconds: Some(3600),
        path: "sa-token".into(),
    };
    let projection = VolumeProjection { service_account_token: Some(token), ..Default::default() };
    let token = ProjectedVolumeSource { sources: Some(vec![projection]), default_mode: Some(FILE_MODE) };
    Volume { name: "sa-token".into(), projected: Some(token), ..Default::default() }
}

fn key_to_path(name: &str) -> KeyToPath {
    KeyToPath { key: name.into(), path: name.into(), mode: None }
}

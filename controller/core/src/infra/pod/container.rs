//! The two containers of a fleet's pods.

use controller_api::envoy_proxy::KubernetesContainerSpec;
use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Lifecycle, LifecycleHandler,
        ObjectFieldSelector, Probe, ResourceRequirements, SeccompProfile, SecurityContext, VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};

use super::{
    super::{Error, Fleet, args, bootstrap},
    named, some,
};
use crate::Settings;

const STATISTICS_PORT: i32 = 19001;
const SHUTDOWN_PORT: i32 = 19002;
const READY_PORT: i32 = 19003;
/// User and group that own nothing.
const NOBODY: i64 = 65532;

/// Envoy.
pub(super) fn envoy(fleet: &Fleet, settings: &Settings, wanted: &KubernetesContainerSpec) -> Result<Container, Error> {
    let resources = wanted.resources.clone().unwrap_or_else(|| requests("100m", "512Mi"));
    let limit = resources.limits.as_ref().and_then(|limits| bytes(limits.get("memory")?));
    let port = |name: &str, number| ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..Default::default()
    };
    let statistics = bootstrap::scraped(&fleet.placement.config).then(|| port("metrics", STATISTICS_PORT));
    let end = LifecycleHandler { http_get: Some(get("/shutdown/ready", SHUTDOWN_PORT)), ..Default::default() };
    let mounts = named(mounts(settings), &wanted.volume_mounts, |mount| &mount.mount_path);
    Ok(Container {
        name: "envoy".into(),
        image: Some(image(settings, wanted)),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(vec!["envoy".into()]),
        args: Some(args::envoy(fleet, settings, limit)?),
        env: Some(named(environment(), &wanted.env, |variable| &variable.name)),
        ports: Some(statistics.into_iter().chain([port("readiness", READY_PORT)]).collect()),
        resources: Some(resources),
        security_context: Some(wanted.security_context.clone().unwrap_or_else(unprivileged)),
        volume_mounts: some(&mounts),
        startup_probe: Some(probe("/ready", READY_PORT, 10, 30)),
        readiness_probe: Some(probe("/ready", READY_PORT, 5, 1)),
        liveness_probe: Some(probe("/ready", READY_PORT, 10, 3)),
        lifecycle: Some(Lifecycle { pre_stop: Some(end), ..Default::default() }),
        termination_message_path: Some("/dev/termination-log".into()),
        termination_message_policy: Some("File".into()),
        ..Default::default()
    })
}

fn image(settings: &Settings, wanted: &KubernetesContainerSpec) -> String {
    match (&wanted.image, &wanted.image_repository) {
        (Some(image), _) => image.clone(),
        (None, Some(repository)) => {
            let tag = settings.envoy_image.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            format!("{repository}:{tag}")
        }
        (None, None) => settings.envoy_image.clone(),
    }
}

/// The container that Envoy's end waits for: it drains Envoy when the pod is to end.
pub(super) fn shutdown_manager(fleet: &Fleet, settings: &Settings) -> Container {
    let read_only = SecurityContext { read_only_root_filesystem: Some(true), ..unprivileged() };
    Container {
        name: "shutdown-manager".into(),
        image: Some(settings.controller_image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        args: Some(args::shutdown_manager(&fleet.placement.config)),
        env: Some(environment()),
        resources: Some(requests("10m", "32Mi")),
        security_context: Some(read_only),
        startup_probe: Some(probe("/healthz", SHUTDOWN_PORT, 10, 30)),
        readiness_probe: Some(probe("/healthz", SHUTDOWN_PORT, 10, 3)),
        liveness_probe: Some(probe("/healthz", SHUTDOWN_PORT, 10, 3)),
        termination_message_path: Some("/dev/termination-log".into()),
        termination_message_policy: Some("File".into()),
        ..Default::default()
    }
}

fn requests(cpu: &str, memory: &str) -> ResourceRequirements {
    let quantities = [("cpu", cpu), ("memory", memory)];
    let requests = quantities.map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned())));
    ResourceRequirements { requests: Some(requests.into()), ..Default::default() }
}

/// A quantity of memory in bytes, fractions rounded down; `None` when it is no quantity.
fn bytes(quantity: &Quantity) -> Option<u64> {
    let text = quantity.0.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (mantissa, exponent) = match suffix.strip_prefix(['e', 'E']).and_then(|exponent| exponent.parse::<i32>().ok()) {
        Some(exponent) => ("", Some(10_f64.powi(exponent))),
        None => (suffix, None),
    };
    let factor = match (mantissa, exponent) {
        (_, Some(factor)) => factor,
        ("", None) => 1.0,
        ("m", None) => 1e-3,
        ("k", None) => 1e3,
        ("M", None) => 1e6,
        ("G", None) => 1e9,
        ("T", None) => 1e12,
        ("Ki", None) => 1024.0,
        ("Mi", None) => 1024.0 * 1024.0,
        ("Gi", None) => 1024.0 * 1024.0 * 1024.0,
        ("Ti", None) => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * factor;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded down, and digits have no sign"
    )]
    (1.0..1e18).contains(&bytes).then_some(bytes as u64)
}

fn environment() -> Vec<EnvVar> {
    let field = |name: &str, path: &str| {
        let field_ref = ObjectFieldSelector { api_version: Some("v1".into()), field_path: path.into() };
        let source = EnvVarSource { field_ref: Some(field_ref), ..Default::default() };
        EnvVar { name: name.into(), value_from: Some(source), ..Default::default() }
    };
    vec![
        field("ENVOY_POD_NAMESPACE", "metadata.namespace"),
        // Kubernetes puts the node's zone there from 1.35 on; empty without it.
        field("ENVOY_SERVICE_ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
        field("ENVOY_POD_NAME", "metadata.name"),
    ]
}

fn mounts(settings: &Settings) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..Default::default()
    };
    let token = settings.credentials().has_token().then(|| mount("sa-token", "/var/run/secrets/token", true));
    [mount("certs", "/certs", true), mount("sds", "/sds", false)].into_iter().chain(token).collect()
}

fn unprivileged() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        privileged: Some(false),
        run_as_group: Some(NOBODY),
        run_as_user: Some(NOBODY),
        run_as_non_root: Some(true),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..Default::default()
    }
}

fn get(path: &str, port: i32) -> HTTPGetAction {
    HTTPGetAction {
        path: Some(path.into()),
        port: IntOrString::Int(port),
        scheme: Some("HTTP".into()),
        ..Default::default()
    }
}

fn probe(path: &str, port: i32, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(get(path, port)),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        success_threshold: Some(1),
        timeout_seconds: Some(1),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_memory_are_read() {
        let cases = [
            ("1Gi", Some(1 << 30)),
            ("512Mi", Some(512 << 20)),
            ("1.5Gi", Some(3 << 29)),
            ("129e6", Some(129_000_000)),
            ("128974848", Some(128_974_848)),
            ("128974848000m", Some(128_974_848)),
            ("1G", Some(1_000_000_000)),
            ("0", None),
            ("-1Gi", None),
            ("lots", None),
            ("1e400", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(&Quantity(text.into())), expected, "{text}");
        }
    }
}

//! The kinds that fleets are made of.

use kube::api::ApiResource;

/// A kind that fleets are made of.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Group of its API; empty for the core group.
    pub group: &'static str,
    /// Version of its API.
    pub version: &'static str,
    /// As written in a manifest.
    pub name: &'static str,
    /// As in the API server's paths, and in the rules of a role.
    pub plural: &'static str,
}

/// All of them; those that others hang on come last when they are deleted.
pub const KINDS: [Kind; 7] = [
    kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    kind("", "v1", "Service", "services"),
    kind("apps", "v1", "Deployment", "deployments"),
    kind("apps", "v1", "DaemonSet", "daemonsets"),
    kind("", "v1", "ConfigMap", "configmaps"),
    kind("", "v1", "ServiceAccount", "serviceaccounts"),
];

const fn kind(group: &'static str, version: &'static str, name: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, name, plural }
}

impl Kind {
    /// The kind that a manifest calls `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// As the client needs it.
    pub(super) fn resource(&self) -> ApiResource {
        let separator = if self.group.is_empty() { "" } else { "/" };
        ApiResource {
            group: self.group.into(),
            version: self.version.into(),
            api_version: format!("{}{separator}{}", self.group, self.version),
            kind: self.name.into(),
            plural: self.plural.into(),
        }
    }
}

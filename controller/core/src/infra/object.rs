//! One Kubernetes object of a fleet.

use controller_api::envoy_proxy::{EnvoyProxyKubernetesProvider, KubernetesPatchSpec};
use k8s_openapi::{
    Metadata,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{APP, Fleet, OWNING, patch};

/// An object as it is applied: only what we have an opinion on.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Such as `apps/v1`.
    pub api_version: &'static str,
    /// Such as `Deployment`.
    pub kind: &'static str,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// All of it.
    pub value: Value,
}

/// Why an EnvoyProxy makes no fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A patch does not leave a valid object.
    #[error("the patch of the {kind} does not leave a valid {kind}: {cause}")]
    Patch {
        /// Kind of the object.
        kind: &'static str,
        /// What is wrong with the result.
        cause: String,
    },
    /// A patch changes what tells our objects from others.
    #[error("the patch of the {kind} must not change {field}")]
    Identity {
        /// Kind of the object.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The bootstrap cannot be what the EnvoyProxy says.
    #[error("bootstrap: {0}")]
    Bootstrap(String),
    /// Our own object cannot be written down.
    #[error("rendering the {kind}: {cause}")]
    Render {
        /// Kind of the object.
        kind: &'static str,
        /// What is wrong with it.
        cause: String,
    },
}

impl Fleet {
    /// What the EnvoyProxy says about Kubernetes.
    pub(super) fn kubernetes(&self) -> Option<&EnvoyProxyKubernetesProvider> {
        self.placement.config.provider.as_ref()?.kubernetes.as_deref()
    }

    /// Metadata of an object of this fleet, which is called like the fleet unless the EnvoyProxy says otherwise.
    pub(super) fn metadata(&self, name: Option<&String>) -> ObjectMeta {
        let owner = self.placement.owner.as_ref().map(|owner| OwnerReference {
            api_version: "gateway.networking.k8s.io/v1".into(),
            kind: owner.kind.into(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            ..Default::default()
        });
        ObjectMeta {
            name: Some(name.unwrap_or(&self.name).clone()),
            namespace: Some(self.placement.namespace.clone()),
            labels: Some(self.labels.clone()),
            annotations: (!self.annotations.is_empty()).then(|| self.annotations.clone()),
            owner_references: owner.map(|owner| vec![owner]),
            ..Default::default()
        }
    }

    /// Selects the pods of this fleet, whatever else the Gateway labels them with.
    pub(super) fn selector(&self) -> LabelSelector {
        let ours = |key: &str| OWNING.contains(&key) || APP.iter().any(|(app, _)| *app == key);
        let labels = self.labels.iter().filter(|(key, _)| ours(key));
        LabelSelector {
            match_labels: Some(labels.map(|(key, value)| (key.clone(), value.clone())).collect()),
            ..Default::default()
        }
    }
}

/// The finished object: patched, and checked to still be one of its kind and ours.
pub(super) fn finish<T>(typed: &T, change: Option<&KubernetesPatchSpec>) -> Result<Object, Error>
where
    T: Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned,
{
    let (kind, api_version) = (T::KIND, T::API_VERSION);
    let mut value = serde_json::to_value(typed).map_err(|error| Error::Render { kind, cause: error.to_string() })?;
    if let Some(change) = change {
        patch::apply(&mut value, change);
        let patched = T::deserialize(&value).map_err(|error| Error::Patch { kind, cause: error.to_string() })?;
        check_identity(kind, typed.metadata(), patched.metadata())?;
    }
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Object { api_version, kind, namespace: text("/metadata/namespace"), name: text("/metadata/name"), value })
}

fn check_identity(kind: &'static str, before: &ObjectMeta, after: &ObjectMeta) -> Result<(), Error> {
    let label = |metadata: &ObjectMeta, key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
    let ours = APP.iter().map(|(key, _)| *key).chain(OWNING);
    let fields = [
        ("metadata.namespace", before.namespace == after.namespace),
        ("metadata.name", before.name == after.name),
        ("metadata.ownerReferences", before.owner_references == after.owner_references),
        ("the labels that say whose it is", ours.into_iter().all(|key| label(before, key) == label(after, key))),
    ];
    match fields.into_iter().find(|(_, same)| !same) {
        Some((field, _)) => Err(Error::Identity { kind, field }),
        None => Ok(()),
    }
}

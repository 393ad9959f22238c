//! The API server of a test, and the world in it.

use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::world::{self, World};

/// Objects that are written at the same time.
const AT_ONCE: usize = 16;

/// What the API server refuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file does not say how to reach one.
    #[error("reading the kubeconfig")]
    Kubeconfig(#[from] KubeconfigError),
    /// Anything else.
    #[error("asking the API server: {0}")]
    Api(#[from] kube::Error),
}

pub(super) struct Cluster {
    client: Client,
}

impl Cluster {
    pub(super) async fn connect(kubeconfig: &Path) -> Result<Self, Error> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)? })
    }

    /// Writes the whole world.
    pub(super) async fn fill(&self, world: World) -> Result<(), Error> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world::NAMESPACE}});
        self.apply(&namespace).await?;
        for object in World::shared() {
            self.apply(&object).await?;
        }
        let written = stream::iter(world.objects()).map(|object| async move { self.apply(&object).await });
        written.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Does what `kubectl apply --server-side` does.
    pub(super) async fn apply(&self, object: &Value) -> Result<(), Error> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = text("/apiVersion").rsplit_once('/').unwrap_or(("", text("/apiVersion")));
        let kind = kube::core::GroupVersionKind::gvk(group, version, text("/kind"));
        let resource = ApiResource::from_gvk_with_plural(&kind, &plural(text("/kind")));
        let api: Api<DynamicObject> = match text("/metadata/namespace") {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        let mut object = object.clone();
        if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            // The API server's own.
            for field in ["generation", "resourceVersion", "creationTimestamp"] {
                metadata.remove(field);
            }
        }
        let parameters = PatchParams::apply("loadtest").force();
        api.patch(text("/metadata/name"), &parameters, &Patch::Apply(&object)).await?;
        Ok(())
    }
}

/// As in the URL.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with('a') => format!("{stem}ies"),
        _ if kind.ends_with("ss") => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

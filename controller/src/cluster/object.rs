//! Objects as the API server sends them, made ready for a snapshot.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use controller_core::{ir::ObjectRef, snapshot::Kind};
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};

/// Kinds of these groups have statuses that controllers write, which are no input.
pub(crate) const REPORTED: [&str; 2] = ["gateway.networking.k8s.io", "gateway.envoyproxy.io"];
/// What `kubectl apply` notes for itself is as large as the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One object of one kind.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) reference: ObjectRef,
    /// `metadata.resourceVersion`.
    pub(super) version: String,
    /// `metadata.generation`.
    pub(super) generation: Option<i64>,
    /// A manifest without what changes with every write.
    pub(super) manifest: Value,
    pub(super) status: Option<Value>,
}

impl Object {
    /// `None` for one without a name, which no API server sends.
    pub(super) fn new(kind: &'static Kind, resource: &ApiResource, object: DynamicObject) -> Option<Self> {
        let DynamicObject { mut metadata, data: Value::Object(mut manifest), .. } = object else { return None };
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let reference = ObjectRef { kind: kind.name, namespace, name: metadata.name.clone()? };
        let (version, generation) = (metadata.resource_version.take().unwrap_or_default(), metadata.generation);
        metadata.managed_fields = None;
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove(LAST_APPLIED);
        }
        let status = if REPORTED.contains(&kind.group) { manifest.remove("status") } else { None };
        if kind.name == "Node" {
            // The rest of it changes all the time.
            let addresses = manifest.get("status").and_then(|status| status.get("addresses")).cloned();
            manifest.insert("status".into(), json!({"addresses": addresses.unwrap_or_else(|| json!([]))}));
        }
        // Lists of the API's own kinds do not repeat these in each item.
        manifest.insert("apiVersion".into(), json!(resource.api_version));
        manifest.insert("kind".into(), json!(kind.name));
        manifest.insert("metadata".into(), serde_json::to_value(&metadata).ok()?);
        Some(Self { reference, version, generation, manifest: manifest.into(), status })
    }
}

/// Tells contents apart within this process.
#[derive(Debug, Default)]
pub(super) struct Fingerprints(RandomState);

impl Fingerprints {
    /// Of a JSON value; equal for equal ones.
    pub(super) fn of(&self, value: &Value) -> u64 {
        let mut hasher = self.0.build_hasher();
        hash(value, &mut hasher);
        hasher.finish()
    }
}

fn hash(value: &Value, hasher: &mut impl Hasher) {
    match value {
        Value::Null => 0_u8.hash(hasher),
        Value::Bool(value) => (1_u8, value).hash(hasher),
        Value::Number(number) => (2_u8, number.to_string()).hash(hasher),
        Value::String(text) => (3_u8, text).hash(hasher),
        Value::Array(items) => {
            (4_u8, items.len()).hash(hasher);
            for item in items {
                hash(item, hasher);
            }
        }
        Value::Object(fields) => {
            (5_u8, fields.len()).hash(hasher);
            for (name, value) in fields {
                name.hash(hasher);
                hash(value, hasher);
            }
        }
    }
}

//! Changes to the configuration that Envoy is started with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Replaces, merges into or patches the bootstrap.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyBootstrap {
    /// What to do with it.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<BootstrapType>,
    /// YAML of an `envoy.config.bootstrap.v3.Bootstrap`, for `Replace` and `Merge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Operations, for `JSONPatch`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub json_patches: Vec<JsonPatchOperation>,
}

/// What is done with the value of a [`ProxyBootstrap`].
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum BootstrapType {
    /// It takes the place of ours.
    #[default]
    Replace,
    /// Merged as protobuf messages are: single fields are replaced, lists are joined.
    Merge,
    /// Operations on the JSON form.
    JSONPatch,
}

/// One operation of RFC 6902.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JsonPatchOperation {
    /// What is done.
    pub op: JsonPatchOperationType,
    /// JSON pointer to where it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// JSONPath to every place where it is done. Not translated yet: a patch that sets it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_path: Option<String>,
    /// JSON pointer to where `move` and `copy` take from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What `add`, `replace` and `test` put or expect there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// Operations of RFC 6902.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the RFC's own words")]
pub enum JsonPatchOperationType {
    Add,
    Remove,
    Replace,
    Move,
    Copy,
    Test,
}

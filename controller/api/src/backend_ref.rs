//! References from a policy to what answers for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Service, `ServiceImport` or Backend that a policy talks to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// API group; empty for a Service.
    #[serde(default)]
    pub group: String,
    /// `Service`, `ServiceImport` or `Backend`.
    #[serde(default = "service")]
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// The policy's own when unset; another one needs a ReferenceGrant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Required for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Share relative to its siblings, 1 when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Used only when the others are down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<bool>,
}

fn service() -> String {
    "Service".into()
}

/// A Secret.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `Secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `metadata.name`.
    pub name: String,
    /// The policy's own when unset; another one needs a ReferenceGrant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// An object in the policy's own namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalObjectRef {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Such as `ConfigMap`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
}

/// One key of a ConfigMap or Secret in the policy's own namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalObjectKeyRef {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// `ConfigMap` or `Secret`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// Key within `data`.
    pub key: String,
}

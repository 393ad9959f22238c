//! `Backend`: where requests go, beyond Services.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Endpoints that a route or policy can name as a backendRef.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "gateway.envoyproxy.io",
    version = "v1alpha1",
    kind = "Backend",
    namespaced,
    shortname = "be",
    category = "envoy-gateway",
    status = "BackendStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct BackendSpec {
    /// How endpoints are found.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<BackendType>,
    /// Fixed addresses or host names; the two kinds must not be mixed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub endpoints: Vec<BackendEndpoint>,
    /// Protocols that the endpoints speak: `gateway.envoyproxy.io/h2c`, `…/ws`, `…/wss`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_protocols: Vec<String>,
    /// Takes traffic only when the other backends of a rule are down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<bool>,
    /// How to speak TLS with the endpoints. Not translated yet: a Backend that sets it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Value>,
}

/// How the endpoints of a Backend are found.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum BackendType {
    /// They are listed.
    #[default]
    Endpoints,
    /// Each request's host is resolved. Not translated yet.
    DynamicResolver,
}

/// Exactly one of `fqdn`, `ip` and `unix`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendEndpoint {
    /// A host name that Envoy resolves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<FqdnEndpoint>,
    /// An address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpEndpoint>,
    /// A unix socket beside Envoy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix: Option<UnixSocket>,
    /// Name for health checks and TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Zone it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A host name and port.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FqdnEndpoint {
    /// DNS name.
    pub hostname: String,
    /// TCP port.
    pub port: u16,
}

/// An IPv4 or IPv6 address and port.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpEndpoint {
    /// Without brackets.
    pub address: String,
    /// TCP port.
    pub port: u16,
}

/// A unix socket.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnixSocket {
    /// At most 108 bytes.
    #[schemars(length(max = 108))]
    pub path: String,
}

/// Whether a Backend can be used.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// `Accepted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

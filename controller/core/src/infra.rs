//! What has to run so that a proxy's configuration has an Envoy to go to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ir;

/// One Envoy fleet, as it is provisioned or, standalone, started as a child process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    /// Name of its Deployment and Service, `envoy-<gateway's namespace>-<gateway>-<hash>`.
    pub name: String,
    /// Labels on everything that belongs to it, the Gateway's `infrastructure.labels` included.
    pub labels: BTreeMap<String, String>,
    /// The Gateway's `infrastructure.annotations`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// One for each port of the Gateway that has a valid listener.
    pub ports: Vec<Port>,
}

/// A port of the fleet's Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Such as `http-80`.
    pub name: String,
    /// As clients see it.
    pub port: u16,
    /// As Envoy binds it.
    pub target_port: u16,
}

/// The name of the fleet that serves the Gateway `namespace`/`name`; never longer than a DNS label.
pub fn fleet_name(namespace: &str, name: &str) -> String {
    use sha2::{Digest, Sha256};
    let full = format!("{namespace}/{name}");
    let digest = Sha256::digest(&full);
    let hash = digest.iter().take(4).fold(0_u32, |hash, byte| hash << 8 | u32::from(*byte));
    let readable: String = full.replace('/', "-").chars().take(48).collect();
    format!("envoy-{readable}-{hash:08x}")
}

/// The fleet for `proxy`, with the labels and annotations of its Gateway's `infrastructure`.
pub fn fleet(proxy: &ir::Proxy, labels: BTreeMap<String, String>, annotations: BTreeMap<String, String>) -> Fleet {
    let gateway = &proxy.gateway;
    let own = [
        ("app.kubernetes.io/name", "envoy"),
        ("app.kubernetes.io/component", "proxy"),
        ("app.kubernetes.io/managed-by", "envoy-gateway"),
        ("gateway.envoyproxy.io/owning-gateway-namespace", gateway.namespace.as_str()),
        ("gateway.envoyproxy.io/owning-gateway-name", gateway.name.as_str()),
    ];
    let mut labels = labels;
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let mut ports: Vec<Port> = Vec::new();
    for listener in &proxy.http {
        if ports.iter().all(|port| port.port != listener.gateway_port) {
            let port = listener.gateway_port;
            ports.push(Port { name: format!("http-{port}"), port, target_port: listener.port });
        }
    }
    Fleet { name: fleet_name(&gateway.namespace, &gateway.name), labels, annotations, ports }
}

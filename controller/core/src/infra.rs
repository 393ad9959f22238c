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
    /// Such as `https-443`.
    pub name: String,
    /// `TCP` or `UDP`.
    #[serde(skip_serializing_if = "Transport::is_tcp")]
    pub protocol: Transport,
    /// As clients see it.
    pub port: u16,
    /// As Envoy binds it.
    pub target_port: u16,
}

/// What carries a port's traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// Also below HTTP and TLS.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

impl Transport {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
    fn is_tcp(&self) -> bool {
        *self == Self::Tcp
    }
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
    Fleet { name: fleet_name(&gateway.namespace, &gateway.name), labels, annotations, ports: ports(proxy) }
}

/// One for each number and transport, named after the first listener there.
fn ports(proxy: &ir::Proxy) -> Vec<Port> {
    let http = proxy.http.iter().map(|listener| {
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        (scheme, Transport::Tcp, listener.gateway_port, listener.port)
    });
    let tcp = proxy.tcp.iter().map(|listener| {
        let scheme = if listener.tls.is_some() { "tls" } else { "tcp" };
        (scheme, Transport::Tcp, listener.gateway_port, listener.port)
    });
    let udp = proxy.udp.iter().map(|listener| ("udp", Transport::Udp, listener.gateway_port, listener.port));
    let mut ports: Vec<Port> = Vec::new();
    for (scheme, protocol, port, target_port) in http.chain(tcp).chain(udp) {
        if ports.iter().all(|known| (known.port, known.protocol) != (port, protocol)) {
            ports.push(Port { name: format!("{scheme}-{port}"), protocol, port, target_port });
        }
    }
    ports
}

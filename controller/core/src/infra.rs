//! What has to run so that a proxy's configuration has an Envoy to go to.

use std::{collections::BTreeMap, sync::Arc};

use controller_api::envoy_proxy::EnvoyProxySpec;
use serde::Serialize;

use crate::{Settings, ir};

mod args;
mod autoscaling;
mod bootstrap;
mod object;
mod patch;
mod pod;
mod sds;
mod service;
mod workload;

pub use object::{Error, Object};

/// Name of the rate limit service's Deployment and Service.
pub const RATE_LIMIT: &str = "envoy-ratelimit";
/// Name of the authorization service's Deployment and Service.
pub const EXTAUTH: &str = "envoy-extauth";

/// One Envoy fleet, as it is provisioned or, standalone, started as a child process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    /// Name of its Deployment and Service, `envoy-<gateway's namespace>-<gateway>-<hash>` or `envoy-<class>-<hash>`.
    pub name: String,
    /// Labels on everything that belongs to it, the Gateway's `infrastructure.labels` included.
    pub labels: BTreeMap<String, String>,
    /// The Gateway's `infrastructure.annotations`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// One for each number and transport of valid listeners, named after the first one there.
    pub ports: Vec<Port>,
    /// Where it runs, and what it is asked to be.
    #[serde(skip)]
    pub placement: Placement,
}

/// What a fleet is beside its ports: where it runs, whose it is and how it is configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// Namespace of all its objects.
    pub namespace: String,
    /// The key of its xDS resources, which is Envoy's `--service-cluster`.
    pub key: String,
    /// Its objects go when this one goes.
    pub owner: Option<Owner>,
    /// The addresses that its Gateways ask for.
    pub addresses: Vec<String>,
    /// The EnvoyProxy in force.
    pub config: Arc<EnvoyProxySpec>,
    /// PEM of the authorities that signed the control plane's certificate, for fleets outside its namespace.
    pub authorities: Option<String>,
    /// Something that it depends on is broken: what runs is left as it is, and nothing new is made.
    pub held: bool,
}

/// The object that owns a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `GatewayClass`, or `Gateway` when the fleet runs in its namespace.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its `metadata.uid`.
    pub uid: String,
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

/// Labels that say whose a fleet is; its selectors hold them and no others, since selectors cannot change.
const OWNING: [&str; 3] = [
    "gateway.envoyproxy.io/owning-gateway-namespace",
    "gateway.envoyproxy.io/owning-gateway-name",
    "gateway.envoyproxy.io/owning-gatewayclass",
];
/// Labels that name the namespace and the name of a fleet's Gateway.
pub const OWNING_GATEWAY: [&str; 2] = [OWNING[0], OWNING[1]];
/// The label that names the class whose Gateways share a fleet.
pub const OWNING_CLASS: &str = OWNING[2];
/// Labels of every object of every fleet.
const APP: [(&str, &str); 3] = [
    ("app.kubernetes.io/name", "envoy"),
    ("app.kubernetes.io/component", "proxy"),
    ("app.kubernetes.io/managed-by", "envoy-gateway"),
];

/// A label selector for the objects of all fleets.
pub fn selector() -> String {
    APP.map(|(key, value)| format!("{key}={value}")).join(",")
}

/// Whether this object carries the labels of a fleet's.
pub fn is_of_fleet(object: &serde_json::Value) -> bool {
    let labels = object.pointer("/metadata/labels");
    APP.iter().all(|(key, value)| labels.and_then(|labels| labels.get(*key)?.as_str()) == Some(*value))
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

    /// As a Service's port has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// The name of the fleet that serves the Gateway `namespace`/`name`; never longer than a DNS label.
pub fn fleet_name(namespace: &str, name: &str) -> String {
    hashed_name(&format!("{namespace}/{name}"))
}

/// The name of the fleet that all Gateways of the class `name` share.
pub fn class_fleet_name(name: &str) -> String {
    hashed_name(name)
}

fn hashed_name(full: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(full);
    let hash = digest.iter().take(4).fold(0_u32, |hash, byte| hash << 8 | u32::from(*byte));
    let readable: String = full.replace('/', "-").chars().take(48).collect();
    format!("envoy-{}-{hash:08x}", readable.trim_end_matches('-'))
}

impl Fleet {
    /// Takes what another Gateway asks of the same fleet; where both want the same label, the first one has it.
    pub(crate) fn join(&mut self, other: Self) {
        for (key, value) in other.labels {
            self.labels.entry(key).or_insert(value);
        }
        for (key, value) in other.annotations {
            self.annotations.entry(key).or_insert(value);
        }
        for port in other.ports {
            self.add_port(port);
        }
        let known = self.placement.addresses.clone();
        self.placement.addresses.extend(other.placement.addresses.into_iter().filter(|new| !known.contains(new)));
    }

    fn add_port(&mut self, new: Port) {
        if self.ports.iter().all(|known| (known.port, known.protocol) != (new.port, new.protocol)) {
            self.ports.push(new);
        }
    }
}

/// The fleet for `proxy`, with the labels and annotations of its Gateway's `infrastructure`.
pub fn fleet(
    proxy: &ir::Proxy,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    placement: Placement,
    settings: &Settings,
) -> Fleet {
    let mut labels = labels;
    let mut own = |key: &str, value: &str| labels.insert(key.to_owned(), value.to_owned());
    for (key, value) in APP {
        own(key, value);
    }
    let [namespace_label, name_label, class_label] = OWNING;
    match proxy.key.split_once('/') {
        Some((namespace, name)) => {
            own(namespace_label, namespace);
            own(name_label, name);
            if settings.gateway_namespace_mode {
                own("gateway.networking.k8s.io/gateway-name", name);
            }
        }
        None => {
            own(class_label, &proxy.key);
        }
    }
    let (namespace, name) = place(settings, &proxy.key);
    let placement = Placement { namespace, key: proxy.key.clone(), ..placement };
    let mut fleet = Fleet { name, labels, annotations, ports: Vec::new(), placement };
    for port in ports(proxy) {
        fleet.add_port(port);
    }
    fleet
}

/// One for each listener, named after it.
fn ports(proxy: &ir::Proxy) -> impl Iterator<Item = Port> {
    let http = proxy.http.iter().map(|listener| {
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        (scheme, Transport::Tcp, listener.gateway_port, listener.port)
    });
    let tcp = proxy.tcp.iter().map(|listener| {
        let scheme = if listener.tls.is_some() { "tls" } else { "tcp" };
        (scheme, Transport::Tcp, listener.gateway_port, listener.port)
    });
    let udp = proxy.udp.iter().map(|listener| ("udp", Transport::Udp, listener.gateway_port, listener.port));
    http.chain(tcp).chain(udp).map(|(scheme, protocol, port, target_port)| Port {
        name: format!("{scheme}-{port}"),
        protocol,
        port,
        target_port,
    })
}

/// Whether a fleet can be made of `config`.
pub fn check(config: &EnvoyProxySpec, settings: &Settings) -> Result<(), String> {
    let placement = Placement { config: Arc::new(config.clone()), ..Placement::default() };
    let (name, labels) = ("fleet".to_owned(), BTreeMap::new());
    let fleet = Fleet { name, labels, annotations: BTreeMap::new(), ports: Vec::new(), placement };
    objects(&fleet, settings).map(drop).map_err(|error| error.to_string())
}

/// Merges one EnvoyProxy's spec into another's: strategically, or as RFC 7386 has it.
pub(crate) fn merge(target: &mut serde_json::Value, change: &serde_json::Value, strategic: bool) {
    if strategic { patch::merge(target, change) } else { json_patch::merge(target, change) }
}

/// Namespace and default name of everything that belongs to the fleet of the proxy `key`.
pub fn place(settings: &Settings, key: &str) -> (String, String) {
    match key.split_once('/') {
        Some((namespace, name)) if settings.gateway_namespace_mode => (namespace.to_owned(), name.to_owned()),
        _ => (settings.namespace.clone(), fleet_of(key)),
    }
}

/// The default name of the fleet of the proxy `key`, outside the namespaces of Gateways.
pub fn fleet_of(key: &str) -> String {
    match key.split_once('/') {
        Some((namespace, name)) => fleet_name(namespace, name),
        None => class_fleet_name(key),
    }
}

/// The Kubernetes objects that make up `fleet`. What its EnvoyProxy asks for beyond reason is an error.
pub fn objects(fleet: &Fleet, settings: &Settings) -> Result<Vec<Object>, Error> {
    let mut objects = vec![pod::service_account(fleet)?, sds::config_map(fleet, settings)?];
    objects.push(workload::workload(fleet, settings)?);
    objects.push(service::service(fleet)?);
    objects.extend(autoscaling::autoscaler(fleet)?);
    objects.extend(autoscaling::disruption_budget(fleet)?);
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_cut_at_a_dash_has_one_before_the_hash() {
        let name = fleet_name("edge", "a-gateway-whose-name-goes-on-and-on-and-on-and-on");
        assert!(name.starts_with("envoy-edge-a-gateway-whose-name-goes-on-and-on-and-on-"), "{name}");
        assert!(!name.contains("--") && name.len() <= 63, "{name}");
    }
}

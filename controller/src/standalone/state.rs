//! What the translation has yielded last, as the other parts of the process see it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use controller_core::{Translation, translate::ObjectStatus};
use serde::Serialize;

use crate::source::{Manifests, Problem};

/// Everything but what the data plane was given.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// By proxy key.
    pub(super) gateways: BTreeMap<String, Gateway>,
    pub(super) statuses: Vec<Arc<ObjectStatus>>,
    pub(super) sources: Vec<Problem>,
}

/// Where a Gateway's Envoy listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Gateway {
    pub(super) address: IpAddr,
    pub(super) listeners: Vec<Listener>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Listener {
    /// As the Gateway's spec calls it.
    pub(super) name: String,
    /// As the Gateway's spec says.
    #[serde(rename = "gatewayPort")]
    pub(super) gateway_port: u16,
    /// As Envoy binds it.
    pub(super) port: u16,
    /// `http`, `https`, `tls`, `tcp` or `udp`.
    pub(super) scheme: &'static str,
    /// It takes TCP connections: it is no UDP listener, and has a route if it needs one to be there at all.
    #[serde(skip)]
    pub(super) connects: bool,
}

impl State {
    pub(super) fn new(translation: &Translation, manifests: &Manifests, addresses: &BTreeMap<String, IpAddr>) -> Self {
        let gateways = translation.proxies.iter().filter_map(|(key, proxy)| {
            let listener = |name: &String, (gateway_port, port), scheme, connects| {
                let name = name.clone();
                Listener { name, gateway_port, port, scheme, connects }
            };
            let http = proxy.ir.http.iter().map(|one| {
                let scheme = if one.tls.is_some() { "https" } else { "http" };
                listener(&one.section, (one.gateway_port, one.port), scheme, true)
            });
            let tcp = proxy.ir.tcp.iter().map(|one| {
                let scheme = if one.tls.is_some() { "tls" } else { "tcp" };
                listener(&one.section, (one.gateway_port, one.port), scheme, !one.routes.is_empty())
            });
            let udp = proxy.ir.udp.iter();
            let udp = udp.map(|one| listener(&one.section, (one.gateway_port, one.port), "udp", false));
            let listeners = http.chain(tcp).chain(udp).collect();
            Some((key.clone(), Gateway { address: *addresses.get(key)?, listeners }))
        });
        Self {
            gateways: gateways.collect(),
            statuses: translation.statuses.clone(),
            sources: manifests.problems.clone(),
        }
    }
}

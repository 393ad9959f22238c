//! A loopback address for each proxy, so that all Gateways can have port 80.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use controller_core::{Settings, Snapshot, translate};

/// The first proxy is on 127.0.0.1, the next one on 127.0.0.2, and each stays there.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    fixed: Option<IpAddr>,
    numbers: BTreeMap<String, u32>,
}

impl Addresses {
    /// With `fixed`, all proxies have that address.
    pub(super) fn new(fixed: Option<IpAddr>) -> Self {
        Self { fixed, numbers: BTreeMap::new() }
    }

    /// The address of every proxy that `snapshot` asks for, by key. A proxy that is gone frees its own.
    pub(super) fn assign(&mut self, snapshot: &Snapshot, settings: &Settings) -> BTreeMap<String, IpAddr> {
        let keys = translate::proxy_keys(snapshot, settings);
        self.numbers.retain(|key, _| keys.contains(key));
        for key in &keys {
            if !self.numbers.contains_key(key) {
                let free =
                    (1..=u32::MAX).find(|number| self.numbers.values().all(|taken| taken != number)).unwrap_or(1);
                self.numbers.insert(key.clone(), free);
            }
        }
        let address = |number: u32| {
            self.fixed.unwrap_or(IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 0).to_bits() + number)))
        };
        self.numbers.iter().map(|(key, number)| (key.clone(), address(*number))).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn snapshot(gateways: &[(&str, &str)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let class = |name: &str, controller: &str| {
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": name},
                "spec": {"controllerName": controller}})
        };
        snapshot.insert(class("ours", &Settings::default().controller_name)).unwrap();
        snapshot.insert(class("theirs", "example.com/other")).unwrap();
        for (name, class) in gateways {
            let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "metadata": {"name": name}, "spec": {"gatewayClassName": class, "listeners": []}});
            snapshot.insert(gateway).unwrap();
        }
        snapshot
    }

    fn assign(addresses: &mut Addresses, gateways: &[(&str, &str)]) -> Vec<(String, String)> {
        let assigned = addresses.assign(&snapshot(gateways), &Settings::default());
        assigned.into_iter().map(|(key, address)| (key, address.to_string())).collect()
    }

    #[test]
    fn addresses_stay_and_are_reused() {
        let mut addresses = Addresses::default();
        let pair = |key: &str, address: &str| (format!("default/{key}"), address.to_owned());
        assert_eq!(assign(&mut addresses, &[("a", "theirs"), ("m", "ours")]), [pair("m", "127.0.0.1")]);
        let both = [pair("b", "127.0.0.2"), pair("m", "127.0.0.1")];
        assert_eq!(assign(&mut addresses, &[("b", "ours"), ("m", "ours")]), both);
        assert_eq!(assign(&mut addresses, &[("b", "ours")]), [pair("b", "127.0.0.2")]);
        assert_eq!(assign(&mut addresses, &[("b", "ours"), ("c", "ours")])[1], pair("c", "127.0.0.1"));
    }

    #[test]
    fn gateways_that_share_a_fleet_share_its_address() {
        let mut snapshot = snapshot(&[("a", "merged"), ("b", "merged"), ("c", "ours")]);
        snapshot
            .insert(json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyProxy",
                "metadata": {"name": "one", "namespace": "system"}, "spec": {"mergeGateways": true}}))
            .unwrap();
        snapshot
            .insert(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
                "metadata": {"name": "merged"},
                "spec": {"controllerName": Settings::default().controller_name, "parametersRef": {
                    "group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "one", "namespace": "system"}}}))
            .unwrap();
        let assigned = Addresses::default().assign(&snapshot, &Settings::default());
        let keys: Vec<&str> = assigned.keys().map(String::as_str).collect();
        assert_eq!(keys, ["default/c", "merged"]);
    }

    #[test]
    fn a_fixed_address_is_for_all() {
        let mut addresses = Addresses::new(Some("0.0.0.0".parse().unwrap()));
        let assigned = assign(&mut addresses, &[("a", "ours"), ("b", "ours")]);
        assert!(assigned.iter().all(|(_, address)| address == "0.0.0.0"));
    }
}

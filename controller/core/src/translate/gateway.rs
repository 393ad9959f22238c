//! Gateways: their listeners, the proxy that each of them asks for, and their status.

use std::collections::BTreeMap;

use gateway_api::apis::experimental::gateways::Gateway as Object;
use serde_json::{Value, json};

use super::{
    backend, gateway_class,
    inputs::Inputs,
    listener::{self, Listener},
    status::{Conditions, Report},
};
use crate::{
    infra, ir,
    ir::{Endpoint, ObjectRef, Origin},
    snapshot::Key,
};

/// A Gateway while it is translated.
#[derive(Debug)]
pub(super) struct Gateway<'s> {
    /// As the user wrote it.
    pub(super) object: &'s Object,
    /// In the order of the spec.
    pub(super) listeners: Vec<Listener<'s>>,
    /// What its proxy will do.
    pub(super) proxy: ir::Proxy,
}

/// The Gateways of our classes, by namespace and name.
pub(super) fn gateways<'s>(inputs: &Inputs<'s>, report: &mut Report) -> BTreeMap<Key, Gateway<'s>> {
    let classes = gateway_class::accept(inputs, report);
    let all = inputs.snapshot.gateways.iter();
    let ours = all.filter(|(_, object)| classes.contains(object.spec.gateway_class_name.as_str()));
    ours.map(|(key, object)| (key.clone(), Gateway::new(inputs, key, object))).collect()
}

impl<'s> Gateway<'s> {
    fn new(inputs: &Inputs<'s>, (namespace, name): &Key, object: &'s Object) -> Self {
        let key = format!("{namespace}/{name}");
        let gateway = ObjectRef { kind: "Gateway", namespace: namespace.clone(), name: name.clone() };
        let mut listeners: Vec<_> = object.spec.listeners.iter().map(Listener::new).collect();
        listener::mark_conflicts(&key, &mut listeners);

        let mut http = Vec::new();
        for listener in &mut listeners {
            let valid = listener.conclude();
            if let (true, Some(port)) = (valid, listener.port()) {
                listener.http = Some(http.len());
                http.push(ir::HttpListener {
                    name: format!("{key}/{}", listener.spec.name),
                    section: listener.spec.name.clone(),
                    address: inputs.settings.bind_address(&key),
                    port: inputs.settings.bind_port(port),
                    gateway_port: port,
                    hostname: listener.hostname().to_owned(),
                    routes: Vec::new(),
                });
            }
        }
        let local = local(inputs, namespace, name);
        Self { object, listeners, proxy: ir::Proxy { key, gateway, http, local } }
    }

    /// Hostnames of the other listeners on the port of the listener at `index`.
    pub(super) fn neighbours(&self, index: usize) -> impl Iterator<Item = &str> + Clone {
        let port = self.listeners.get(index).map(|listener| listener.spec.port);
        let others = self.listeners.iter().enumerate().filter(move |(other, _)| *other != index);
        others.filter(move |(_, listener)| Some(listener.spec.port) == port).map(|(_, listener)| listener.hostname())
    }

    /// Writes the Gateway's status; its listeners have their routes by now.
    pub(super) fn report(&self, inputs: &Inputs<'_>, report: &mut Report) {
        let generation = self.object.metadata.generation;
        let address = inputs.settings.addresses.get(&self.proxy.key);
        let mut conditions = Conditions::default();
        self.set_accepted(&mut conditions);
        self.set_programmed(&mut conditions, address.is_some());
        let mut status = json!({
            "conditions": conditions.to_json(generation),
            "listeners": self.listeners.iter().map(|listener| listener.status(generation)).collect::<Value>(),
        });
        if let (Some(address), Some(fields)) = (address, status.as_object_mut()) {
            fields.insert("addresses".into(), json!([{"type": "IPAddress", "value": address.to_string()}]));
        }
        report.push(&self.proxy.gateway, status);
    }

    fn set_accepted(&self, conditions: &mut Conditions) {
        let valid = self.listeners.iter().filter(|listener| listener.http.is_some()).count();
        if valid == self.listeners.len() && valid > 0 {
            conditions.set("Accepted", true, "Accepted", "The Gateway has been scheduled by Envoy Gateway");
        } else if valid > 0 {
            let message = "Some listeners of the Gateway are invalid, see their conditions";
            conditions.set("Accepted", true, "ListenersNotValid", message);
        } else {
            let message = "No listener of the Gateway is valid, see their conditions";
            conditions.set("Accepted", false, "ListenersNotValid", message);
        }
    }

    fn set_programmed(&self, conditions: &mut Conditions, has_address: bool) {
        if self.proxy.http.is_empty() {
            conditions.set("Programmed", false, "Invalid", "The Gateway has no valid listener");
        } else if has_address {
            conditions.set("Programmed", true, "Programmed", "Address assigned to the Gateway");
        } else {
            let message = "No addresses have been assigned to the Gateway";
            conditions.set("Programmed", false, "AddressNotAssigned", message);
        }
    }

    /// The fleet that its proxy runs on.
    pub(super) fn fleet(&self) -> infra::Fleet {
        let wanted = self.object.spec.infrastructure.as_ref();
        let labels = wanted.and_then(|infrastructure| infrastructure.labels.clone());
        let annotations = wanted.and_then(|infrastructure| infrastructure.annotations.clone());
        infra::fleet(&self.proxy, labels.unwrap_or_default(), annotations.unwrap_or_default())
    }
}

/// The Service and replicas of the fleet that serves a Gateway, once they exist.
fn local(inputs: &Inputs<'_>, namespace: &str, name: &str) -> Option<ir::Local> {
    let own = &inputs.settings.namespace;
    let object = ObjectRef { kind: "Service", namespace: own.clone(), name: infra::fleet_name(namespace, name) };
    let service = inputs.snapshot.services.get(&(object.namespace.clone(), object.name.clone()))?;
    let port = service.spec.as_ref()?.ports.as_ref()?.first()?;
    let mut zones: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
    for slice in inputs.slices(own, &object.name) {
        let ports = slice.ports.as_deref().unwrap_or_default().iter();
        let number = ports.filter(|slice_port| slice_port.name == port.name).find_map(|slice_port| slice_port.port);
        let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else { continue };
        for (zone, address) in backend::ready_addresses(slice) {
            let Ok(address) = address.parse() else { continue };
            zones.entry(zone.unwrap_or_default().to_owned()).or_default().push(Endpoint::Ip(address, number));
        }
    }
    for endpoints in zones.values_mut() {
        endpoints.sort();
    }
    Some(ir::Local { origin: Origin { object, section: Some(port.port.to_string()) }, zones })
}

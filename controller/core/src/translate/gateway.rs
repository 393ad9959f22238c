//! Gateways: their listeners, the proxy that each of them asks for, and their status.

use std::{collections::BTreeMap, sync::Arc};

use gateway_api::apis::experimental::gateways::Gateway as Object;
use serde_json::{Value, json};

use super::{
    backend, gateway_class,
    inputs::Inputs,
    listener::{Listener, conflict},
    listener_set::{self, ListenerSet},
    status::{Conditions, Report},
};
use crate::{
    infra, ir,
    ir::{Endpoint, ObjectRef, Origin},
    snapshot::Key,
};

mod tls;

/// A Gateway while it is translated.
#[derive(Debug)]
pub(super) struct Gateway<'s> {
    /// As the user wrote it.
    pub(super) object: &'s Object,
    /// Its own in the order of the spec, then those of its sets in their order.
    pub(super) listeners: Vec<Listener<'s>>,
    /// The sets that name it, by name, whether or not they may.
    pub(super) sets: BTreeMap<ObjectRef, ListenerSet<'s>>,
    /// What its proxy will do.
    pub(super) proxy: ir::Proxy,
    conditions: Conditions,
}

/// The Gateways of our classes, by namespace and name.
pub(super) fn gateways<'s>(inputs: &Inputs<'s>, report: &mut Report) -> BTreeMap<Key, Gateway<'s>> {
    let classes = gateway_class::accept(inputs, report);
    let sets = listener_set::by_gateway(inputs);
    let all = inputs.snapshot.gateways.iter();
    let ours = all.filter(|(_, object)| classes.contains(object.spec.gateway_class_name.as_str()));
    let gateway = |(key, object): (&Key, &'s Arc<Object>)| {
        let sets = sets.get(key).map_or(&[][..], Vec::as_slice);
        (key.clone(), Gateway::new(inputs, key, object, sets))
    };
    ours.map(gateway).collect()
}

impl<'s> Gateway<'s> {
    fn new(inputs: &Inputs<'s>, key: &Key, object: &'s Object, sets: &[(&'s Key, &'s listener_set::Object)]) -> Self {
        let (namespace, name) = key;
        let key = format!("{namespace}/{name}");
        let gateway = ObjectRef { kind: "Gateway", namespace: namespace.clone(), name: name.clone() };
        let sets: Vec<_> = sets.iter().map(|(key, set)| ListenerSet::new(inputs, object, key, set)).collect();
        let own = object.spec.listeners.iter().map(|spec| Listener::new(&key, &gateway, spec));
        let added = sets
            .iter()
            .filter(|set| set.allowed)
            .flat_map(|set| set.object.spec.listeners.iter().map(|spec| Listener::new(&key, &set.reference, spec)));
        let mut listeners: Vec<_> = own.chain(added).collect();
        conflict::mark(&mut listeners);
        for listener in &mut listeners {
            listener.read_certificates(inputs);
        }
        let mut conditions = Conditions::default();
        let tls = object.spec.tls.as_ref();
        let client_certificate = tls.and_then(|tls| tls::read(inputs, &gateway, tls, &mut listeners, &mut conditions));
        let mut proxy = ir::Proxy {
            key,
            gateway,
            http: Vec::new(),
            tcp: Vec::new(),
            udp: Vec::new(),
            client_certificate,
            local: local(inputs, namespace, name),
        };
        for listener in &mut listeners {
            listener.conclude();
            listener.add_to(&mut proxy, inputs.settings);
        }
        let sets = sets.into_iter().map(|set| (set.reference.clone(), set)).collect();
        Self { object, listeners, sets, proxy, conditions }
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
        let mut conditions = self.conditions.clone();
        self.set_accepted(&mut conditions);
        self.set_programmed(&mut conditions, address.is_some());
        let own = self.listeners.iter().filter(|listener| listener.owner == self.proxy.gateway);
        let mut status = json!({
            "conditions": conditions.to_json(generation),
            "listeners": own.map(|listener| listener.status(generation)).collect::<Value>(),
        });
        let mut attached = 0;
        for set in self.sets.values() {
            attached += usize::from(set.report(&self.proxy.gateway, &self.listeners, report));
        }
        if let Some(fields) = status.as_object_mut() {
            if attached > 0 {
                fields.insert("attachedListenerSets".into(), attached.into());
            }
            if let Some(address) = address {
                fields.insert("addresses".into(), json!([{"type": "IPAddress", "value": address.to_string()}]));
            }
        }
        report.push(&self.proxy.gateway, status);
    }

    fn set_accepted(&self, conditions: &mut Conditions) {
        let works = |listener: &&Listener<'_>| listener.slot.is_some();
        let mut own = self.listeners.iter().filter(|listener| listener.owner == self.proxy.gateway);
        let valid = self.listeners.iter().filter(works).count();
        if valid > 0 && own.all(|listener| works(&listener)) {
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
        if self.listeners.iter().all(|listener| listener.slot.is_none()) {
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

//! Gateways: their listeners, the proxy that each of them asks for, and their status.

use std::collections::{BTreeMap, BTreeSet};

use gateway_api::apis::experimental::gateways::Gateway as Object;
use serde_json::{Value, json};

use super::{
    backend, gateway_class,
    gateway_class::GatewayClass,
    inputs::Inputs,
    listener::Listener,
    listener_set::{self, ListenerSet},
    parameters::{InForce, Parameters},
    status::{Conditions, Report, sentence},
};
use crate::{
    infra::{self, Fleet, Owner, Placement},
    ir,
    ir::{Endpoint, ObjectRef, Origin},
    snapshot::Key,
};

mod address;
pub(super) mod fleet;
mod tls;

/// A Gateway while it is translated.
#[derive(Debug)]
pub(super) struct Gateway<'s> {
    /// Its name.
    pub(super) reference: ObjectRef,
    /// As the user wrote it.
    pub(super) object: &'s Object,
    /// Its own in the order of the spec, then those of its sets in their order.
    pub(super) listeners: Vec<Listener<'s>>,
    /// The sets that name it, by name, whether or not they may.
    pub(super) sets: BTreeMap<ObjectRef, ListenerSet<'s>>,
    /// What its proxy will do for it.
    pub(super) proxy: ir::Proxy,
    conditions: Conditions,
    /// How its proxy is run, or why that cannot be.
    parameters: Result<InForce, String>,
    /// Why it has no part in the fleet of its class.
    excluded: Option<String>,
    /// What goes with the fleet when it is gone.
    owner: Option<Owner>,
    /// Its place among the Gateways of its fleet.
    rank: usize,
    /// Port and hostname of the listeners that other Gateways have in its fleet.
    rivals: Vec<(i32, &'s str)>,
}

/// The Gateways of our classes, by namespace and name.
pub(super) fn gateways<'s>(inputs: &Inputs<'s>, report: &mut Report) -> BTreeMap<Key, Gateway<'s>> {
    let mut parameters = Parameters::default();
    let classes = gateway_class::accept(inputs, &mut parameters, report);
    let sets = listener_set::by_gateway(inputs);
    let mut gateways = BTreeMap::new();
    for (key, object) in inputs.snapshot.gateways.iter() {
        let Some(class) = classes.get(object.spec.gateway_class_name.as_str()) else { continue };
        let (wanted, excluded) = if class.merges {
            (class.parameters.clone(), excluded(object))
        } else {
            (parameters.of_gateway(inputs, key, object, &class.parameters), None)
        };
        let sets = sets.get(key).map_or(&[][..], Vec::as_slice);
        let gateway = Gateway::new(inputs, key, object, sets, class, wanted);
        gateways.insert(key.clone(), Gateway { excluded, ..gateway });
    }
    parameters.report(report);
    fleet::settle(inputs, &mut gateways);
    gateways
}

/// Why a Gateway whose class merges its Gateways can have no part in that.
fn excluded(object: &Object) -> Option<String> {
    object.spec.infrastructure.as_ref()?.parameters_ref.as_ref()?;
    Some("a Gateway that shares the fleet of its GatewayClass cannot have parameters of its own".into())
}

/// The key of the proxy of each Gateway of our classes.
pub(super) fn proxy_keys(inputs: &Inputs<'_>) -> BTreeSet<String> {
    let classes = gateway_class::accept(inputs, &mut Parameters::default(), &mut Report::default());
    let gateways = inputs.snapshot.gateways.iter().filter_map(|(key, object)| {
        let name = object.spec.gateway_class_name.as_str();
        Some(proxy_key(key, name, classes.get(name)?.merges))
    });
    gateways.collect()
}

fn proxy_key((namespace, name): &Key, class: &str, merges: bool) -> String {
    if merges { class.to_owned() } else { format!("{namespace}/{name}") }
}

/// What the fleet of a Gateway goes with: an owner must be cluster-scoped or in the same namespace.
fn owner(inputs: &Inputs<'_>, object: &Object, class: &GatewayClass<'_>) -> Option<Owner> {
    let (kind, metadata) = if inputs.settings.gateway_namespace_mode {
        ("Gateway", &object.metadata)
    } else {
        ("GatewayClass", &class.object.metadata)
    };
    Some(Owner { kind, name: metadata.name.clone()?, uid: metadata.uid.clone()? })
}

impl<'s> Gateway<'s> {
    fn new(
        inputs: &Inputs<'s>,
        key: &Key,
        object: &'s Object,
        sets: &[(&'s Key, &'s listener_set::Object)],
        class: &GatewayClass<'_>,
        parameters: Result<InForce, String>,
    ) -> Self {
        let (namespace, name) = key;
        let gateway = ObjectRef { kind: "Gateway", namespace: namespace.clone(), name: name.clone() };
        let sets: Vec<_> = sets.iter().map(|(key, set)| ListenerSet::new(inputs, object, key, set)).collect();
        let own = object.spec.listeners.iter().map(|spec| Listener::new(&gateway, &gateway, spec));
        let added = sets
            .iter()
            .filter(|set| set.allowed)
            .flat_map(|set| set.object.spec.listeners.iter().map(|spec| Listener::new(&gateway, &set.reference, spec)));
        let listeners = own.chain(added).collect();
        let key = proxy_key(key, &object.spec.gateway_class_name, class.merges);
        let proxy = ir::Proxy {
            local: local(inputs, &key),
            key,
            gateways: vec![gateway.clone()],
            http: Vec::new(),
            tcp: Vec::new(),
            udp: Vec::new(),
            client_certificates: BTreeMap::new(),
        };
        Self {
            reference: gateway,
            object,
            listeners,
            sets: sets.into_iter().map(|set| (set.reference.clone(), set)).collect(),
            proxy,
            conditions: Conditions::default(),
            parameters,
            excluded: None,
            owner: owner(inputs, object, class),
            rank: 0,
            rivals: Vec::new(),
        }
    }

    /// Gives every listener that works its place in the proxy, once those of the fleet have been compared.
    fn conclude(&mut self, inputs: &Inputs<'s>) {
        if let Some(tls) = &self.object.spec.tls {
            let (gateway, conditions) = (&self.reference, &mut self.conditions);
            let certificate = tls::read(inputs, gateway, tls, &mut self.listeners, conditions);
            let certificate = certificate.map(|certificate| (gateway.clone(), certificate));
            self.proxy.client_certificates.extend(certificate);
        }
        for listener in &mut self.listeners {
            listener.conclude();
            listener.add_to(&mut self.proxy, inputs.settings);
        }
    }

    /// Hostnames of the other listeners on the port of the listener at `index`; one that lost its place takes none.
    pub(super) fn neighbours(&self, index: usize) -> impl Iterator<Item = &str> + Clone {
        let port = self.listeners.get(index).map(|listener| listener.spec.port);
        let others = self.listeners.iter().enumerate().filter(move |(other, _)| *other != index);
        let rivals = others.filter(move |(_, listener)| {
            Some(listener.spec.port) == port && !listener.conditions.is_true("Conflicted")
        });
        let elsewhere =
            self.rivals.iter().filter(move |(rival, _)| Some(*rival) == port).map(|(_, hostname)| *hostname);
        rivals.map(|(_, listener)| listener.hostname()).chain(elsewhere)
    }

    /// Writes the Gateway's status; its listeners have their routes by now.
    pub(super) fn report(&self, inputs: &Inputs<'_>, report: &mut Report) {
        let generation = self.object.metadata.generation;
        let mut conditions = self.conditions.clone();
        if let Some(cause) = self.parameters.as_ref().err().or(self.excluded.as_ref()) {
            let message = format!("Invalid parametersRef: {}", sentence(cause));
            conditions.set("Accepted", false, "InvalidParameters", message);
            report.push(&self.reference, json!({"conditions": conditions.to_json(generation)}));
            return;
        }
        let fleet = self.fleet(inputs);
        let fixed = inputs.settings.addresses.get(&self.proxy.key);
        let addresses = fixed.map_or_else(|| address::assigned(inputs, &fleet), |address| vec![address.to_string()]);
        self.set_accepted(&mut conditions);
        if self.listeners.iter().all(|listener| listener.slot.is_none()) {
            conditions.set("Programmed", false, "Invalid", "The Gateway has no valid listener");
        } else if fixed.is_some() {
            conditions.set("Programmed", true, "Programmed", "Address assigned to the Gateway");
        } else {
            address::set_programmed(inputs, self.object, &fleet, &addresses, &mut conditions);
        }
        let own = self.listeners.iter().filter(|listener| listener.owner == self.reference);
        let mut status = json!({
            "conditions": conditions.to_json(generation),
            "listeners": own.map(|listener| listener.status(generation)).collect::<Value>(),
        });
        let mut attached = 0;
        for set in self.sets.values() {
            attached += usize::from(set.report(&self.reference, &self.listeners, report));
        }
        if let Some(fields) = status.as_object_mut() {
            if attached > 0 {
                fields.insert("attachedListenerSets".into(), attached.into());
            }
            if !addresses.is_empty() {
                fields.insert("addresses".into(), address::to_json(&addresses));
            }
        }
        report.push(&self.reference, status);
    }

    fn set_accepted(&self, conditions: &mut Conditions) {
        if let Some(cause) = self.parameters.as_ref().ok().and_then(|parameters| parameters.dangling.as_ref()) {
            let message = format!("The telemetry of the EnvoyProxy in force cannot be had: {cause}.");
            conditions.set("Accepted", false, "InvalidParameters", message);
            return;
        }
        if let Some(kind) = address::unsupported(self.object) {
            let message = format!("Addresses of type {kind} are not supported");
            conditions.set("Accepted", false, "UnsupportedAddress", message);
            return;
        }
        let works = |listener: &&Listener<'_>| listener.slot.is_some();
        let mut own = self.listeners.iter().filter(|listener| listener.owner == self.reference);
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

    /// The fleet that its proxy runs on.
    pub(super) fn fleet(&self, inputs: &Inputs<'_>) -> Fleet {
        let wanted = self.object.spec.infrastructure.as_ref();
        let labels = wanted.and_then(|infrastructure| infrastructure.labels.clone());
        let annotations = wanted.and_then(|infrastructure| infrastructure.annotations.clone());
        let placement = Placement {
            owner: self.owner.clone(),
            addresses: address::wanted(self.object),
            config: self.parameters.as_ref().map(|parameters| parameters.spec.clone()).unwrap_or_default(),
            authorities: authorities(inputs),
            held: self.parameters.is_err(),
            ..Placement::default()
        };
        infra::fleet(
            &self.proxy,
            labels.unwrap_or_default(),
            annotations.unwrap_or_default(),
            placement,
            inputs.settings,
        )
    }
}

/// The authorities that fleets in other namespaces check the control plane's certificate with.
fn authorities(inputs: &Inputs<'_>) -> Option<String> {
    if !inputs.settings.gateway_namespace_mode {
        return None;
    }
    let key = (inputs.settings.namespace.clone(), "envoy-gateway".to_owned());
    let authorities = inputs.snapshot.secrets.get(&key)?.data.as_ref()?.get("ca.crt")?;
    String::from_utf8(authorities.0.clone()).ok()
}

/// The Service and replicas of the fleet of the proxy `key`, once they exist.
fn local(inputs: &Inputs<'_>, key: &str) -> Option<ir::Local> {
    let (own, service) = infra::place(inputs.settings, key);
    let object = ObjectRef { kind: "Service", namespace: own.clone(), name: service };
    let service = inputs.snapshot.services.get(&(object.namespace.clone(), object.name.clone()))?;
    let port = service.spec.as_ref()?.ports.as_ref()?.first()?;
    let mut zones: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
    for slice in inputs.slices(&own, &object.name) {
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

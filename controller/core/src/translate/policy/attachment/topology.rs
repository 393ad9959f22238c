//! Gateways, ListenerSets, listeners, routes and rules, as far as policies can target them.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ahash::HashMap;
use controller_api::{policy::ParentReference, route::ParentRef};
use gateway_api::apis::experimental::gateways::GatewayListeners;

use super::{super::ancestors, Target};
use crate::{
    Snapshot,
    ir::{ObjectRef, Proxy},
    snapshot::Objects,
    translate::{attachment, inputs::Inputs, kept::Kept},
};

/// Where a route of the IR stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the listener among those of all proxies.
    pub(super) listener: usize,
    /// Number of the route among those of all listeners.
    pub(super) route: usize,
}

/// A parentRef that leads to a Gateway of ours.
#[derive(Debug)]
pub(super) struct Parent {
    /// The Gateway, or the ListenerSet that is attached to it.
    pub(super) object: ObjectRef,
    pub(super) section: Option<String>,
}

/// What policies can target of a route, wherever it stands.
#[derive(Debug)]
pub(in super::super) struct Shape {
    object: Arc<ObjectRef>,
    parents: Box<[Parent]>,
    /// The parents, as statuses name them.
    references: Box<[Arc<ParentReference>]>,
    /// Names of the rules that have one.
    rules: BTreeSet<String>,
}

/// A route, and where it stands.
pub(super) struct Route {
    shape: Arc<Shape>,
    /// With the name of the rule.
    places: Vec<(Place, Option<String>)>,
}

impl Route {
    /// Its parentRefs that are ours, as statuses name them.
    pub(super) fn references(&self) -> &[Arc<ParentReference>] {
        &self.shape.references
    }

    /// Where its rules of this name are, or all of them.
    pub(super) fn places(&self, section: Option<&str>) -> Vec<Place> {
        let named = self.places.iter().filter(|(_, rule)| section.is_none() || rule.as_deref() == section);
        named.map(|(place, _)| *place).collect()
    }
}

/// A listener of the IR.
#[derive(Clone)]
pub(super) struct Listener {
    pub(super) gateway: ObjectRef,
    /// The Gateway itself or a ListenerSet.
    pub(super) parent: ObjectRef,
    pub(super) section: String,
}

/// A Gateway or ListenerSet.
struct Owner {
    /// Names of its listeners.
    sections: BTreeSet<String>,
    /// The Gateway itself or the one that the set names.
    gateway: ObjectRef,
}

/// What policies can target, and where that is in the IR.
pub(in super::super) struct Topology {
    owners: BTreeMap<ObjectRef, Owner>,
    routes: HashMap<Arc<ObjectRef>, Route>,
    /// Of all proxies.
    listeners: Vec<Listener>,
    /// Number of routes of all listeners.
    len: usize,
}

/// The rules of a route of any kind.
macro_rules! parts {
    () => {
        |route| {
            let rules = route.spec.rules.iter().flatten().filter_map(|rule| rule.name.clone()).collect();
            (route.spec.parent_refs.as_deref().unwrap_or_default(), rules)
        }
    };
}

impl Topology {
    /// The routes of `proxies` have no policies yet.
    pub(in super::super) fn new(inputs: &Inputs<'_>, proxies: &[Proxy], kept: &mut Kept<Arc<Shape>>) -> Self {
        let snapshot = inputs.snapshot;
        let owners = owners(snapshot, proxies);
        let mut topology = Self { owners, routes: HashMap::default(), listeners: Vec::new(), len: 0 };
        topology.add(inputs, kept, "HTTPRoute", &snapshot.http_routes, parts!());
        topology.add(inputs, kept, "GRPCRoute", &snapshot.grpc_routes, parts!());
        topology.add(inputs, kept, "TLSRoute", &snapshot.tls_routes, parts!());
        topology.add(inputs, kept, "TCPRoute", &snapshot.tcp_routes, parts!());
        topology.add(inputs, kept, "UDPRoute", &snapshot.udp_routes, parts!());
        for proxy in proxies {
            for listener in &proxy.http {
                for route in &listener.routes {
                    let place = Place { listener: topology.listeners.len(), route: topology.len };
                    topology.len += 1;
                    if let Some(known) = topology.routes.get_mut(&route.route) {
                        known.places.push((place, route.rule_name.clone()));
                    }
                }
                let (parent, section) = (listener.parent.clone(), listener.section.clone());
                topology.listeners.push(Listener { gateway: listener.gateway.clone(), parent, section });
            }
        }
        topology
    }

    fn add<R: Any + Send + Sync>(
        &mut self,
        inputs: &Inputs<'_>,
        kept: &mut Kept<Arc<Shape>>,
        kind: &'static str,
        routes: &Objects<R>,
        parts: impl Fn(&R) -> (&[ParentRef], BTreeSet<String>),
    ) {
        self.routes.reserve(routes.len());
        for ((namespace, name), route) in routes.iter() {
            let shape = kept.of(inputs, route, || {
                let object = ObjectRef { kind, namespace: namespace.clone(), name: name.clone() };
                let (parent_refs, rules) = parts(route);
                let parents = parents(parent_refs, namespace, &self.owners);
                let reference = |parent: &Parent| ancestors::reference(&parent.object, parent.section.as_deref());
                let references = parents.iter().map(reference).collect();
                Arc::new(Shape { object: Arc::new(object), parents, references, rules })
            });
            self.routes.insert(Arc::clone(&shape.object), Route { shape, places: Vec::new() });
        }
    }

    /// Number of routes of all listeners.
    pub(in super::super) fn len(&self) -> usize {
        self.len
    }

    /// Whether `object` is a Gateway of ours or a ListenerSet of one.
    pub(super) fn has_listeners(&self, object: &ObjectRef) -> bool {
        self.owners.contains_key(object)
    }

    /// The ListenerSets of a Gateway.
    pub(super) fn sets(&self, gateway: &ObjectRef) -> Vec<&ObjectRef> {
        let of_gateway = self.owners.iter().filter(|(object, owner)| owner.gateway == *gateway && *object != gateway);
        of_gateway.map(|(object, _)| object).collect()
    }

    /// The parentRefs of a route that are ours; `None` when there is no such route.
    pub(super) fn parents(&self, route: &ObjectRef) -> Option<&[Parent]> {
        self.routes.get(route).map(|route| &*route.shape.parents)
    }

    /// The route of this name.
    pub(super) fn route(&self, route: &ObjectRef) -> Option<&Route> {
        self.routes.get(route)
    }

    /// Whether the section that `target` names is there.
    pub(super) fn check_section(&self, target: &Target) -> Result<(), String> {
        let Some(section) = &target.section else { return Ok(()) };
        let sections = match self.owners.get(&target.object) {
            Some(owner) => Some(&owner.sections),
            None => self.routes.get(&target.object).map(|route| &route.shape.rules),
        };
        if sections.is_some_and(|sections| sections.contains(section)) {
            return Ok(());
        }
        let ObjectRef { kind, namespace, name } = &target.object;
        Err(format!("No section name {section} found for {kind} {namespace}/{name}"))
    }

    /// Where the routes are that `target` covers. A Gateway covers those of its sets too, a listener only its own.
    pub(super) fn places(&self, target: &Target) -> Vec<Place> {
        let covers = |place: &Place| {
            self.listeners.get(place.listener).is_some_and(|listener| match &target.section {
                Some(section) => listener.parent == target.object && *section == listener.section,
                None => listener.gateway == target.object || listener.parent == target.object,
            })
        };
        if self.has_listeners(&target.object) {
            let places = self.routes.values().flat_map(|route| &route.places).map(|(place, _)| *place);
            return places.filter(covers).collect();
        }
        self.route(&target.object).map(|route| route.places(target.section.as_deref())).unwrap_or_default()
    }

    /// The same by listener.
    pub(super) fn places_by_listener(&self, target: &Target) -> Vec<(Listener, Vec<Place>)> {
        let mut by_listener: BTreeMap<usize, Vec<Place>> = BTreeMap::new();
        for place in self.places(target) {
            by_listener.entry(place.listener).or_default().push(place);
        }
        by_listener.into_iter().filter_map(|(key, places)| Some((self.listeners.get(key)?.clone(), places))).collect()
    }
}

fn owners(snapshot: &Snapshot, proxies: &[Proxy]) -> BTreeMap<ObjectRef, Owner> {
    let names = |listeners: &[GatewayListeners]| listeners.iter().map(|listener| listener.name.clone()).collect();
    let gateways = proxies.iter().flat_map(|proxy| &proxy.gateways).map(|gateway| {
        let key = (gateway.namespace.clone(), gateway.name.clone());
        let sections = snapshot.gateways.get(&key).map(|gateway| names(&gateway.spec.listeners)).unwrap_or_default();
        (gateway.clone(), Owner { sections, gateway: gateway.clone() })
    });
    let mut owners: BTreeMap<ObjectRef, Owner> = gateways.collect();
    for ((namespace, name), set) in snapshot.listener_sets.iter() {
        let parent = &set.spec.parent_ref;
        let gateway = ObjectRef {
            kind: "Gateway",
            namespace: parent.namespace.as_ref().unwrap_or(namespace).clone(),
            name: parent.name.clone(),
        };
        if owners.contains_key(&gateway) {
            let object = ObjectRef { kind: "ListenerSet", namespace: namespace.clone(), name: name.clone() };
            owners.insert(object, Owner { sections: names(&set.spec.listeners), gateway });
        }
    }
    owners
}

fn parents<V>(parent_refs: &[ParentRef], namespace: &str, owners: &BTreeMap<ObjectRef, V>) -> Box<[Parent]> {
    let parent = |parent: &ParentRef| {
        let object = attachment::parent(parent, namespace)?;
        let section = parent.section_name.clone();
        owners.contains_key(&object).then_some(Parent { object, section })
    };
    parent_refs.iter().filter_map(parent).collect()
}

//! Gateways, ListenerSets, listeners, routes and rules, as far as policies can target them.

use std::collections::{BTreeMap, BTreeSet};

use controller_api::route::ParentRef;
use gateway_api::apis::experimental::gateways::GatewayListeners;

use super::Target;
use crate::{
    Snapshot,
    ir::{HttpRoute, ObjectRef, Proxy},
    snapshot::Route as AnyRoute,
    translate::attachment,
};

/// Where a route of the IR stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) proxy: usize,
    pub(super) listener: usize,
    pub(super) route: usize,
}

impl Place {
    pub(super) fn find(self, proxies: &mut [Proxy]) -> Option<&mut HttpRoute> {
        proxies.get_mut(self.proxy)?.http.get_mut(self.listener)?.routes.get_mut(self.route)
    }
}

/// A parentRef that leads to a Gateway of ours.
pub(super) struct Parent {
    /// The Gateway, or the ListenerSet that is attached to it.
    pub(super) object: ObjectRef,
    pub(super) section: Option<String>,
}

struct Route {
    parents: Vec<Parent>,
    rules: BTreeSet<String>,
    places: Vec<(Place, Option<String>)>,
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
pub(super) struct Topology {
    owners: BTreeMap<ObjectRef, Owner>,
    routes: BTreeMap<ObjectRef, Route>,
    /// By index of the proxy and of the listener.
    listeners: BTreeMap<(usize, usize), Listener>,
}

impl Topology {
    pub(super) fn new(snapshot: &Snapshot, proxies: &[Proxy]) -> Self {
        let owners = owners(snapshot, proxies);
        let routes = snapshot.routes().map(|route| {
            let parents = parents(&route, &owners);
            let rules = route.rule_names.into_iter().map(ToOwned::to_owned).collect();
            (route.object, Route { parents, rules, places: Vec::new() })
        });
        let mut routes: BTreeMap<_, _> = routes.collect();
        let mut listeners = BTreeMap::new();
        for (proxy_index, proxy) in proxies.iter().enumerate() {
            for (listener_index, listener) in proxy.http.iter().enumerate() {
                let (parent, section) = (listener.parent.clone(), listener.section.clone());
                let entry = Listener { gateway: proxy.gateway.clone(), parent, section };
                listeners.insert((proxy_index, listener_index), entry);
                for (route_index, route) in listener.routes.iter().enumerate() {
                    let place = Place { proxy: proxy_index, listener: listener_index, route: route_index };
                    if let Some(known) = routes.get_mut(&route.route) {
                        known.places.push((place, route.rule_name.clone()));
                    }
                }
            }
        }
        Self { owners, routes, listeners }
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
        self.routes.get(route).map(|route| route.parents.as_slice())
    }

    /// Whether the section that `target` names is there.
    pub(super) fn check_section(&self, target: &Target) -> Result<(), String> {
        let Some(section) = &target.section else { return Ok(()) };
        let sections = match self.owners.get(&target.object) {
            Some(owner) => Some(&owner.sections),
            None => self.routes.get(&target.object).map(|route| &route.rules),
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
            self.listeners.get(&(place.proxy, place.listener)).is_some_and(|listener| match &target.section {
                Some(section) => listener.parent == target.object && *section == listener.section,
                None => listener.gateway == target.object || listener.parent == target.object,
            })
        };
        if self.has_listeners(&target.object) {
            let places = self.routes.values().flat_map(|route| &route.places).map(|(place, _)| *place);
            return places.filter(covers).collect();
        }
        let places = self.routes.get(&target.object).into_iter().flat_map(|route| &route.places);
        let named = places.filter(|(_, rule)| target.section.is_none() || *rule == target.section);
        named.map(|(place, _)| *place).collect()
    }

    /// The same by listener.
    pub(super) fn places_by_listener(&self, target: &Target) -> Vec<(Listener, Vec<Place>)> {
        let mut by_listener: BTreeMap<(usize, usize), Vec<Place>> = BTreeMap::new();
        for place in self.places(target) {
            by_listener.entry((place.proxy, place.listener)).or_default().push(place);
        }
        by_listener.into_iter().filter_map(|(key, places)| Some((self.listeners.get(&key)?.clone(), places))).collect()
    }
}

fn owners(snapshot: &Snapshot, proxies: &[Proxy]) -> BTreeMap<ObjectRef, Owner> {
    let names = |listeners: &[GatewayListeners]| listeners.iter().map(|listener| listener.name.clone()).collect();
    let gateways = proxies.iter().map(|proxy| {
        let key = (proxy.gateway.namespace.clone(), proxy.gateway.name.clone());
        let sections = snapshot.gateways.get(&key).map(|gateway| names(&gateway.spec.listeners)).unwrap_or_default();
        (proxy.gateway.clone(), Owner { sections, gateway: proxy.gateway.clone() })
    });
    let mut owners: BTreeMap<ObjectRef, Owner> = gateways.collect();
    for ((namespace, name), set) in &snapshot.listener_sets {
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

fn parents<V>(route: &AnyRoute<'_>, owners: &BTreeMap<ObjectRef, V>) -> Vec<Parent> {
    let parent = |parent: &ParentRef| {
        let object = attachment::parent(parent, &route.object.namespace)?;
        let section = parent.section_name.clone();
        owners.contains_key(&object).then_some(Parent { object, section })
    };
    route.parent_refs.iter().filter_map(parent).collect()
}

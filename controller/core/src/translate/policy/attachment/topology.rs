//! Gateways, listeners, routes and rules, as far as policies can target them.

use std::collections::{BTreeMap, BTreeSet};

use super::Target;
use crate::{
    Snapshot,
    ir::{HttpRoute, ObjectRef, Proxy},
    snapshot::Route as AnyRoute,
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

/// A parentRef to a Gateway of ours.
pub(super) struct Parent {
    pub(super) gateway: ObjectRef,
    pub(super) section: Option<String>,
}

struct Route {
    parents: Vec<Parent>,
    rules: BTreeSet<String>,
    places: Vec<(Place, Option<String>)>,
}

struct Listener {
    gateway: ObjectRef,
    section: String,
}

/// What policies can target, and where that is in the IR.
pub(super) struct Topology {
    /// By Gateway: the names of its listeners.
    gateways: BTreeMap<ObjectRef, BTreeSet<String>>,
    routes: BTreeMap<ObjectRef, Route>,
    /// By index of the proxy and of the listener.
    listeners: BTreeMap<(usize, usize), Listener>,
}

impl Topology {
    pub(super) fn new(snapshot: &Snapshot, proxies: &[Proxy]) -> Self {
        let gateways: BTreeMap<_, _> = proxies
            .iter()
            .map(|proxy| {
                let key = (proxy.gateway.namespace.clone(), proxy.gateway.name.clone());
                let listeners = snapshot.gateways.get(&key).map(|gateway| gateway.spec.listeners.iter());
                let names = listeners.into_iter().flatten().map(|listener| listener.name.clone()).collect();
                (proxy.gateway.clone(), names)
            })
            .collect();
        let routes = snapshot.routes().map(|route| {
            let parents = parents(&route, &gateways);
            let rules = route.rule_names.into_iter().map(ToOwned::to_owned).collect();
            (route.object, Route { parents, rules, places: Vec::new() })
        });
        let mut routes: BTreeMap<_, _> = routes.collect();
        let mut listeners = BTreeMap::new();
        for (proxy_index, proxy) in proxies.iter().enumerate() {
            for (listener_index, listener) in proxy.http.iter().enumerate() {
                let entry = Listener { gateway: proxy.gateway.clone(), section: listener.section.clone() };
                listeners.insert((proxy_index, listener_index), entry);
                for (route_index, route) in listener.routes.iter().enumerate() {
                    let place = Place { proxy: proxy_index, listener: listener_index, route: route_index };
                    if let Some(known) = routes.get_mut(&route.route) {
                        known.places.push((place, route.rule_name.clone()));
                    }
                }
            }
        }
        Self { gateways, routes, listeners }
    }

    pub(super) fn is_gateway(&self, object: &ObjectRef) -> bool {
        self.gateways.contains_key(object)
    }

    /// The parentRefs of a route that are ours; `None` when there is no such route.
    pub(super) fn parents(&self, route: &ObjectRef) -> Option<&[Parent]> {
        self.routes.get(route).map(|route| route.parents.as_slice())
    }

    /// Whether the section that `target` names is there.
    pub(super) fn check_section(&self, target: &Target) -> Result<(), String> {
        let Some(section) = &target.section else { return Ok(()) };
        let sections = match self.gateways.get(&target.object) {
            Some(listeners) => Some(listeners),
            None => self.routes.get(&target.object).map(|route| &route.rules),
        };
        if sections.is_some_and(|sections| sections.contains(section)) {
            return Ok(());
        }
        let ObjectRef { kind, namespace, name } = &target.object;
        Err(format!("No section name {section} found for {kind} {namespace}/{name}"))
    }

    /// Where the routes are that `target` covers.
    pub(super) fn places(&self, target: &Target) -> Vec<Place> {
        let covers = |place: &Place| {
            self.listeners.get(&(place.proxy, place.listener)).is_some_and(|listener| {
                listener.gateway == target.object
                    && target.section.as_ref().is_none_or(|section| *section == listener.section)
            })
        };
        if self.is_gateway(&target.object) {
            let places = self.routes.values().flat_map(|route| &route.places).map(|(place, _)| *place);
            return places.filter(covers).collect();
        }
        let places = self.routes.get(&target.object).into_iter().flat_map(|route| &route.places);
        let named = places.filter(|(_, rule)| target.section.is_none() || *rule == target.section);
        named.map(|(place, _)| *place).collect()
    }

    /// The same by listener: its Gateway, its name, and the places there.
    pub(super) fn places_by_listener(&self, target: &Target) -> Vec<(ObjectRef, String, Vec<Place>)> {
        let mut by_listener: BTreeMap<(usize, usize), Vec<Place>> = BTreeMap::new();
        for place in self.places(target) {
            by_listener.entry((place.proxy, place.listener)).or_default().push(place);
        }
        let named = by_listener.into_iter().filter_map(|(key, places)| {
            let Listener { gateway, section } = self.listeners.get(&key)?;
            Some((gateway.clone(), section.clone(), places))
        });
        named.collect()
    }
}

fn parents<V>(route: &AnyRoute<'_>, gateways: &BTreeMap<ObjectRef, V>) -> Vec<Parent> {
    let parents = route.parent_refs.iter();
    let gateway_parents = parents.filter(|parent| parent.kind.as_deref().is_none_or(|kind| kind == "Gateway"));
    gateway_parents
        .map(|parent| Parent {
            gateway: ObjectRef {
                kind: "Gateway",
                namespace: parent.namespace.clone().unwrap_or_else(|| route.object.namespace.clone()),
                name: parent.name.clone(),
            },
            section: parent.section_name.clone(),
        })
        .filter(|parent| gateways.contains_key(&parent.gateway))
        .collect()
}

//! Which listeners a route's parentRefs attach to, and what its status says about that.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use controller_api::route::ParentRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{
    fault::Fault,
    gateway::Gateway,
    hostname,
    inputs::Inputs,
    kept::Kept,
    status::{Conditions, ObjectStatus, Parent, Report},
};
use crate::{
    ir::{BareRoute, HttpRoute, ObjectRef},
    snapshot::Key,
};

/// The Gateway or ListenerSet that a parentRef names, if it names one.
pub(super) fn parent(parent: &ParentRef, route_namespace: &str) -> Option<ObjectRef> {
    let kind = match parent.kind.as_deref() {
        None | Some("Gateway") => "Gateway",
        Some("ListenerSet") => "ListenerSet",
        Some(_) => return None,
    };
    let namespace = parent.namespace.as_deref().unwrap_or(route_namespace).to_owned();
    let ours = parent.group.as_deref().is_none_or(|group| group == "gateway.networking.k8s.io");
    ours.then(|| ObjectRef { kind, namespace, name: parent.name.clone() })
}

/// The Gateway of ours that a parentRef leads to, perhaps through a ListenerSet.
pub(super) fn gateway<'g, 's>(
    gateways: &'g mut BTreeMap<Key, Gateway<'s>>,
    parent: &ParentRef,
    route_namespace: &str,
) -> Option<&'g mut Gateway<'s>> {
    let parent = self::parent(parent, route_namespace)?;
    match parent.kind {
        "Gateway" => gateways.get_mut(&(parent.namespace, parent.name)),
        _ => gateways.values_mut().find(|gateway| gateway.sets.contains_key(&parent)),
    }
}

/// Indices of the listeners that `parent` names and that let a route of this kind and namespace in.
pub(super) fn listeners(
    inputs: &Inputs<'_>,
    gateway: &Gateway<'_>,
    parent: &ParentRef,
    kind: &str,
    namespace: &str,
) -> Result<Vec<usize>, Fault> {
    let owner = self::parent(parent, namespace);
    let named = gateway.listeners.iter().enumerate().filter(|(_, listener)| {
        owner.as_ref() == Some(&listener.owner)
            && parent.section_name.as_ref().is_none_or(|section| *section == listener.spec.name)
            && parent.port.is_none_or(|port| port == listener.spec.port)
    });
    let mut named = named.peekable();
    if named.peek().is_none() {
        return Err(Fault::accepted("NoMatchingParent", "No listeners match this parent ref"));
    }
    let allowed = named.filter(|(_, listener)| listener.allows(inputs, kind, namespace));
    let allowed: Vec<usize> = allowed.map(|(index, _)| index).collect();
    if allowed.is_empty() {
        let message = "No listeners included by this parent ref allowed this attachment.";
        return Err(Fault::accepted("NotAllowedByListeners", message));
    }
    Ok(allowed)
}

/// A route that has been read as far as that does not depend on where it attaches.
pub(super) trait Attach {
    /// The hosts that it is for; empty when it is for any.
    fn hostnames(&self) -> &[String];

    /// Adds it to the listener at `index`, for `hosts`, or notes that it is to be added there.
    fn add_to(&mut self, gateway: &mut Gateway<'_>, index: usize, hosts: &BTreeSet<String>);

    /// Says what is wrong with it, wherever it attaches.
    fn report_faults(&self, conditions: &mut Conditions);
}

/// The parts of an object that say where it wants to attach.
pub(super) struct Object<'o, T> {
    /// Its age and generation.
    pub(super) metadata: &'o ObjectMeta,
    /// Where to.
    pub(super) parent_refs: &'o [ParentRef],
    /// The object itself.
    pub(super) spec: &'o T,
}

/// What became of a route that looks into HTTP requests.
#[derive(Debug)]
pub(super) struct Attached {
    status: Arc<ObjectStatus>,
    /// In step with those of the status.
    pub(super) parents: Box<[Parent]>,
    placed: Box<[Placed]>,
}

/// The part of a route that one listener takes.
#[derive(Debug)]
pub(super) struct Placed {
    /// The Gateway.
    pub(super) gateway: Key,
    /// Index of its listener.
    pub(super) listener: usize,
    /// Where the listener is served.
    pub(super) routes: Box<[Arc<BareRoute>]>,
}

impl Placed {
    fn put_on(&self, gateways: &mut BTreeMap<Key, Gateway<'_>>) {
        let Some(gateway) = gateways.get_mut(&self.gateway) else { return };
        let Some(listener) = gateway.listeners.get_mut(self.listener) else { return };
        listener.attached_routes += 1;
        if let Some(listener) = listener.http().and_then(|http| gateway.proxy.http.get_mut(http)) {
            listener.routes.extend(self.routes.iter().map(|route| HttpRoute::from(Arc::clone(route))));
        }
    }
}

/// Attaches every route of one kind to the listeners that take it, oldest first, and writes its status.
///
/// `objects` are in order of namespace and name; `read` is only called for routes with a Gateway of ours.
pub(super) fn attach_all<'o, T: 'o, R: Attach>(
    inputs: &Inputs<'_>,
    gateways: &mut BTreeMap<Key, Gateway<'_>>,
    report: &mut Report,
    kind: &'static str,
    objects: impl Iterator<Item = (&'o Key, Object<'o, T>)>,
    read: impl Fn(&ObjectRef, &'o T) -> R,
) {
    let mut objects: Vec<_> = objects.collect();
    objects.sort_by_key(|(_, object)| object.metadata.creation_timestamp.clone());
    for (key, object) in objects {
        if let Some((status, ..)) = attach_one(inputs, gateways, kind, (key, &object), &read) {
            report.add(&status);
        }
    }
}

/// The same for routes that look into HTTP requests, which have nothing to do with each other. What is in `kept` of them
/// holds still.
pub(super) fn attach_http<'o, T: Any + Send + Sync>(
    inputs: &Inputs<'_>,
    gateways: &mut BTreeMap<Key, Gateway<'_>>,
    kept: &mut Kept<Option<Arc<Attached>>>,
    report: &mut Report,
    kind: &'static str,
    objects: impl Iterator<Item = (&'o Key, &'o Arc<T>, Object<'o, T>)>,
    read: impl Fn(&ObjectRef, &'o T) -> super::route::Route,
) {
    let mut objects: Vec<_> = objects.collect();
    objects.sort_by_key(|(_, _, object)| object.metadata.creation_timestamp.clone());
    for (key, whole, object) in objects {
        let attached = kept.of(inputs, whole, || {
            let (status, parents, route) = attach_one(inputs, gateways, kind, (key, &object), &read)?;
            Some(Arc::new(Attached { status, parents: parents.into(), placed: route.placed().into() }))
        });
        if let Some(attached) = attached {
            attached.placed.iter().for_each(|placed| placed.put_on(gateways));
            report.parents.push((report.statuses.len(), Arc::clone(&attached)));
            report.add(&attached.status);
        }
    }
}

/// Reads a route, attaches it to its parents and works out its status. Nothing if none of them is ours.
fn attach_one<'o, T, R: Attach>(
    inputs: &Inputs<'_>,
    gateways: &mut BTreeMap<Key, Gateway<'_>>,
    kind: &'static str,
    ((namespace, name), object): (&Key, &Object<'o, T>),
    read: impl Fn(&ObjectRef, &'o T) -> R,
) -> Option<(Arc<ObjectStatus>, Vec<Parent>, R)> {
    object.parent_refs.iter().find(|parent| self::gateway(gateways, parent, namespace).is_some())?;
    let reference = ObjectRef { kind, namespace: namespace.clone(), name: name.clone() };
    let mut route = read(&reference, object.spec);
    // Two parentRefs may lead to the same listener.
    let mut attached = BTreeSet::new();
    let (mut statuses, mut parents): (Vec<Value>, Vec<Parent>) = (Vec::new(), Vec::new());
    for parent in object.parent_refs {
        let Some(gateway) = self::gateway(gateways, parent, namespace) else { continue };
        let (conditions, listeners) = attach(inputs, gateway, parent, &reference, &mut route, &mut attached);
        parents.push(Parent { generation: object.metadata.generation, listeners });
        statuses.push(json!({
            "parentRef": parent,
            "controllerName": inputs.settings.controller_name,
            "conditions": conditions.to_json(object.metadata.generation),
        }));
    }
    Some((ObjectStatus::new(&reference, json!({"parents": statuses})), parents, route))
}

/// Attaches to the listeners that `parent` names and returns their names; the conditions are those of this parent.
fn attach(
    inputs: &Inputs<'_>,
    gateway: &mut Gateway<'_>,
    parent: &ParentRef,
    reference: &ObjectRef,
    route: &mut impl Attach,
    attached: &mut BTreeSet<String>,
) -> (Conditions, Vec<String>) {
    let mut conditions = Conditions::default();
    let mut names = Vec::new();
    let kind = reference.kind;
    let refused = match listeners(inputs, gateway, parent, kind, &reference.namespace) {
        Ok(listeners) => {
            let met: Vec<usize> =
                listeners.into_iter().filter(|index| attach_to(route, gateway, *index, attached)).collect();
            names.extend(met.iter().filter_map(|index| Some(gateway.listeners.get(*index)?.name.clone())));
            met.is_empty().then(|| {
                let message = format!(
                    "There were no hostname intersections between the {kind} and this parent ref's Listener(s)."
                );
                Fault::accepted("NoMatchingListenerHostname", message)
            })
        }
        Err(fault) => Some(fault),
    };
    conditions.set("Accepted", true, "Accepted", "Route is accepted");
    route.report_faults(&mut conditions);
    if conditions.find("ResolvedRefs").is_none() {
        let message = "Resolved all the Object references for the Route";
        conditions.set("ResolvedRefs", true, "ResolvedRefs", message);
    }
    if let Some(Fault { condition, reason, message }) = refused {
        conditions.set(condition, false, reason, message);
    }
    (conditions, names)
}

/// Adds `route` to the listener at `index` unless it is among those `attached` already; whether they share any host.
fn attach_to(
    route: &mut impl Attach,
    gateway: &mut Gateway<'_>,
    index: usize,
    attached: &mut BTreeSet<String>,
) -> bool {
    let Some(listener) = gateway.listeners.get(index) else { return false };
    let hosts = hostname::meet(route.hostnames(), listener.hostname(), &gateway.neighbours(index));
    if hosts.is_empty() {
        return false;
    }
    if !attached.insert(listener.name.clone()) {
        return true;
    }
    route.add_to(gateway, index, &hosts);
    true
}

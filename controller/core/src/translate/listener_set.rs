//! ListenerSets: who may add listeners to a Gateway, and what their status says.

use std::collections::BTreeMap;

use gateway_api::apis::experimental::gateways::{
    Gateway, GatewayAllowedListenersNamespacesFrom as From, GatewayAllowedListenersNamespacesSelector,
};
use serde_json::{Value, json};

use super::{
    inputs::Inputs,
    listener::Listener,
    selector::Selector,
    status::{Conditions, Report},
};
use crate::{ir::ObjectRef, snapshot::Key};

pub(super) use crate::snapshot::ListenerSet as Object;

/// A ListenerSet of a Gateway of ours.
#[derive(Debug)]
pub(super) struct ListenerSet<'s> {
    /// Its name.
    pub(super) reference: ObjectRef,
    /// As the user wrote it.
    pub(super) object: &'s Object,
    /// The Gateway lets it in.
    pub(super) allowed: bool,
}

/// All sets by the Gateway that they name, in order of precedence: oldest first, then by namespace and name.
pub(super) fn by_gateway<'s>(inputs: &Inputs<'s>) -> BTreeMap<Key, Vec<(&'s Key, &'s Object)>> {
    let mut sets: BTreeMap<Key, Vec<(&Key, &Object)>> = BTreeMap::new();
    for (key, set) in inputs.snapshot.listener_sets.iter() {
        let parent = &set.spec.parent_ref;
        let group = parent.group.as_deref().unwrap_or("gateway.networking.k8s.io");
        if group != "gateway.networking.k8s.io" || parent.kind.as_deref().is_some_and(|kind| kind != "Gateway") {
            continue;
        }
        let namespace = parent.namespace.as_ref().unwrap_or(&key.0);
        sets.entry((namespace.clone(), parent.name.clone())).or_default().push((key, set.as_ref()));
    }
    for sets in sets.values_mut() {
        sets.sort_by_key(|(key, set)| (set.metadata.creation_timestamp.clone(), *key));
    }
    sets
}

impl<'s> ListenerSet<'s> {
    /// Asks `gateway` whether it lets the set in.
    pub(super) fn new(inputs: &Inputs<'_>, gateway: &Gateway, key: &'s Key, object: &'s Object) -> Self {
        let (namespace, name) = key;
        let reference = ObjectRef { kind: "ListenerSet", namespace: namespace.clone(), name: name.clone() };
        Self { reference, object, allowed: allows(inputs, gateway, namespace) }
    }

    /// Writes its status and says whether it is attached; `listeners` are all those of the Gateway and its sets.
    pub(super) fn report(&self, gateway: &ObjectRef, listeners: &[Listener<'_>], report: &mut Report) -> bool {
        let generation = self.object.metadata.generation;
        let own: Vec<&Listener<'_>> = listeners.iter().filter(|listener| listener.owner == self.reference).collect();
        let mut conditions = Conditions::default();
        if self.allowed {
            self::conditions(&own, &mut conditions);
        } else {
            let message = format!(
                "ListenerSet attachment from namespace {} not allowed by Gateway {}/{}",
                self.reference.namespace, gateway.namespace, gateway.name
            );
            conditions.set("Accepted", false, "NotAllowed", message);
            conditions.set("Programmed", false, "NotAllowed", "Not Programmed");
        }
        let attached = conditions.is_true("Accepted");
        let mut status = json!({"conditions": conditions.to_json(generation)});
        if let (true, Some(fields)) = (self.allowed, status.as_object_mut()) {
            let listeners: Value = own.iter().map(|listener| listener.status(generation)).collect();
            fields.insert("listeners".into(), listeners);
        }
        report.push(&self.reference, status);
        attached
    }
}

fn conditions(listeners: &[&Listener<'_>], conditions: &mut Conditions) {
    let with = |condition| listeners.iter().filter(|listener| listener.conditions.is_true(condition)).count();
    let (accepted, programmed) = (with("Accepted"), with("Programmed"));
    if accepted == listeners.len() {
        conditions.set("Accepted", true, "Accepted", "All listeners are accepted");
    } else if accepted > 0 {
        conditions.set("Accepted", true, "ListenersNotValid", "Some listeners are invalid");
    } else {
        conditions.set("Accepted", false, "ListenersNotValid", "No listeners are accepted");
    }
    if programmed == listeners.len() {
        conditions.set("Programmed", true, "Programmed", "All listeners are programmed");
    } else if programmed > 0 {
        conditions.set("Programmed", true, "Programmed", "Some listeners are not programmed");
    } else {
        conditions.set("Programmed", false, "ListenersNotValid", "No listeners are programmed");
    }
}

/// By default a Gateway lets nobody add listeners.
fn allows(inputs: &Inputs<'_>, gateway: &Gateway, namespace: &str) -> bool {
    let allowed = gateway.spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    let Some(namespaces) = allowed else { return false };
    match (&namespaces.from, &namespaces.selector) {
        (Some(From::All), _) => true,
        (Some(From::Same), _) => gateway.metadata.namespace.as_deref() == Some(namespace),
        (Some(From::Selector), Some(spec)) => {
            selector(spec).is_ok_and(|selector| selector.matches(inputs.namespace_labels(namespace)))
        }
        (Some(From::Selector | From::None) | None, _) => false,
    }
}

fn selector(spec: &GatewayAllowedListenersNamespacesSelector) -> Result<Selector, String> {
    let expressions = spec.match_expressions.iter().flatten().map(|expression| {
        let values = expression.values.as_deref().unwrap_or_default();
        (expression.key.as_str(), expression.operator.as_str(), values)
    });
    Selector::new(spec.match_labels.as_ref(), expressions)
}

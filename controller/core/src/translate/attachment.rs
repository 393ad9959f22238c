//! Which listeners a route's parentRef attaches to.

use std::collections::BTreeMap;

use controller_api::route::ParentRef;

use super::{fault::Fault, gateway::Gateway, inputs::Inputs};
use crate::{ir::ObjectRef, snapshot::Key};

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

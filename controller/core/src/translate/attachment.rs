//! Which listeners a route's parentRef attaches to.

use std::collections::BTreeMap;

use controller_api::route::ParentRef;

use super::{fault::Fault, gateway::Gateway, inputs::Inputs};
use crate::snapshot::Key;

/// The key of the Gateway that a parentRef names, if it names a Gateway.
pub(super) fn gateway_key(parent: &ParentRef, route_namespace: &str) -> Option<Key> {
    let group = parent.group.as_deref().unwrap_or("gateway.networking.k8s.io");
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    let namespace = parent.namespace.as_deref().unwrap_or(route_namespace);
    (group == "gateway.networking.k8s.io" && kind == "Gateway").then(|| (namespace.to_owned(), parent.name.clone()))
}

/// The Gateway of ours that a parentRef names.
pub(super) fn gateway<'g, 's>(
    gateways: &'g mut BTreeMap<Key, Gateway<'s>>,
    parent: &ParentRef,
    route_namespace: &str,
) -> Option<&'g mut Gateway<'s>> {
    gateways.get_mut(&gateway_key(parent, route_namespace)?)
}

/// Indices of the listeners that `parent` names and that let a route of this kind and namespace in.
pub(super) fn listeners(
    inputs: &Inputs<'_>,
    gateway: &Gateway<'_>,
    parent: &ParentRef,
    kind: &str,
    namespace: &str,
) -> Result<Vec<usize>, Fault> {
    let named = gateway.listeners.iter().enumerate().filter(|(_, listener)| {
        parent.section_name.as_ref().is_none_or(|section| *section == listener.spec.name)
            && parent.port.is_none_or(|port| port == listener.spec.port)
    });
    let mut named = named.peekable();
    if named.peek().is_none() {
        return Err(Fault::accepted("NoMatchingParent", "No listeners match this parent ref"));
    }
    let own = &gateway.proxy.gateway.namespace;
    let allowed = named.filter(|(_, listener)| listener.allows(inputs, kind, own, namespace));
    let allowed: Vec<usize> = allowed.map(|(index, _)| index).collect();
    if allowed.is_empty() {
        let message = "No listeners included by this parent ref allowed this attachment.";
        return Err(Fault::accepted("NotAllowedByListeners", message));
    }
    Ok(allowed)
}

//! The status of BackendTLSPolicies: one entry for every parent of a route that sends something to a target.

use std::collections::BTreeMap;

use controller_api::route::{BackendRef, ParentRef};
use serde_json::{Value, json};

use super::{
    attachment,
    backend_tls::{Found, Policy},
    gateway::Gateway,
    inputs::Inputs,
    status::{Conditions, Report, sentence},
};
use crate::{
    ir::ObjectRef,
    snapshot::{Key, Route},
};

/// As many as a policy's status can have.
const MAX_ANCESTORS: usize = 16;

/// Writes the statuses of all policies, also of those that nothing refers to.
pub(super) fn report(inputs: &Inputs<'_>, gateways: &mut BTreeMap<Key, Gateway<'_>>, report: &mut Report) {
    let mut ancestors: BTreeMap<&Key, Vec<Ancestor>> = BTreeMap::new();
    for route in inputs.snapshot.routes() {
        let parents: Vec<ParentRef> = parents(&route, gateways);
        if parents.is_empty() {
            continue;
        }
        for reference in &route.backend_refs {
            let Found { policy, conflicted } = found(inputs, &route.object.namespace, reference);
            for (policy, in_force) in policy
                .map(|policy| (policy, true))
                .into_iter()
                .chain(conflicted.into_iter().map(|policy| (policy, false)))
            {
                add(ancestors.entry(policy.key).or_default(), &parents, in_force);
            }
        }
    }
    for policy in inputs.backend_tls.all() {
        let (namespace, name) = policy.key;
        let generation = policy.object.metadata.generation;
        let of_policy = ancestors.remove(policy.key).unwrap_or_default();
        let entries = of_policy.iter().take(MAX_ANCESTORS).map(|ancestor| {
            json!({
                "ancestorRef": ancestor.parent,
                "controllerName": inputs.settings.controller_name,
                "conditions": conditions(policy, ancestor.in_force).to_json(generation),
            })
        });
        let object = ObjectRef { kind: "BackendTLSPolicy", namespace: namespace.clone(), name: name.clone() };
        report.push(&object, json!({"ancestors": entries.collect::<Value>()}));
    }
}

/// A parent of routes, and whether the policy is in force for one of them.
struct Ancestor {
    parent: ParentRef,
    in_force: bool,
}

fn add(ancestors: &mut Vec<Ancestor>, parents: &[ParentRef], in_force: bool) {
    for parent in parents {
        match ancestors.iter_mut().find(|known| known.parent == *parent) {
            Some(known) => known.in_force |= in_force,
            None => ancestors.push(Ancestor { parent: parent.clone(), in_force }),
        }
    }
}

/// The parentRefs of a route that lead to Gateways of ours, with their namespace.
fn parents(route: &Route<'_>, gateways: &mut BTreeMap<Key, Gateway<'_>>) -> Vec<ParentRef> {
    let namespace = &route.object.namespace;
    let ours = route.parent_refs.iter().filter(|parent| attachment::gateway(gateways, parent, namespace).is_some());
    let whole = ours.map(|parent| ParentRef {
        namespace: Some(parent.namespace.clone().unwrap_or_else(|| namespace.clone())),
        ..parent.clone()
    });
    whole.collect()
}

fn found<'p, 's>(inputs: &'p Inputs<'s>, namespace: &str, reference: &BackendRef) -> Found<'p, 's> {
    let namespace = reference.namespace.as_deref().unwrap_or(namespace).to_owned();
    let name = reference.name.clone();
    match (reference.group.as_deref().unwrap_or_default(), reference.kind.as_deref().unwrap_or("Service")) {
        ("", "Service") => {
            let service = inputs.snapshot.services.get(&(namespace.clone(), name.clone()));
            let ports = service.and_then(|service| service.spec.as_ref()?.ports.as_deref()).unwrap_or_default();
            let port = ports.iter().find(|port| Some(port.port) == reference.port);
            let Some(port) = port else { return Found::default() };
            inputs.backend_tls.of(&ObjectRef { kind: "Service", namespace, name }, port.name.as_deref())
        }
        ("multicluster.x-k8s.io", "ServiceImport") => {
            let import = inputs.snapshot.service_imports.get(&(namespace.clone(), name.clone()));
            let ports = import.map_or(&[][..], |import| &import.spec.ports);
            let Some(port) = ports.iter().find(|port| Some(port.port) == reference.port) else {
                return Found::default();
            };
            inputs.backend_tls.of(&ObjectRef { kind: "ServiceImport", namespace, name }, port.name.as_deref())
        }
        ("gateway.envoyproxy.io", "Backend") => {
            let section = reference.port.map(|port| port.to_string());
            inputs.backend_tls.of(&ObjectRef { kind: "Backend", namespace, name }, section.as_deref())
        }
        _ => Found::default(),
    }
}

fn conditions(policy: &Policy<'_>, in_force: bool) -> Conditions {
    let mut conditions = Conditions::default();
    match (&policy.tls, &policy.partial) {
        (Err(refusal), _) => {
            let message = sentence(&refusal.message);
            conditions.set("Accepted", false, "NoValidCACertificate", message.clone());
            conditions.set("ResolvedRefs", false, refusal.reason, message);
        }
        (Ok(_), partial) => {
            match partial {
                Some(refusal) => {
                    conditions.set("ResolvedRefs", false, refusal.reason, sentence(&refusal.message));
                }
                None => conditions.set("ResolvedRefs", true, "ResolvedRefs", "Resolved all the Object references."),
            }
            conditions.set("Accepted", true, "Accepted", "Policy has been accepted.");
        }
    }
    if !in_force {
        let message = "An older BackendTLSPolicy has the same target.";
        conditions.set("Accepted", false, "Conflicted", message);
    }
    conditions
}

//! The status of BackendTLSPolicies: one entry for every parent of a route that sends something to a target, and for every
//! policy that does.

use std::collections::BTreeMap;

use controller_api::route::ParentRef;
use serde_json::{Value, json};

use super::{
    attachment,
    backend::Reference,
    backend_tls::{Found, Policy},
    gateway::Gateway,
    grant::{self, Referrer, Target},
    inputs::Inputs,
    status::{Conditions, Report, sentence},
};
use crate::{
    ir::ObjectRef,
    snapshot::{Key, Route},
};

const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";
/// As many as a policy's status can have.
const MAX_ANCESTORS: usize = 16;

/// For whose sake each policy is used, by the policy.
#[derive(Debug, Default)]
pub(super) struct Uses<'s>(BTreeMap<&'s Key, Vec<Ancestor>>);

impl<'s> Uses<'s> {
    /// Uses by routes, for the sake of their parents.
    pub(super) fn by_routes<'g>(inputs: &Inputs<'s>, gateways: &mut BTreeMap<Key, Gateway<'g>>) -> Self {
        let mut uses = Self::default();
        if inputs.backend_tls.all().is_empty() {
            return uses;
        }
        for route in inputs.snapshot.routes() {
            let parents: Vec<ParentRef> = parents(&route, gateways);
            if parents.is_empty() {
                continue;
            }
            let ObjectRef { kind, namespace, .. } = &route.object;
            let from = Referrer { group: "gateway.networking.k8s.io", kind, namespace };
            /// The fields that both types have and share no trait for.
            macro_rules! reference {
                ($reference:expr) => {
                    Reference {
                        group: $reference.group.as_deref(),
                        kind: $reference.kind.as_deref(),
                        namespace: $reference.namespace.as_deref(),
                        name: &$reference.name,
                        port: $reference.port,
                    }
                };
            }
            let mirrors = route.mirrors.iter().map(|reference| reference!(reference));
            for reference in route.backend_refs.iter().map(|reference| reference!(reference)).chain(mirrors) {
                uses.add(inputs, from, reference, &parents);
            }
        }
        uses
    }

    /// A use by another policy, which refers to a backend of its own.
    pub(super) fn add_policy(&mut self, inputs: &Inputs<'s>, policy: &ObjectRef, reference: Reference<'_>) {
        let ancestor = ParentRef {
            group: Some(ENVOY_GATEWAY.into()),
            kind: Some(policy.kind.into()),
            namespace: Some(policy.namespace.clone()),
            name: policy.name.clone(),
            ..ParentRef::default()
        };
        let from = Referrer { group: ENVOY_GATEWAY, kind: policy.kind, namespace: &policy.namespace };
        self.add(inputs, from, reference, &[ancestor]);
    }

    /// A reference that nobody has granted uses nothing.
    fn add(&mut self, inputs: &Inputs<'s>, from: Referrer<'_>, reference: Reference<'_>, parents: &[ParentRef]) {
        let target = reference.target(from);
        if !grant::permits(inputs.snapshot, from, target) {
            return;
        }
        let Found { policy, conflicted } = found(inputs, target, reference.port);
        let conflicted = conflicted.into_iter().map(|policy| (policy, false));
        for (policy, in_force) in policy.map(|policy| (policy, true)).into_iter().chain(conflicted) {
            add(self.0.entry(policy.key).or_default(), parents, in_force);
        }
    }

    /// Writes the statuses of all policies, also of those that nothing refers to.
    pub(super) fn report(&self, inputs: &Inputs<'s>, report: &mut Report) {
        for policy in inputs.backend_tls.all() {
            let (namespace, name) = policy.key;
            let generation = policy.object.metadata.generation;
            let of_policy = self.0.get(policy.key).map_or(&[][..], Vec::as_slice);
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
}

/// A parent of routes or another policy, and whether the BackendTLSPolicy is in force for its sake.
#[derive(Debug)]
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

fn found<'p, 's>(inputs: &'p Inputs<'s>, target: Target<'_>, port: Option<i32>) -> Found<'p, 's> {
    let (namespace, name) = (target.namespace.to_owned(), target.name.to_owned());
    match (target.group, target.kind) {
        ("", "Service") => {
            let service = inputs.snapshot.services.get(&(namespace.clone(), name.clone()));
            let ports = service.and_then(|service| service.spec.as_ref()?.ports.as_deref()).unwrap_or_default();
            let Some(port) = ports.iter().find(|known| Some(known.port) == port) else { return Found::default() };
            inputs.backend_tls.of(&ObjectRef { kind: "Service", namespace, name }, port.name.as_deref())
        }
        ("multicluster.x-k8s.io", "ServiceImport") => {
            let import = inputs.snapshot.service_imports.get(&(namespace.clone(), name.clone()));
            let ports = import.map_or(&[][..], |import| &import.spec.ports);
            let Some(port) = ports.iter().find(|known| Some(known.port) == port) else {
                return Found::default();
            };
            inputs.backend_tls.of(&ObjectRef { kind: "ServiceImport", namespace, name }, port.name.as_deref())
        }
        ("gateway.envoyproxy.io", "Backend") => {
            let section = port.map(|port| port.to_string());
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

//! What a policy applies to.

use std::collections::{BTreeMap, BTreeSet};

use controller_api::policy::{
    LabelSelectorRequirement, NamespacesFrom, PolicyTargets, TargetNamespaces, TargetSelector,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::{
    ir::ObjectRef,
    translate::{
        grant::{self, Referrer},
        inputs::Inputs,
        selector::Selector,
    },
};

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";

/// One object, or a named section of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) object: ObjectRef,
    pub(super) section: Option<String>,
}

/// From the most specific to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Rule,
    Route,
    SetListener,
    Set,
    Listener,
    Gateway,
}

impl Level {
    pub(super) const ALL: [Self; 6] =
        [Self::Rule, Self::Route, Self::SetListener, Self::Set, Self::Listener, Self::Gateway];
}

impl Target {
    pub(super) fn level(&self) -> Level {
        match (self.object.kind, self.section.is_some()) {
            ("Gateway", true) => Level::Listener,
            ("Gateway", false) => Level::Gateway,
            ("ListenerSet", true) => Level::SetListener,
            ("ListenerSet", false) => Level::Set,
            (_, true) => Level::Rule,
            (_, false) => Level::Route,
        }
    }

    /// As in `Unable to target …`.
    pub(super) fn describe(&self) -> String {
        let ObjectRef { kind, name, .. } = &self.object;
        match (self.level(), &self.section) {
            (Level::Listener | Level::SetListener, Some(section)) => format!("Listener {name}/{section}"),
            (Level::Rule, Some(section)) => format!("RouteRule {name}/{section}"),
            _ => format!("{kind} {name}"),
        }
    }
}

/// The kinds that a policy can target here. Others are left alone, as are objects that do not exist: both may be another
/// controller's.
fn kind(group: Option<&str>, kind: &str) -> Option<&'static str> {
    match (group.unwrap_or(GATEWAY_API), kind) {
        (GATEWAY_API, "Gateway") => Some("Gateway"),
        (GATEWAY_API, "ListenerSet") => Some("ListenerSet"),
        (GATEWAY_API, "HTTPRoute") => Some("HTTPRoute"),
        (GATEWAY_API, "GRPCRoute") => Some("GRPCRoute"),
        _ => None,
    }
}

/// What `policy` targets: first what its selectors find, oldest first, then what it names and they have not found.
pub(super) fn expand(inputs: &Inputs<'_>, policy: &ObjectRef, targets: &PolicyTargets) -> Vec<Target> {
    let mut found: Vec<(Option<Time>, Target)> = Vec::new();
    for selector in &targets.target_selectors {
        found.extend(select(inputs, policy, selector));
    }
    found.sort();
    let named = match &targets.target_ref {
        Some(target) => std::slice::from_ref(target),
        None => &targets.target_refs,
    };
    let named = named.iter().filter_map(|target| {
        let kind = kind(Some(&target.group), &target.kind)?;
        let section = target.section_name.clone().filter(|section| !section.is_empty());
        let object = ObjectRef { kind, namespace: policy.namespace.clone(), name: target.name.clone() };
        Some(Target { object, section })
    });
    let mut seen = BTreeSet::new();
    found.into_iter().map(|(_, target)| target).chain(named).filter(|target| seen.insert(target.clone())).collect()
}

fn select(inputs: &Inputs<'_>, policy: &ObjectRef, selector: &TargetSelector) -> Vec<(Option<Time>, Target)> {
    let Some(kind) = kind(selector.group.as_deref(), &selector.kind) else { return Vec::new() };
    let Some(labels) = labels(&selector.match_labels, &selector.match_expressions) else { return Vec::new() };
    let from = Referrer { group: ENVOY_GATEWAY, kind: policy.kind, namespace: &policy.namespace };
    let matches = |meta: &ObjectMeta| {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let to = grant::Target { group: GATEWAY_API, kind, namespace, name };
        let selected = labels.matches(meta.labels.as_ref())
            && in_namespaces(inputs, selector.namespaces.as_ref(), &policy.namespace, namespace)
            && grant::permits(inputs.snapshot, from, to);
        let object = || ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        selected.then(|| (meta.creation_timestamp.clone(), Target { object: object(), section: None }))
    };
    match kind {
        "Gateway" => inputs.snapshot.gateways.values().filter_map(|gateway| matches(&gateway.metadata)).collect(),
        "ListenerSet" => inputs.snapshot.listener_sets.values().filter_map(|set| matches(&set.metadata)).collect(),
        _ => {
            let routes = inputs.snapshot.routes().filter(|route| route.object.kind == kind);
            routes.filter_map(|route| matches(route.metadata)).collect()
        }
    }
}

/// A selector with a requirement that makes no sense selects nothing.
fn labels(labels: &BTreeMap<String, String>, expressions: &[LabelSelectorRequirement]) -> Option<Selector> {
    let expressions = expressions.iter().map(|one| (one.key.as_str(), one.operator.as_str(), one.values.as_slice()));
    Selector::new(Some(labels), expressions).ok()
}

fn in_namespaces(inputs: &Inputs<'_>, namespaces: Option<&TargetNamespaces>, own: &str, namespace: &str) -> bool {
    let Some(namespaces) = namespaces else { return namespace == own };
    match (namespaces.from, &namespaces.selector) {
        (NamespacesFrom::Same, _) => namespace == own,
        (NamespacesFrom::All, _) => true,
        (NamespacesFrom::Selector, Some(selector)) => labels(&selector.match_labels, &selector.match_expressions)
            .is_some_and(|selector| selector.matches(inputs.namespace_labels(namespace))),
        (NamespacesFrom::Selector, None) => false,
    }
}

//! `controller rbac`: what the controller has to be allowed to do, by what the code does.

use std::io::{self, Write};

use clap::Args;
use controller_core::snapshot::{KINDS, Kind};
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Serialize;

use crate::{
    apply,
    cluster::REPORTED,
    scope::{self, Place},
};

/// Print what the controller has to be allowed to do, as rules of roles
#[derive(Debug, Args)]
pub struct Options {}

/// Kinds of the reported groups whose status is nobody's, or not ours.
const WITHOUT_STATUS: [&str; 2] = ["ReferenceGrant", "HTTPRouteFilter"];

/// The rules of all roles of one mode.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Rules {
    /// For the cluster as a whole.
    pub cluster: Vec<PolicyRule>,
    /// For each namespace that is served, or for all of them.
    pub watched: Vec<PolicyRule>,
    /// For the controller's own namespace.
    pub own: Vec<PolicyRule>,
}

/// The rules of both modes.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Modes {
    /// Fleets run in the controller's namespace.
    pub controller_namespace: Rules,
    /// Fleets run in the namespaces of their Gateways.
    pub gateway_namespace: Rules,
}

impl Modes {
    /// What the code needs.
    pub fn all() -> Self {
        Self { controller_namespace: rules(false), gateway_namespace: rules(true) }
    }
}

/// Writes the rules of both modes as YAML, the chart's `files/rules.yaml`.
pub fn print(output: &mut impl Write) -> io::Result<()> {
    let text = serde_saphyr::to_string(&Modes::all()).map_err(io::Error::other)?;
    write!(output, "# Made from the code by `controller rbac`, which says what each place is.\n{text}")
}

/// What the controller does when fleets run in their Gateways' namespaces, or in its own.
pub fn rules(gateway_namespace_mode: bool) -> Rules {
    let mut rules = Rules::default();
    for kind in KINDS {
        for place in scope::places(kind, gateway_namespace_mode) {
            let at = rules.at(*place);
            allow(at, kind.group, kind.plural, &["list", "watch"]);
            if has_status(kind) {
                allow(at, kind.group, &format!("{}/status", kind.plural), &["get", "patch"]);
            }
        }
    }
    for place in scope::fleets(gateway_namespace_mode) {
        for kind in &apply::KINDS {
            // Which is listed to find what is wanted no longer, and read before something of that name is taken over.
            allow(rules.at(*place), kind.group, kind.plural, &["get", "list", "create", "patch", "delete"]);
        }
    }
    // On the objects whose statuses it writes.
    allow(&mut rules.watched, "events.k8s.io", "events", &["create", "patch"]);
    allow(&mut rules.own, "coordination.k8s.io", "leases", &["get", "create", "update"]);
    // By which Envoys show who they are.
    allow(&mut rules.cluster, "authentication.k8s.io", "tokenreviews", &["create"]);
    rules.cluster = joined(rules.cluster);
    rules.watched = joined(rules.watched);
    rules.own = joined(rules.own);
    rules
}

impl Rules {
    fn at(&mut self, place: Place) -> &mut Vec<PolicyRule> {
        match place {
            Place::Cluster => &mut self.cluster,
            Place::Watched => &mut self.watched,
            Place::Own => &mut self.own,
        }
    }
}

fn has_status(kind: &Kind) -> bool {
    REPORTED.contains(&kind.group) && !WITHOUT_STATUS.contains(&kind.name)
}

/// One rule a resource, whatever asks for it.
fn allow(rules: &mut Vec<PolicyRule>, group: &str, resource: &str, verbs: &[&str]) {
    let is_same = |rule: &&mut PolicyRule| {
        rule.api_groups.iter().flatten().eq([group]) && rule.resources.iter().flatten().eq([resource])
    };
    let verbs = verbs.iter().map(|verb| (*verb).to_owned());
    match rules.iter_mut().find(is_same) {
        Some(rule) => {
            for verb in verbs.filter(|verb| !rule.verbs.contains(verb)).collect::<Vec<_>>() {
                rule.verbs.push(verb);
            }
        }
        None => rules.push(PolicyRule {
            api_groups: Some(vec![group.to_owned()]),
            resources: Some(vec![resource.to_owned()]),
            verbs: verbs.collect(),
            ..PolicyRule::default()
        }),
    }
}

/// Resources of a group with the same verbs in one rule.
fn joined(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut joined: Vec<PolicyRule> = Vec::new();
    for mut rule in rules {
        rule.verbs.sort_by_key(|verb| ORDER.iter().position(|known| known == verb));
        let same = |other: &&mut PolicyRule| other.api_groups == rule.api_groups && other.verbs == rule.verbs;
        match joined.iter_mut().find(same) {
            Some(other) => other.resources.get_or_insert_default().extend(rule.resources.into_iter().flatten()),
            None => joined.push(rule),
        }
    }
    joined
}

/// The order in which verbs are told.
const ORDER: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// When this fails: `controller rbac > deploy/chart/files/rules.yaml && deploy/manifests/generate.sh`.
    #[test]
    fn the_chart_has_the_rules_of_the_code() {
        let mut printed = Vec::new();
        print(&mut printed).unwrap();
        let chart = include_str!("../../deploy/chart/files/rules.yaml");
        assert_eq!(String::from_utf8(printed).unwrap(), chart, "run `controller rbac > deploy/chart/files/rules.yaml`");
    }

    #[test]
    fn nothing_is_changed_outside_of_the_places_for_it() {
        let writes = |rules: &[PolicyRule]| {
            let writes = rules
                .iter()
                .filter(|rule| rule.verbs.iter().any(|verb| !["get", "list", "watch"].contains(&verb.as_str())));
            let resources: Vec<String> = writes.flat_map(|rule| rule.resources.clone().unwrap()).collect();
            resources.into_iter().filter(|resource| !resource.ends_with("/status")).collect::<Vec<_>>()
        };
        let rules = rules(false);
        assert_eq!(writes(&rules.cluster), ["tokenreviews"]);
        assert_eq!(writes(&rules.watched), ["events"]);
        assert!(!writes(&rules.own).iter().any(|resource| resource == "secrets"));
        assert_eq!(writes(&super::rules(true).cluster), ["tokenreviews"]);
    }
}

//! Attachment: policies meet routes, level by level, and their statuses say how they fared.

mod candidates;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use controller_api::policy::{MergeType, ParentReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;

use self::{
    candidates::Candidates,
    topology::{Place, Topology},
};
use super::{
    Decision,
    ancestors::{self, Ancestors},
    kind::{Kind, Named, Parent, Resolution},
    target::{self, Level, Target},
};
use crate::{
    ir::{Action, HttpRoute, ObjectRef, Proxy},
    translate::{Report, inputs::Inputs, status},
};

/// One policy and how it has fared so far.
struct Policy<'s, K: Kind> {
    object: ObjectRef,
    created: Option<Time>,
    generation: Option<i64>,
    spec: &'s K::Spec,
    merge_type: Option<MergeType>,
    targets: Vec<Target>,
    ancestors: Ancestors,
}

/// Puts the policies of one kind on the routes of `proxies` and reports on them.
pub(super) fn attach<K: Kind>(
    kind: &mut K,
    inputs: &Inputs<'_>,
    proxies: &mut [Proxy],
    report: &mut Report,
) -> Vec<Decision> {
    let policies = policies::<K>(inputs);
    let mut attachment = Attachment {
        topology: Topology::new(inputs.snapshot, proxies),
        holders: holders(&policies),
        policies,
        kind,
        proxies,
        resolutions: BTreeMap::new(),
        candidates: Candidates::default(),
        overriding: BTreeMap::new(),
        merged: BTreeMap::new(),
    };
    for level in Level::ALL {
        for index in 0..attachment.policies.len() {
            for target in attachment.policies[index].targets.clone() {
                if target.level() == level {
                    attachment.attach(index, &target);
                }
            }
        }
    }
    attachment.finish(inputs, report)
}

/// Oldest first, then by namespace and name: the order in which policies get their way.
fn policies<'s, K: Kind>(inputs: &Inputs<'s>) -> Vec<Policy<'s, K>> {
    let objects = K::objects(inputs.snapshot).iter();
    let mut policies: Vec<_> = objects
        .map(|((namespace, name), policy)| {
            let object = ObjectRef { kind: K::NAME, namespace: namespace.clone(), name: name.clone() };
            let spec = K::spec(policy);
            Policy {
                created: policy.meta().creation_timestamp.clone(),
                generation: policy.meta().generation,
                targets: target::expand(inputs, &object, K::targets(spec)),
                merge_type: K::targets(spec).merge_type,
                ancestors: Ancestors::default(),
                object,
                spec,
            }
        })
        .collect();
    policies.sort_by(|a, b| (&a.created, &a.object).cmp(&(&b.created, &b.object)));
    policies
}

/// The first policy at each exact target; later ones are in conflict with it.
fn holders<K: Kind>(policies: &[Policy<'_, K>]) -> BTreeMap<Target, usize> {
    let mut holders = BTreeMap::new();
    for (index, policy) in policies.iter().enumerate() {
        for target in &policy.targets {
            holders.entry(target.clone()).or_insert(index);
        }
    }
    holders
}

type Resolved<K> = Rc<Resolution<<K as Kind>::Effective>>;

struct Attachment<'p, 's, K: Kind> {
    kind: &'p mut K,
    proxies: &'p mut [Proxy],
    policies: Vec<Policy<'s, K>>,
    topology: Topology,
    holders: BTreeMap<Target, usize>,
    /// By policy and the parent it is merged into.
    resolutions: BTreeMap<(usize, Option<usize>), Resolved<K>>,
    candidates: Candidates,
    /// Routes with a policy of their own, by Gateway or ListenerSet and the section that their parentRef names.
    overriding: BTreeMap<ObjectRef, BTreeMap<Option<String>, BTreeSet<String>>>,
    /// Routes whose own policy is merged into this one.
    merged: BTreeMap<usize, BTreeSet<String>>,
}

impl<K: Kind> Attachment<'_, '_, K> {
    fn attach(&mut self, policy: usize, target: &Target) {
        let Some(references) = self.ancestors(target) else { return };
        if let Err(message) = self.topology.check_section(target) {
            self.set(policy, &references, "Accepted", false, "TargetNotFound", &message);
            return;
        }
        let holder = self.holders.get(target).copied().unwrap_or(policy);
        if holder != policy {
            let what = target.describe();
            let message = format!("Unable to target {what}, another {} has already attached to it", K::NAME);
            self.set(policy, &references, "Accepted", false, "Conflicted", &message);
            let reason = format!("{} has the same target and was there first", self.policies[holder].object);
            self.candidates.lose(self.topology.places(target), &self.policies[policy].object, &reason);
            return;
        }
        let merge_type = self.policies[policy].merge_type.filter(|_| target.level() <= Level::Route);
        if let Some(merge_type) = merge_type {
            self.apply_merged(policy, target, merge_type);
        } else {
            self.apply(policy, None, &self.topology.places(target), target, &references);
        }
        self.note_override(target);
        self.policies[policy].ancestors.accept(&references);
        self.warn(policy, &references);
        self.report_override(policy, target, &references);
    }

    /// Whom the status of a policy with this target is about; `None` if the target is not ours to know.
    fn ancestors(&self, target: &Target) -> Option<Vec<ParentReference>> {
        if target.level() > Level::Route {
            let known = self.topology.has_listeners(&target.object);
            return known.then(|| vec![ancestors::reference(&target.object, target.section.as_deref())]);
        }
        // A route of other controllers' Gateways alone is theirs.
        let parents = self.topology.parents(&target.object).filter(|parents| !parents.is_empty())?.iter();
        Some(parents.map(|parent| ancestors::reference(&parent.object, parent.section.as_deref())).collect())
    }

    /// Merges a route's policy with that of each listener or Gateway that the route is attached to. What comes of it is
    /// said about the listener, even where the route's parentRef names none.
    fn apply_merged(&mut self, policy: usize, target: &Target, merge_type: MergeType) {
        for (listener, places) in self.topology.places_by_listener(target) {
            let reference = [ancestors::reference(&listener.parent, Some(&listener.section))];
            let own = Target { object: listener.parent.clone(), section: Some(listener.section) };
            let set = Target { object: listener.parent, section: None };
            let gateway = Target { object: listener.gateway, section: None };
            let parent = [own, set, gateway].iter().find_map(|target| self.holders.get(target)).copied();
            let applied = self.apply(policy, parent.map(|parent| (parent, merge_type)), &places, target, &reference);
            if let Some(parent) = parent.filter(|_| applied) {
                let message = format!("Merged with policy {}", self.full_name(parent));
                self.set(policy, &reference, "Merged", true, "Merged", &message);
                let route = format!("{}/{}", target.object.namespace, target.object.name);
                self.merged.entry(parent).or_default().insert(route);
                self.candidates.merge(&places, &self.policies[policy].object, &self.policies[parent].object);
            }
        }
    }

    /// Puts the policy on the routes that have none yet; whether it is free of errors.
    fn apply(
        &mut self,
        policy: usize,
        parent: Option<(usize, MergeType)>,
        places: &[Place],
        target: &Target,
        references: &[ParentReference],
    ) -> bool {
        let resolution = self.resolve(policy, parent);
        if !resolution.errors.is_empty() {
            let message = status::sentence(&resolution.errors.join("\n"));
            self.set(policy, references, "Accepted", false, "Invalid", &message);
        }
        let broken = resolution.effective.is_none();
        let won = self.candidates.offer(places, &self.policies[policy].object, target, broken);
        for place in won {
            let Some(route) = place.find(self.proxies) else { continue };
            match &resolution.effective {
                Some(effective) => *K::slot(route) = Some(Arc::clone(effective)),
                None => close(route),
            }
        }
        resolution.errors.is_empty()
    }

    fn resolve(&mut self, policy: usize, parent: Option<(usize, MergeType)>) -> Resolved<K> {
        let key = (policy, parent.map(|(parent, _)| parent));
        if let Some(known) = self.resolutions.get(&key) {
            return Rc::clone(known);
        }
        let named = |index: usize| Named { object: &self.policies[index].object, spec: self.policies[index].spec };
        let parent = parent.map(|(parent, merge_type)| Parent { policy: named(parent), merge_type });
        let resolution = Rc::new(self.kind.resolve(named(policy), parent));
        self.resolutions.insert(key, Rc::clone(&resolution));
        resolution
    }

    /// Remembers that a route has a policy of its own, which its parents' policies then say.
    fn note_override(&mut self, target: &Target) {
        let Some(parents) = self.topology.parents(&target.object) else { return };
        let route = format!("{}/{}", target.object.namespace, target.object.name);
        for parent in parents {
            let sections = self.overriding.entry(parent.object.clone()).or_default();
            sections.entry(parent.section.clone()).or_default().insert(route.clone());
        }
    }

    fn warn(&mut self, policy: usize, references: &[ParentReference]) {
        let spec = self.policies[policy].spec;
        let mut deprecated = K::deprecated(spec);
        if K::targets(spec).target_ref.is_some() {
            deprecated.push(("spec.targetRef", "spec.targetRefs"));
        }
        let mut messages: Vec<_> =
            deprecated.iter().map(|(old, new)| format!("{old} is deprecated, use {new} instead")).collect();
        let ignored = K::ignored(spec);
        messages.extend(ignored.iter().map(|field| format!("spec.{field} is not supported yet and has no effect")));
        messages.sort();
        let reason = match (deprecated.is_empty(), ignored.is_empty()) {
            (true, true) => return,
            (false, true) => "DeprecatedField",
            (true, false) => "UnsupportedField",
            (false, false) => "Warnings",
        };
        self.set(policy, references, "Warning", true, reason, &messages.join("; "));
    }

    fn report_override(&mut self, policy: usize, target: &Target, references: &[ParentReference]) {
        let merged = self.merged.get(&policy).cloned().unwrap_or_default();
        if !merged.is_empty() {
            let routes = list(&merged);
            let message = format!("This policy is being merged by other {} for these routes: {routes}", K::PLURAL);
            self.set(policy, references, "Merged", true, "Merged", &message);
        }
        let message = match target.level() {
            Level::Rule => return,
            Level::Route => {
                let rules = self.sections_held(&target.object);
                if rules.is_empty() {
                    return;
                }
                format!("{} for these route rules: {}", K::RULE_PLURAL, list(&rules))
            }
            Level::SetListener | Level::Set | Level::Listener | Level::Gateway => {
                let parts = self.overriding_parts(target, &merged);
                if parts.is_empty() {
                    return;
                }
                format!("{} for {}", K::PLURAL, parts.join(" and "))
            }
        };
        let message = format!("This policy is being overridden by other {message}");
        self.set(policy, references, "Overridden", true, "Overridden", &message);
    }

    /// What overrides a policy of a Gateway, a ListenerSet or a listener, in upstream's words.
    fn overriding_parts(&self, target: &Target, merged: &BTreeSet<String>) -> Vec<String> {
        let level = target.level();
        // What is below a Gateway in its sets counts as well.
        let sets = if level == Level::Gateway { self.topology.sets(&target.object) } else { Vec::new() };
        let held = |object: &ObjectRef| {
            let full = |section| format!("{}/{}/{section}", object.namespace, object.name);
            self.sections_held(object).into_iter().map(full).collect::<BTreeSet<_>>()
        };
        let gateway_listeners = if level == Level::Gateway { held(&target.object) } else { BTreeSet::new() };
        let with_policy = sets.iter().filter(|set| {
            let whole = Target { object: (**set).clone(), section: None };
            self.holders.contains_key(&whole)
        });
        let with_policy: BTreeSet<_> = with_policy.map(|set| format!("{}/{}", set.namespace, set.name)).collect();
        let mut set_listeners: BTreeSet<_> = sets.iter().flat_map(|set| held(set)).collect();
        if level == Level::Set {
            set_listeners = held(&target.object);
        }
        let objects = sets.iter().copied().chain([&target.object]);
        let sections = objects.filter_map(|object| self.overriding.get(object)).flatten();
        let here = sections
            .filter(|(section, _)| target.section.is_none() || section.is_none() || **section == target.section);
        let routes = here.flat_map(|(_, routes)| routes).filter(|route| !merged.contains(*route)).cloned().collect();
        let parts = [
            ("these gateway listeners", gateway_listeners),
            ("these listenersets", with_policy),
            ("these listenerset listeners", set_listeners),
            ("these routes", routes),
        ];
        parts
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what}: {}", list(names)))
            .collect()
    }

    /// The sections of `object`, as far as they exist, that have a policy of their own.
    fn sections_held(&self, object: &ObjectRef) -> BTreeSet<String> {
        let whole = Target { object: object.clone(), section: None };
        let held = self.holders.range(whole..).map(|(target, _)| target).take_while(|target| target.object == *object);
        let known = held.filter(|target| self.topology.check_section(target).is_ok());
        known.filter_map(|target| target.section.clone()).collect()
    }

    fn full_name(&self, policy: usize) -> String {
        let ObjectRef { namespace, name, .. } = &self.policies[policy].object;
        format!("{namespace}/{name}")
    }

    fn set(
        &mut self,
        policy: usize,
        references: &[ParentReference],
        r#type: &'static str,
        status: bool,
        reason: &str,
        message: &str,
    ) {
        self.policies[policy].ancestors.set(references, r#type, status, reason, message);
    }

    fn finish(self, inputs: &Inputs<'_>, report: &mut Report) -> Vec<Decision> {
        for policy in self.policies {
            let status = policy.ancestors.into_status(&inputs.settings.controller_name, policy.generation);
            report.push(&policy.object, status);
        }
        self.candidates.into_decisions(self.proxies)
    }
}

/// A route whose policy is broken answers 500 rather than doing without it.
fn close(route: &mut HttpRoute) {
    route.action = Action::Respond { status: 500, body: String::new(), format: false };
}

/// As upstream prints a list.
fn list<S: AsRef<str>>(names: &BTreeSet<S>) -> String {
    let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
    format!("[{}]", names.join(" "))
}

//! Attachment: policies meet routes, level by level, and their statuses say how they fared.

mod candidates;
mod holders;
mod topology;

use std::{
    any::Any,
    borrow::Cow,
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    slice,
    sync::Arc,
};

use controller_api::{
    backend_ref::BackendRef,
    policy::{MergeType, ParentReference},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;

pub(super) use self::topology::{Shape, Topology};
use self::{candidates::Candidates, holders::Holders, topology::Place};
use super::{
    ancestors::{self, Ancestors},
    in_force::InForce,
    kind::{Kind, Named, Parent, Resolution},
    target::{self, Level, Target},
};
use crate::{
    ir::ObjectRef,
    snapshot::Changes,
    translate::{
        Report,
        inputs::Inputs,
        kept::Kept,
        status::{self, ObjectStatus},
    },
};

/// One policy, as far as that depends on nothing but the object.
#[derive(Debug)]
struct Policy<O> {
    object: Arc<ObjectRef>,
    whole: Arc<O>,
    created: Option<Time>,
    generation: Option<i64>,
    merge_type: Option<MergeType>,
    targets: Box<[Target]>,
    /// Reason and message of the condition `Warning`.
    warning: Option<(&'static str, Cow<'static, str>)>,
}

/// A policy's status, and what it says.
type Told = (Arc<Ancestors>, Arc<ObjectStatus>);

/// What a translation leaves for the next one of the policies of one kind, whose objects are `O` and come to `E`.
#[derive(Debug)]
pub(super) struct Memory<O, E> {
    policies: Kept<Arc<Policy<O>>>,
    /// Of those that are not merged with another.
    resolutions: Kept<Arc<Resolution<E>>>,
    statuses: Kept<Told>,
}

impl<O, E> Default for Memory<O, E> {
    fn default() -> Self {
        Self { policies: Kept::default(), resolutions: Kept::default(), statuses: Kept::default() }
    }
}

impl<O, E> Memory<O, E> {
    /// Begins a translation.
    pub(super) fn begin(&mut self, changes: &Changes) {
        self.policies.begin(changes);
        self.resolutions.begin(changes);
        self.statuses.begin(changes);
    }

    /// Ends a translation.
    pub(super) fn end(&mut self) {
        self.policies.end();
        self.resolutions.end();
        self.statuses.end();
    }
}

/// What the policies of one kind came to, beside what is in force.
pub(super) struct Outcome {
    /// Who wanted to be in force where.
    pub(super) candidates: Candidates,
    /// What `extauth` is asked for them.
    pub(super) auth_policies: Vec<proto::extauth::Policy>,
    /// Backends that they refer to, each beside the policy that does.
    pub(super) backend_refs: Vec<(ObjectRef, BackendRef)>,
}

/// Puts the policies of one kind on the routes of `topology` and reports on them.
pub(super) fn attach<K: Kind>(
    kind: &K,
    inputs: &Inputs<'_>,
    topology: &Topology,
    in_force: &mut [InForce],
    memory: &mut Memory<K::Object, K::Effective>,
    report: &mut Report,
) -> Outcome {
    let policies = policies::<K>(inputs, &mut memory.policies);
    let mut attachment = Attachment {
        kind,
        inputs,
        topology,
        in_force,
        holders: Holders::new(policies.iter().map(|policy| &*policy.targets)),
        policies: &policies,
        ancestors: policies.iter().map(|_| Ancestors::default()).collect(),
        resolutions: &mut memory.resolutions,
        merged_resolutions: BTreeMap::new(),
        candidates: Candidates::new(topology.len()),
        targeted: Vec::new(),
        overriding: OnceCell::new(),
        merged: BTreeMap::new(),
        auth_policies: Vec::new(),
        backend_refs: Vec::new(),
    };
    for level in Level::ALL {
        for (index, policy) in policies.iter().enumerate() {
            for target in &policy.targets {
                if target.level() == level {
                    attachment.attach(index, target);
                }
            }
        }
    }
    let Attachment { candidates, auth_policies, backend_refs, ancestors, .. } = attachment;
    tell(inputs, &policies, ancestors, &mut memory.statuses, report);
    Outcome { candidates, auth_policies, backend_refs }
}

/// Writes the statuses of `policies`.
fn tell<O: Any + Send + Sync>(
    inputs: &Inputs<'_>,
    policies: &[Arc<Policy<O>>],
    ancestors: Vec<Ancestors>,
    kept: &mut Kept<Told>,
    report: &mut Report,
) {
    for (policy, ancestors) in policies.iter().zip(ancestors) {
        let holds = |(known, _): &Told| **known == ancestors;
        let (_, status) = kept.of_if(inputs, &policy.whole, holds, || {
            let status = ancestors.to_status(&inputs.settings.controller_name, policy.generation);
            (Arc::new(ancestors.clone()), ObjectStatus::new(&policy.object, status))
        });
        report.add(&status);
    }
}

/// Oldest first, then by namespace and name: the order in which policies get their way.
fn policies<K: Kind>(inputs: &Inputs<'_>, kept: &mut Kept<Arc<Policy<K::Object>>>) -> Vec<Arc<Policy<K::Object>>> {
    let objects = K::objects(inputs.snapshot).iter();
    let mut policies: Vec<_> = objects
        .map(|((namespace, name), whole)| {
            let read = || {
                let object = ObjectRef { kind: K::NAME, namespace: namespace.clone(), name: name.clone() };
                Arc::new(Policy::read::<K>(inputs, Arc::new(object), whole))
            };
            // What selectors find depends on the labels of others.
            let selects = !K::targets(K::spec(whole)).target_selectors.is_empty();
            if selects { read() } else { kept.of(inputs, whole, read) }
        })
        .collect();
    policies.sort_by(|a, b| (&a.created, &a.object).cmp(&(&b.created, &b.object)));
    policies
}

impl<O> Policy<O> {
    fn read<K: Kind<Object = O>>(inputs: &Inputs<'_>, object: Arc<ObjectRef>, whole: &Arc<O>) -> Self
    where
        O: Resource,
    {
        let spec = K::spec(whole);
        Self {
            created: whole.meta().creation_timestamp.clone(),
            generation: whole.meta().generation,
            targets: target::expand(inputs, &object, K::targets(spec)).into(),
            merge_type: K::targets(spec).merge_type,
            warning: warning::<K>(spec),
            whole: Arc::clone(whole),
            object,
        }
    }
}

/// Reason and message of the condition `Warning`, if there is a reason.
fn warning<K: Kind>(spec: &K::Spec) -> Option<(&'static str, Cow<'static, str>)> {
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
        (true, true) => return None,
        (false, true) => "DeprecatedField",
        (true, false) => "UnsupportedField",
        (false, false) => "Warnings",
    };
    Some((reason, messages.join("; ").into()))
}

type Resolved<K> = Arc<Resolution<<K as Kind>::Effective>>;
/// Routes by Gateway or ListenerSet and the section that their parentRef names.
type ByParent<'p> = BTreeMap<&'p ObjectRef, BTreeMap<Option<&'p str>, BTreeSet<String>>>;

struct Attachment<'p, 's, K: Kind> {
    kind: &'p K,
    inputs: &'p Inputs<'s>,
    topology: &'p Topology,
    in_force: &'p mut [InForce],
    policies: &'p [Arc<Policy<K::Object>>],
    /// How each policy has fared so far.
    ancestors: Vec<Ancestors>,
    holders: Holders<'p>,
    resolutions: &'p mut Kept<Resolved<K>>,
    /// By policy and the parent it is merged into.
    merged_resolutions: BTreeMap<(usize, usize), Resolved<K>>,
    candidates: Candidates,
    /// Routes with a policy of their own.
    targeted: Vec<&'p ObjectRef>,
    /// The same by parent; made when it is first asked for, which no policy of a route does.
    overriding: OnceCell<ByParent<'p>>,
    /// Routes whose own policy is merged into this one.
    merged: BTreeMap<usize, BTreeSet<String>>,
    auth_policies: Vec<proto::extauth::Policy>,
    backend_refs: Vec<(ObjectRef, BackendRef)>,
}

impl<'p, K: Kind> Attachment<'p, '_, K> {
    fn attach(&mut self, policy: usize, target: &'p Target) {
        let topology = self.topology;
        let route = topology.route(&target.object);
        let own;
        let references = match route {
            Some(route) => route.references(),
            None if topology.has_listeners(&target.object) => {
                own = ancestors::reference(&target.object, target.section.as_deref());
                slice::from_ref(&own)
            }
            None => &[],
        };
        // What is not there, or of other controllers' Gateways alone, is not ours to speak of.
        if references.is_empty() {
            return;
        }
        if let Err(message) = topology.check_section(target) {
            self.set(policy, references, "Accepted", false, "TargetNotFound", message);
            return;
        }
        let holder = self.holders.of(target).unwrap_or(policy);
        if holder != policy {
            let what = target.describe();
            let message = format!("Unable to target {what}, another {} has already attached to it", K::NAME);
            self.set(policy, references, "Accepted", false, "Conflicted", message);
            let reason = format!("{} has the same target and was there first", self.policies[holder].object);
            self.candidates.lose(&topology.places(target), &self.policies[policy].object, &reason);
            return;
        }
        let merge_type = self.policies[policy].merge_type.filter(|_| target.level() <= Level::Route);
        if let Some(merge_type) = merge_type {
            self.apply_merged(policy, target, merge_type);
        } else {
            let places = match route {
                Some(route) => route.places(target.section.as_deref()),
                None => topology.places(target),
            };
            self.apply(policy, None, &places, target, references);
        }
        if route.is_some() {
            self.targeted.push(&target.object);
        }
        self.ancestors[policy].accept(references);
        if let Some((reason, message)) = &self.policies[policy].warning {
            self.set(policy, references, "Warning", true, reason, message.clone());
        }
        self.report_override(policy, target, references);
    }

    /// Merges a route's policy with that of each listener or Gateway that the route is attached to. What comes of it is
    /// said about the listener, even where the route's parentRef names none.
    fn apply_merged(&mut self, policy: usize, target: &Target, merge_type: MergeType) {
        for (listener, places) in self.topology.places_by_listener(target) {
            let reference = [ancestors::reference(&listener.parent, Some(&listener.section))];
            let own = Target { object: listener.parent.clone(), section: Some(listener.section) };
            let set = Target { object: listener.parent, section: None };
            let gateway = Target { object: listener.gateway, section: None };
            let parent = [own, set, gateway].iter().find_map(|target| self.holders.of(target));
            let applied = self.apply(policy, parent.map(|parent| (parent, merge_type)), &places, target, &reference);
            if let Some(parent) = parent.filter(|_| applied) {
                let message = format!("Merged with policy {}", self.full_name(parent));
                self.set(policy, &reference, "Merged", true, "Merged", message);
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
        references: &[Arc<ParentReference>],
    ) -> bool {
        let resolution = self.resolve(policy, parent);
        self.auth_policies.extend_from_slice(&resolution.auth_policies);
        self.backend_refs.extend_from_slice(&resolution.backend_refs);
        if !resolution.errors.is_empty() {
            let message = status::sentence(&resolution.errors.join("\n"));
            self.set(policy, references, "Accepted", false, "Invalid", message);
        }
        let broken = resolution.effective.is_none();
        for place in self.candidates.offer(places, &self.policies[policy].object, target, broken) {
            let Some(in_force) = self.in_force.get_mut(place.route) else { continue };
            match &resolution.effective {
                Some(effective) => *K::slot(in_force) = Some(Arc::clone(effective)),
                None => in_force.closed = true,
            }
        }
        resolution.errors.is_empty()
    }

    fn resolve(&mut self, policy: usize, parent: Option<(usize, MergeType)>) -> Resolved<K> {
        let (kind, policies) = (self.kind, self.policies);
        let named = |index: usize| {
            let Policy { object, whole, .. } = &*policies[index];
            Named { object, spec: K::spec(whole) }
        };
        let Some((parent, merge_type)) = parent else {
            let whole = &policies[policy].whole;
            return self.resolutions.of(self.inputs, whole, || Arc::new(kind.resolve(named(policy), None)));
        };
        let resolution = self.merged_resolutions.entry((policy, parent)).or_insert_with(|| {
            Arc::new(kind.resolve(named(policy), Some(Parent { policy: named(parent), merge_type })))
        });
        Arc::clone(resolution)
    }

    fn report_override(&mut self, policy: usize, target: &Target, references: &[Arc<ParentReference>]) {
        let merged = self.merged.get(&policy).cloned().unwrap_or_default();
        if !merged.is_empty() {
            let routes = list(&merged);
            let message = format!("This policy is being merged by other {} for these routes: {routes}", K::PLURAL);
            self.set(policy, references, "Merged", true, "Merged", message);
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
        self.set(policy, references, "Overridden", true, "Overridden", message);
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
            self.holders.of(&whole).is_some()
        });
        let with_policy: BTreeSet<_> = with_policy.map(|set| format!("{}/{}", set.namespace, set.name)).collect();
        let mut set_listeners: BTreeSet<_> = sets.iter().flat_map(|set| held(set)).collect();
        if level == Level::Set {
            set_listeners = held(&target.object);
        }
        let overriding = self.overriding.get_or_init(|| self.by_parent());
        let objects = sets.iter().copied().chain([&target.object]);
        let sections = objects.filter_map(|object| overriding.get(object)).flatten();
        let here = sections.filter(|(section, _)| {
            target.section.is_none() || section.is_none() || **section == target.section.as_deref()
        });
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

    /// The routes with a policy of their own, which those of their parents then say.
    fn by_parent(&self) -> ByParent<'p> {
        let mut by_parent = ByParent::new();
        for route in &self.targeted {
            for parent in self.topology.parents(route).into_iter().flatten() {
                let sections = by_parent.entry(&parent.object).or_default();
                let routes = sections.entry(parent.section.as_deref()).or_default();
                routes.insert(format!("{}/{}", route.namespace, route.name));
            }
        }
        by_parent
    }

    /// The sections of `object`, as far as they exist, that have a policy of their own.
    fn sections_held(&self, object: &ObjectRef) -> BTreeSet<String> {
        let target = |section: &str| Target { object: object.clone(), section: Some(section.to_owned()) };
        let held = self.holders.sections(object).map(target);
        held.filter(|target| self.topology.check_section(target).is_ok()).filter_map(|target| target.section).collect()
    }

    fn full_name(&self, policy: usize) -> String {
        let ObjectRef { namespace, name, .. } = &*self.policies[policy].object;
        format!("{namespace}/{name}")
    }

    fn set(
        &mut self,
        policy: usize,
        references: &[Arc<ParentReference>],
        r#type: &'static str,
        status: bool,
        reason: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) {
        self.ancestors[policy].set(references, r#type, status, reason, message);
    }
}

/// As upstream prints a list.
fn list<S: AsRef<str>>(names: &BTreeSet<S>) -> String {
    let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
    format!("[{}]", names.join(" "))
}

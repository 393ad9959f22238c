use std::{any::Any, sync::Arc};

use controller_api::{
    backend_ref::BackendRef,
    policy::{MergeType, PolicyTargets},
};
use kube::Resource;

use crate::{Snapshot, ir::ObjectRef, snapshot::Objects, translate::policy::in_force::InForce};

/// A kind of policy, as far as attachment differs between kinds.
pub(super) trait Kind {
    /// The object.
    type Object: Resource + Any + Send + Sync;
    /// Its spec.
    type Spec: 'static;
    /// What is put on a route.
    type Effective;

    /// As in `kind:`.
    const NAME: &'static str;
    /// Several of them, in messages.
    const PLURAL: &'static str;
    /// What upstream calls those that override a route's policy on a rule.
    const RULE_PLURAL: &'static str;

    /// All objects of the kind.
    fn objects(snapshot: &Snapshot) -> &Objects<Self::Object>;
    /// The object's spec.
    fn spec(object: &Self::Object) -> &Self::Spec;
    /// Where a policy applies.
    fn targets(spec: &Self::Spec) -> &PolicyTargets;
    /// Deprecated fields that are used, each with what to use instead, beside `targetRef`.
    fn deprecated(spec: &Self::Spec) -> Vec<(&'static str, &'static str)>;
    /// Fields that are used and have no effect.
    fn ignored(spec: &Self::Spec) -> Vec<String>;
    /// Checks the policy and follows its references.
    fn resolve(
        &self,
        policy: Named<'_, Self::Spec>,
        parent: Option<Parent<'_, Self::Spec>>,
    ) -> Resolution<Self::Effective>;
    /// The effective policy among all that is in force on a route.
    fn slot(in_force: &mut InForce) -> &mut Option<Arc<Self::Effective>>;
}

/// A policy's name and spec.
pub(super) struct Named<'a, S> {
    pub(super) object: &'a ObjectRef,
    pub(super) spec: &'a S,
}

impl<S> Clone for Named<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Named<'_, S> {}

/// The less specific policy that a route's policy is merged into.
pub(super) struct Parent<'a, S> {
    pub(super) policy: Named<'a, S>,
    pub(super) merge_type: MergeType,
}

impl<S> Clone for Parent<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Parent<'_, S> {}

/// What became of a policy.
pub(super) struct Resolution<E> {
    /// What its routes get; without it they answer 500.
    pub(super) effective: Option<Arc<E>>,
    /// What is wrong with it, each a sentence without its full stop.
    pub(super) errors: Vec<String>,
    /// What `extauth` is asked for it.
    pub(super) auth_policies: Vec<proto::extauth::Policy>,
    /// Backends that it refers to, each beside the policy that does.
    pub(super) backend_refs: Vec<(ObjectRef, BackendRef)>,
}

impl<E> Resolution<E> {
    /// The routes of a policy with errors answer 500.
    pub(super) fn strict(effective: E, errors: Vec<String>) -> Self {
        let effective = errors.is_empty().then(|| Arc::new(effective));
        Self { effective, errors, auth_policies: Vec::new(), backend_refs: Vec::new() }
    }

    /// There is no making sense of the policy.
    pub(super) fn broken(error: String) -> Self {
        Self { effective: None, errors: vec![error], auth_policies: Vec::new(), backend_refs: Vec::new() }
    }
}

/// What is wrong with a policy whose spec could not be read.
pub(super) fn unreadable(malformed: &str) -> String {
    format!("the policy cannot be read: {malformed}")
}

/// What is wrong with a policy that is merged with one whose spec could not be read.
pub(super) fn unreadable_parent(parent: &ObjectRef, malformed: &str) -> String {
    format!("{parent}, which it is merged with, cannot be read: {malformed}")
}

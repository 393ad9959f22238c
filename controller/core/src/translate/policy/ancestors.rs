//! The status of a policy: its conditions towards every Gateway that it acts through.

use std::{borrow::Cow, sync::Arc};

use controller_api::policy::ParentReference;
use serde_json::{Value, json};

use crate::{ir::ObjectRef, translate::status::Conditions};

/// Most ancestors that Gateway API allows in a status.
const MAX: usize = 16;

/// The Gateway or ListenerSet, or a listener of it, that a condition is about.
pub(super) fn reference(parent: &ObjectRef, section: Option<&str>) -> Arc<ParentReference> {
    Arc::new(ParentReference {
        group: Some("gateway.networking.k8s.io".into()),
        kind: Some(parent.kind.into()),
        namespace: Some(parent.namespace.clone()),
        name: parent.name.clone(),
        section_name: section.map(ToOwned::to_owned),
        port: None,
    })
}

/// The conditions of a policy by ancestor, in the order in which ancestors came up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ancestors(Vec<(Arc<ParentReference>, Conditions)>);

impl Ancestors {
    /// Sets a condition on every one of `references`.
    pub(super) fn set(
        &mut self,
        references: &[Arc<ParentReference>],
        r#type: &'static str,
        status: bool,
        reason: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) {
        let message = message.into();
        for reference in references {
            self.of(reference).set(r#type, status, reason, message.clone());
        }
    }

    /// Accepts the policy wherever nothing has refused it.
    pub(super) fn accept(&mut self, references: &[Arc<ParentReference>]) {
        for reference in references {
            let conditions = self.of(reference);
            if conditions.find("Accepted").is_none() {
                conditions.set("Accepted", true, "Accepted", "Policy has been accepted.");
            }
        }
    }

    fn of(&mut self, reference: &Arc<ParentReference>) -> &mut Conditions {
        let is_same = |known: &Arc<_>| Arc::ptr_eq(known, reference) || known == reference;
        let index = self.0.iter().position(|(known, _)| is_same(known)).unwrap_or_else(|| {
            self.0.push((Arc::clone(reference), Conditions::default()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    /// The policy's `status`.
    pub(super) fn to_status(&self, controller: &str, generation: Option<i64>) -> Value {
        let mut shown = Cow::Borrowed(self.0.as_slice());
        if shown.len() > MAX {
            let shown = shown.to_mut();
            shown.sort_by_cached_key(|(reference, conditions)| {
                (rank(conditions), reference.namespace.clone(), reference.name.clone())
            });
            shown.truncate(MAX);
            if let Some((_, last)) = shown.last_mut() {
                let message = "Ancestors have been truncated because the number of policy ancestors exceeds 16.";
                last.set("Aggregated", true, "Aggregated", message);
            }
        }
        let ancestors = shown.iter().map(|(reference, conditions)| {
            json!({
                "ancestorRef": **reference,
                "controllerName": controller,
                "conditions": conditions.to_json(generation),
            })
        });
        json!({"ancestors": ancestors.collect::<Vec<_>>()})
    }
}

/// What matters most comes first when there is not room for all.
fn rank(conditions: &Conditions) -> u8 {
    if conditions.find("Accepted").is_some_and(|accepted| !accepted.status) {
        0
    } else if conditions.find("Overridden").is_some_and(|overridden| overridden.status) {
        1
    } else {
        2
    }
}

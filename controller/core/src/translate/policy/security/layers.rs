//! Which policy contributed which field: references in it are resolved in that policy's namespace, under its name.

use controller_api::security_policy::SecurityPolicySpec;

use super::{
    super::{kind, merge},
    Named, Parent,
};
use crate::ir::ObjectRef;

/// A policy and the one that it is merged into, if any.
#[derive(Clone, Copy)]
pub(super) struct Layers<'a> {
    policy: Named<'a, SecurityPolicySpec>,
    parent: Option<Named<'a, SecurityPolicySpec>>,
}

impl<'a> Layers<'a> {
    /// The policy whose field it is: the parent, where only the parent has it.
    pub(super) fn owner(&self, has: impl Fn(&SecurityPolicySpec) -> bool) -> &'a ObjectRef {
        match self.parent {
            Some(parent) if !has(self.policy.spec) && has(parent.spec) => parent.object,
            _ => self.policy.object,
        }
    }

    /// Name of what is configured by a field: that of its owner, or one of both policies where both contribute, for
    /// another parent makes another configuration.
    pub(super) fn name(&self, has: impl Fn(&SecurityPolicySpec) -> bool) -> String {
        let own = name(self.owner(&has));
        match self.parent {
            Some(parent) if has(self.policy.spec) && has(parent.spec) => {
                format!("{own}/merged/{}/{}", parent.object.namespace, parent.object.name)
            }
            _ => own,
        }
    }
}

fn name(policy: &ObjectRef) -> String {
    format!("securitypolicy/{}/{}", policy.namespace, policy.name)
}

/// The spec with that of the parent merged in.
pub(super) fn effective<'a>(
    policy: Named<'a, SecurityPolicySpec>,
    parent: Option<Parent<'a, SecurityPolicySpec>>,
) -> Result<(Layers<'a>, SecurityPolicySpec), String> {
    let layers = Layers { policy, parent: parent.map(|parent| parent.policy) };
    if let Some(malformed) = &policy.spec.malformed {
        return Err(kind::unreadable(malformed));
    }
    let Some(parent) = parent else { return Ok((layers, policy.spec.clone())) };
    if let Some(malformed) = &parent.policy.spec.malformed {
        return Err(kind::unreadable_parent(parent.policy.object, malformed));
    }
    let spec = merge::specs(parent.policy.spec, policy.spec, parent.merge_type).map_err(|error| error.to_string())?;
    match &spec.malformed {
        Some(malformed) => Err(kind::unreadable(malformed)),
        None => Ok((layers, spec)),
    }
}

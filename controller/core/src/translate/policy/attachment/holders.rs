//! The first policy at each target; later ones are in conflict with it.

use ahash::{HashMap, HashMapExt};

use super::Target;
use crate::ir::ObjectRef;

/// By object: the sections that are targeted, `None` for the whole, each with the index of its policy.
pub(super) struct Holders<'p>(HashMap<&'p ObjectRef, Vec<(Option<&'p str>, usize)>>);

impl<'p> Holders<'p> {
    /// Those among policies with these targets, in order of precedence.
    pub(super) fn new(targets: impl ExactSizeIterator<Item = &'p [Target]>) -> Self {
        let mut holders: HashMap<_, Vec<_>> = HashMap::with_capacity(targets.len());
        for (index, targets) in targets.enumerate() {
            for target in targets {
                let sections = holders.entry(&target.object).or_default();
                let section = target.section.as_deref();
                if sections.iter().all(|(known, _)| *known != section) {
                    sections.push((section, index));
                }
            }
        }
        Self(holders)
    }

    /// Index of the policy at `target`.
    pub(super) fn of(&self, target: &Target) -> Option<usize> {
        let sections = self.0.get(&target.object)?;
        sections.iter().find(|(section, _)| *section == target.section.as_deref()).map(|(_, index)| *index)
    }

    /// The sections of `object` that some policy targets.
    pub(super) fn sections(&self, object: &ObjectRef) -> impl Iterator<Item = &'p str> {
        self.0.get(object).into_iter().flatten().filter_map(|(section, _)| *section)
    }
}

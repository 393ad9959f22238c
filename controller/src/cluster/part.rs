//! What one watch follows.

use std::{fmt, sync::Arc};

use controller_core::snapshot::{Key, Kind};

/// All objects of a kind, or those of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) kind: &'static Kind,
    pub(super) namespace: Option<Arc<str>>,
}

impl Part {
    /// Whether an object of the kind is one of them.
    pub(super) fn covers(&self, (namespace, _): &Key) -> bool {
        self.namespace.as_deref().is_none_or(|ours| ours == namespace)
    }

    fn id(&self) -> (&'static str, Option<&str>) {
        (self.kind.name, self.namespace.as_deref())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} in {namespace}", self.kind.name),
            None => f.write_str(self.kind.name),
        }
    }
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Part {}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Part {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.id().cmp(&other.id())
    }
}

//! What is wrong with a route, as its conditions tell it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::status::sentence;

/// One thing that is wrong with a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The condition that becomes false, such as `ResolvedRefs`.
    pub(super) condition: &'static str,
    /// The reason that it gives.
    pub(super) reason: &'static str,
    /// Begins in lower case where it can be continued, and has no full stop.
    pub(super) message: String,
}

impl Fault {
    /// The rule cannot be accepted as it is.
    pub(super) fn accepted(reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition: "Accepted", reason, message: message.into() }
    }

    /// A reference leads nowhere.
    pub(super) fn resolved_refs(reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition: "ResolvedRefs", reason, message: message.into() }
    }

    /// The same fault, with the place where it happened before its message.
    #[must_use]
    pub(super) fn at(self, place: impl std::fmt::Display) -> Self {
        let mut message = format!("{place}: ");
        // Writing to a String cannot fail.
        let _ = message.write_str(&self.message);
        Self { message, ..self }
    }
}

/// All faults of one condition: the reasons joined by commas, the messages by line breaks.
pub(super) fn by_condition(faults: &[Fault]) -> BTreeMap<&'static str, (String, String)> {
    let mut joined: BTreeMap<&'static str, (BTreeSet<&str>, Vec<String>)> = BTreeMap::new();
    for fault in faults {
        let (reasons, messages) = joined.entry(fault.condition).or_default();
        reasons.insert(fault.reason);
        let message = sentence(&fault.message);
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    let text = |(reasons, messages): (BTreeSet<&str>, Vec<String>)| {
        (reasons.into_iter().collect::<Vec<_>>().join(","), messages.join("\n"))
    };
    joined.into_iter().map(|(condition, parts)| (condition, text(parts))).collect()
}

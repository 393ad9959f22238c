//! What an override lies over.

use std::fmt;

/// A rule by its path, or some of its requests by their values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) domain: String,
    /// Not empty.
    pub(crate) path: Vec<Step>,
}

/// One level of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    pub(crate) key: String,
    /// As the rule has it; empty for a key alone.
    pub(crate) value: String,
    /// The value of requests, `None` for all that come here.
    pub(crate) matches: Option<String>,
}

impl Step {
    /// How the rules' tree names the level.
    pub(crate) fn text(&self) -> String {
        if self.value.is_empty() { self.key.clone() } else { format!("{}_{}", self.key, self.value) }
    }
}

impl Target {
    /// The rule's name in `/rlconfig` and metrics.
    pub(crate) fn rule(&self) -> String {
        self.path.iter().fold(self.domain.clone(), |rule, step| rule + "." + &step.text())
    }

    /// `key=value` of each level with a value of requests; empty for all requests of the rule.
    pub(crate) fn values(&self) -> String {
        let values = self.path.iter().filter_map(|step| Some(format!("{}={}", step.key, step.matches.as_ref()?)));
        values.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values();
        let with = if values.is_empty() { "" } else { " with " };
        write!(f, "{}{with}{values}", self.rule())
    }
}

//! The overrides of one rule, ready for requests.

use std::{borrow::Cow, cmp::Reverse, sync::Arc};

use ahash::HashMap;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;

use super::{Override, Target};
use crate::config::Limit;

/// What lies over one rule.
#[derive(Clone, Debug)]
pub(crate) struct Overridden {
    /// The rule's own limit.
    pub(crate) written: Limit,
    /// Where the rule's limit in force comes from, if it is not its own.
    pub(crate) whole: Option<Arc<Override>>,
    /// The more specific first.
    by_value: Vec<ByValue>,
}

/// Overrides that name values at the same levels.
#[derive(Clone, Debug)]
struct ByValue {
    levels: Vec<usize>,
    limits: HashMap<String, (Limit, Arc<Override>)>,
}

impl Overridden {
    pub(super) fn new(written: Limit) -> Self {
        Self { written, whole: None, by_value: vec![] }
    }

    /// Adds an override for values. Those with more levels are more specific, and of as many those that come earlier.
    pub(super) fn insert(&mut self, limit: Limit, over: Arc<Override>) {
        let (levels, values) = matches(&over.target);
        let limits = HashMap::from_iter([(text(&values).into_owned(), (limit, over))]);
        match self.by_value.iter_mut().find(|by_value| by_value.levels == levels) {
            Some(known) => known.limits.extend(limits),
            None => self.by_value.push(ByValue { levels, limits }),
        }
        self.by_value.sort_by_cached_key(|by_value| (Reverse(by_value.levels.len()), by_value.levels.clone()));
    }

    /// The override for the values of a request.
    pub(crate) fn of_value(&self, entries: &[Entry]) -> Option<(Limit, &Override)> {
        self.by_value.iter().find_map(|by_value| {
            let values = by_value.levels.iter().map(|level| Some(entries.get(*level)?.value.as_str()));
            let (limit, over) = by_value.limits.get(&*text(&values.collect::<Option<Vec<_>>>()?))?;
            Some((*limit, &**over))
        })
    }
}

fn matches(target: &Target) -> (Vec<usize>, Vec<&str>) {
    target.path.iter().enumerate().filter_map(|(level, step)| Some((level, step.matches.as_deref()?))).unzip()
}

/// One text for the values, and another for any others.
fn text<'v>(values: &[&'v str]) -> Cow<'v, str> {
    match values {
        [value] => Cow::Borrowed(value),
        values => values.iter().fold(String::new(), |text, value| format!("{text}{}:{value}", value.len())).into(),
    }
}

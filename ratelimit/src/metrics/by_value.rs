//! Counters whose labels hold values of requests, for rules that ask for it.

use std::sync::LazyLock;

use ahash::HashMap;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use parking_lot::RwLock;

use super::Rule;

/// Levels of a descriptor that become labels, see [`Rule::new`].
const LABELS: usize = 2;
/// Longer values, in bytes, count as [`OTHER`].
const MAX_VALUE: usize = 128;
/// Label of everything that has no series of its own.
const OTHER: &str = "other";

/// The recorder never forgets a series, so the bound is one for the whole process and all its configurations.
static SERIES: LazyLock<Series> = LazyLock::new(Series::default);

/// The counters of one rule by the values of requests (`detailed_metric`, `value_to_metric`).
#[derive(Clone, Debug)]
pub(crate) struct ByValue {
    domain: String,
    /// The label of a level, `None` where it is made of the request.
    levels: Vec<Option<String>>,
    other: Rule,
}

/// Counters by domain and levels.
#[derive(Debug, Default)]
struct Series(RwLock<HashMap<(String, Vec<String>), Rule>>);

impl ByValue {
    /// `by_value` says for each of the `levels` whether the request's value belongs in the label. `None` if it does in no
    /// label.
    pub(crate) fn new(domain: &str, levels: &[String], by_value: &[bool]) -> Option<Self> {
        let levels: Vec<_> = levels
            .iter()
            .zip(by_value)
            .take(LABELS)
            .map(|(level, by_value)| (!by_value).then(|| level.clone()))
            .collect();
        let any = levels.iter().any(Option::is_none);
        any.then(|| Self { domain: domain.to_owned(), levels, other: Rule::new(domain, &[OTHER.to_owned()]) })
    }

    /// The counters for a request's entries, or the common ones when there are `max_series` others already.
    pub(crate) fn rule(&self, entries: &[Entry], max_series: usize) -> Rule {
        self.rule_in(&SERIES, entries, max_series)
    }

    fn rule_in(&self, series: &Series, entries: &[Entry], max_series: usize) -> Rule {
        let level = |(level, entry): (&Option<String>, &Entry)| match level {
            Some(level) => Some(level.clone()),
            None if entry.value.len() > MAX_VALUE || entry.key.len() > MAX_VALUE => None,
            None if entry.value.is_empty() => Some(entry.key.clone()),
            None => Some(format!("{}_{}", entry.key, entry.value)),
        };
        let levels: Option<Vec<_>> = self.levels.iter().zip(entries).map(level).collect();
        levels.and_then(|levels| series.rule(&self.domain, levels, max_series)).unwrap_or_else(|| self.other.clone())
    }
}

impl Series {
    fn rule(&self, domain: &str, levels: Vec<String>, max_series: usize) -> Option<Rule> {
        let labels = (domain.to_owned(), levels);
        let known = self.0.read();
        if let Some(rule) = known.get(&labels) {
            return Some(rule.clone());
        }
        if known.len() >= max_series {
            return None;
        }
        drop(known);
        let mut series = self.0.write();
        if series.len() >= max_series && !series.contains_key(&labels) {
            return None;
        }
        Some(series.entry(labels).or_insert_with_key(|(domain, levels)| Rule::new(domain, levels)).clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn labels(max_series: usize, values: &[&str]) -> Vec<Vec<String>> {
        let series = Series::default();
        let rule = ByValue::new("d", &["user".into(), "path_/".into(), "deep".into()], &[true, false, true]).unwrap();
        for value in values {
            let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
            rule.rule_in(&series, &[entry("user", value), entry("path", "/"), entry("deep", "x")], max_series);
        }
        let mut labels: Vec<_> = series.0.into_inner().into_keys().map(|(_, levels)| levels).collect();
        labels.sort();
        labels
    }

    #[test]
    fn values_are_labels_where_the_rule_asks() {
        assert_eq!(labels(9, &["joe", "", "joe"]), [["user", "path_/"], ["user_joe", "path_/"]]);
        assert!(ByValue::new("d", &["a".into(), "b".into(), "c".into()], &[false, false, true]).is_none());
    }

    #[test]
    fn no_more_series_than_allowed() {
        assert_eq!(labels(2, &["a", "b", "c", "a", "d"]), [["user_a", "path_/"], ["user_b", "path_/"]]);
        assert!(labels(0, &["a"]).is_empty());
        assert!(labels(9, &["x".repeat(MAX_VALUE + 1).as_str()]).is_empty());
    }
}

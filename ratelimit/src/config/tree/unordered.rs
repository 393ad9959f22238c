//! Rules for entries that come without an order.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;

use super::{Domain, Level, Rule};

impl Domain {
    /// The rule for entries in any order, and the order that leads to it. At each level the descriptor that comes first in the
    /// configuration is tried first, and the rule must be at the depth of the last entry.
    pub(crate) fn rule_unordered(&self, mut entries: Vec<Entry>) -> Option<(&Rule, Vec<Entry>)> {
        // What leads to the same descriptor is taken in one order, whatever order it came in.
        entries.sort_by(|a, b| (&b.key, &b.value).cmp(&(&a.key, &a.value)));
        let mut order = Vec::with_capacity(entries.len());
        let rule = self.roots.rule_unordered(&mut entries, &mut order)?;
        order.reverse();
        Some((rule, order))
    }
}

impl Level {
    /// Pushes the entries on the way to the rule from the last to the first.
    fn rule_unordered(&self, entries: &mut Vec<Entry>, order: &mut Vec<Entry>) -> Option<&Rule> {
        let index = |entry: &Entry| self.index(&format!("{}_{}", entry.key, entry.value), &entry.key);
        let mut ways: Vec<_> = entries.iter().enumerate().filter_map(|(at, entry)| Some((index(entry)?, at))).collect();
        ways.sort_by_key(|(index, at)| (*index, usize::MAX - at));
        for (index, at) in ways {
            let node = self.nodes.get(index)?;
            let entry = entries.remove(at);
            let rule =
                if entries.is_empty() { node.rule.as_ref() } else { node.children().rule_unordered(entries, order) };
            if rule.is_some() {
                order.push(entry);
                return rule;
            }
            entries.insert(at, entry);
        }
        None
    }
}

//! The way of a request's entries through the tree, with what lay beside it.

use std::iter;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;

use super::{Domain, Level, Node, Rule};

/// How the entries of one descriptor were looked up.
#[derive(Debug)]
pub(crate) struct Walk<'c> {
    /// One for each entry that led somewhere.
    pub(crate) steps: Vec<Step<'c>>,
    pub(crate) end: End<'c>,
}

/// Where one entry led.
#[derive(Debug)]
pub(crate) struct Step<'c> {
    /// `key` or `key_value` of the descriptor that was chosen.
    pub(crate) text: &'c str,
    pub(crate) kind: Kind,
    /// Descriptors that might have been meant: those that match too first, then in file order.
    pub(crate) others: Vec<Candidate<'c>>,
}

/// How a descriptor matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By key and value.
    Exact,
    /// By a pattern.
    Wildcard,
    /// By its key alone.
    Key,
}

/// A descriptor that was not chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate<'c> {
    pub(crate) text: &'c str,
    pub(crate) reason: Reason,
}

/// Why a descriptor was not chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It matches, but an exact value wins.
    ExactWins,
    /// It matches, but another wildcard stands before it in the file.
    EarlierWildcardWins,
    /// It is for any value, but one that says more about the value wins.
    KeyComesLast,
    /// Its pattern does not match.
    PatternDiffers,
    /// It is for another value.
    ValueDiffers,
}

/// What the last entry led to.
#[derive(Debug)]
pub(crate) enum End<'c> {
    Rule(&'c Rule),
    /// A descriptor without a limit. Below it are these, which need more entries.
    NoLimit {
        below: Vec<&'c str>,
    },
    /// The entry behind the steps matches nothing. `others` are those of its key, `known` all that are there; none if the
    /// rules end before.
    NoMatch {
        others: Vec<Candidate<'c>>,
        known: Vec<&'c str>,
    },
}

impl Domain {
    /// Goes the way of [`Domain::rule`], and tells about it.
    pub(crate) fn walk(&self, entries: &[Entry]) -> Walk<'_> {
        let (mut level, mut node) = (&self.roots, None);
        let mut steps = Vec::with_capacity(entries.len());
        for entry in entries {
            let text = format!("{}_{}", entry.key, entry.value);
            let texts = level.texts();
            let Some(index) = level.index(&text, &entry.key) else {
                let others = level.others(&texts, &text, &entry.key, None);
                return Walk { steps, end: End::NoMatch { others, known: texts } };
            };
            let chosen = texts.get(index).copied().unwrap_or_default();
            let kind = level.kind(index, chosen, &text);
            let others = level.others(&texts, &text, &entry.key, Some((index, kind)));
            steps.push(Step { text: chosen, kind, others });
            node = level.nodes.get(index);
            level = node.map_or(level, Node::children);
        }
        let end = match node.and_then(|node| node.rule.as_ref()) {
            Some(rule) => End::Rule(rule),
            None => End::NoLimit { below: level.texts() },
        };
        Walk { steps, end }
    }
}

impl Level {
    /// By index, which is the order of the file.
    fn texts(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = iter::repeat_n("", self.nodes.len()).collect();
        for (text, index) in &self.by_text {
            if let Some(place) = texts.get_mut(*index) {
                *place = text;
            }
        }
        texts
    }

    fn kind(&self, index: usize, chosen: &str, text: &str) -> Kind {
        if chosen == text {
            Kind::Exact
        } else if self.wildcards.iter().any(|(_, at)| *at == index) {
            Kind::Wildcard
        } else {
            Kind::Key
        }
    }

    /// Those that match too, and those that begin with the same key.
    fn others<'c>(
        &'c self,
        texts: &[&'c str],
        text: &str,
        key: &str,
        chosen: Option<(usize, Kind)>,
    ) -> Vec<Candidate<'c>> {
        let matching = self.wildcards.iter().filter(|(wildcard, _)| wildcard.matches(text));
        let matching: Vec<_> = matching.map(|(_, index)| *index).collect();
        let others = texts.iter().enumerate().filter(|(index, _)| chosen.is_none_or(|(chosen, _)| chosen != *index));
        let mut others: Vec<_> = others
            .filter_map(|(index, candidate)| {
                let reason = if matching.contains(&index) {
                    match chosen {
                        Some((_, Kind::Exact)) => Reason::ExactWins,
                        _ => Reason::EarlierWildcardWins,
                    }
                } else if *candidate == key {
                    Reason::KeyComesLast
                } else if candidate.strip_prefix(key).is_some_and(|rest| rest.starts_with('_')) {
                    if candidate.contains('*') { Reason::PatternDiffers } else { Reason::ValueDiffers }
                } else {
                    return None;
                };
                Some(Candidate { text: candidate, reason })
            })
            .collect();
        others.sort_by_key(|other| matches!(other.reason, Reason::PatternDiffers | Reason::ValueDiffers));
        others
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::config::{Config, Domains};

    const RULES: &str = "
domain: d
descriptors:
  - { key: user, value: vip, rate_limit: { unit: minute, requests_per_unit: 1 } }
  - { key: user, value: v*, rate_limit: { unit: minute, requests_per_unit: 2 } }
  - { key: user, value: '*', descriptors: [{ key: path, rate_limit: { unit: minute, requests_per_unit: 3 } }] }
  - { key: user, rate_limit: { unit: minute, requests_per_unit: 4 } }
  - { key: ip, value: 10.*, rate_limit: { unit: minute, requests_per_unit: 5 } }
  - { key: ip, value: 127.0.0.1, rate_limit: { unit: minute, requests_per_unit: 5 } }
";

    fn walked<T>(entries: &[(&str, &str)], look: impl Fn(&Walk<'_>) -> T) -> T {
        let config = Config::from_yaml([("d.yaml", RULES)], Domains::Distinct).unwrap();
        let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
        look(&config.domain("d").unwrap().walk(&entries.iter().map(entry).collect::<Vec<_>>()))
    }

    fn chosen(entries: &[(&str, &str)]) -> (String, Kind, Vec<(String, Reason)>) {
        walked(entries, |walk| {
            let step = &walk.steps[0];
            let others = step.others.iter().map(|other| (other.text.to_owned(), other.reason));
            (step.text.to_owned(), step.kind, others.collect())
        })
    }

    #[test]
    fn each_candidate_has_its_reason() {
        use Reason::{EarlierWildcardWins, ExactWins, KeyComesLast, ValueDiffers};
        let others = |of: &[(&str, Reason)]| of.iter().map(|(text, reason)| ((*text).to_owned(), *reason)).collect();
        let expected = others(&[("user_v*", ExactWins), ("user_*", ExactWins), ("user", KeyComesLast)]);
        assert_eq!(chosen(&[("user", "vip")]), ("user_vip".into(), Kind::Exact, expected));
        let expected = others(&[("user_*", EarlierWildcardWins), ("user", KeyComesLast), ("user_vip", ValueDiffers)]);
        assert_eq!(chosen(&[("user", "val")]), ("user_v*".into(), Kind::Wildcard, expected));
    }

    #[test]
    fn each_end_says_what_was_there() {
        walked(&[("user", "joe"), ("path", "/")], |walk| {
            assert_eq!((walk.steps[1].text, walk.steps[1].kind), ("path", Kind::Key));
            assert!(matches!(walk.end, End::Rule(rule) if rule.full_key == "d.user_*.path"));
        });
        walked(&[("user", "joe")], |walk| {
            assert!(matches!(&walk.end, End::NoLimit { below } if *below == ["path"]), "{walk:?}");
        });
        walked(&[("user", "vip"), ("path", "/")], |walk| {
            assert!(matches!(&walk.end, End::NoMatch { known, .. } if known.is_empty()), "{walk:?}");
        });
        walked(&[("ip", "192.168.0.1")], |walk| {
            let End::NoMatch { others, known } = &walk.end else { panic!("{walk:?}") };
            let reasons: Vec<_> = others.iter().map(|other| (other.text, other.reason)).collect();
            assert_eq!(reasons, [("ip_10.*", Reason::PatternDiffers), ("ip_127.0.0.1", Reason::ValueDiffers)]);
            assert_eq!(known.len(), 6);
        });
    }
}

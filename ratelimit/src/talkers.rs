//! Who uses a rule most, in fixed memory: a Space-Saving sketch for each rule and core (Metwally, Agrawal and El Abbadi, 2005). Values of
//! requests are told to who asks, and are no labels of metrics.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::HashMap;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use parking_lot::Mutex;

use crate::{limiter::Plan, store::Outcome};

/// All counts are halved this often, so that they are of the last minutes.
const HALVING: Duration = Duration::from_mins(1);
/// Bytes that are kept of a descriptor.
const LABEL: usize = 128;

/// The sketches of all cores. `Display` is a table for each rule.
#[derive(Clone, Debug)]
pub struct Talkers {
    /// Talkers that are kept of each rule.
    count: usize,
    sketches: Arc<Mutex<Vec<Sketch>>>,
}

/// The sketch of one core, whose lock nobody else wants but who reads the table.
#[derive(Clone, Debug)]
pub struct Sketch {
    count: usize,
    rules: Arc<Mutex<Rules>>,
}

#[derive(Debug)]
struct Rules {
    /// By the rule's full key.
    by_name: HashMap<String, Top>,
    halved: Instant,
}

/// The talkers of one rule.
#[derive(Debug, Default)]
struct Top(Vec<Talker>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Talker {
    /// Of the counter.
    key: u128,
    descriptor: String,
    /// At least as many as there were, and at most `error` more.
    hits: u64,
    error: u64,
    over_limit: u64,
}

impl Talkers {
    /// Keeps so many talkers of each rule.
    pub fn new(count: usize) -> Self {
        Self { count, sketches: Arc::default() }
    }

    /// The sketch of one more core.
    pub fn sketch(&self) -> Sketch {
        let rules = Rules { by_name: HashMap::default(), halved: Instant::now() };
        let sketch = Sketch { count: self.count, rules: Arc::new(Mutex::new(rules)) };
        self.sketches.lock().push(sketch.clone());
        sketch
    }

    /// By rule, those with most hits first.
    fn merged(&self) -> BTreeMap<String, Vec<Talker>> {
        let mut merged: BTreeMap<String, Vec<Talker>> = BTreeMap::new();
        for sketch in &*self.sketches.lock() {
            for (rule, Top(talkers)) in &sketch.rules.lock().by_name {
                let all = merged.entry(rule.clone()).or_default();
                for talker in talkers {
                    match all.iter_mut().find(|known| known.key == talker.key) {
                        Some(known) => known.add(talker),
                        None => all.push(talker.clone()),
                    }
                }
            }
        }
        for talkers in merged.values_mut() {
            talkers.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.descriptor.cmp(&b.descriptor)));
            talkers.truncate(self.count);
        }
        merged
    }
}

impl Sketch {
    /// Counts what a request has cost under its rules.
    pub(crate) fn count(&self, plan: &Plan<'_>, outcomes: &[Outcome], now: Instant) {
        let mut rules = self.rules.lock();
        rules.halve(now);
        for (rule, entries, charge, outcome) in plan.counted(outcomes) {
            let hits = u64::try_from(charge.hits).unwrap_or_default();
            if hits == 0 {
                continue;
            }
            let over = if outcome.count > u64::from(charge.limit) { hits } else { 0 };
            if !rules.by_name.contains_key(&rule.full_key) {
                rules.by_name.insert(rule.full_key.clone(), Top::default());
            }
            if let Some(top) = rules.by_name.get_mut(&rule.full_key) {
                top.count(self.count, charge.key.0, || label(entries), hits, over);
            }
        }
    }
}

impl Rules {
    fn halve(&mut self, now: Instant) {
        if now.saturating_duration_since(self.halved) < HALVING {
            return;
        }
        self.halved = now;
        for Top(talkers) in self.by_name.values_mut() {
            talkers.iter_mut().for_each(Talker::halve);
            talkers.retain(|talker| talker.hits > 0);
        }
        self.by_name.retain(|_, Top(talkers)| !talkers.is_empty());
    }
}

impl Top {
    /// A talker that is not known takes the place of the one with the fewest hits, and may have had as many itself.
    fn count(&mut self, count: usize, key: u128, descriptor: impl FnOnce() -> String, hits: u64, over_limit: u64) {
        let new = Talker { key, descriptor: String::new(), hits, error: 0, over_limit };
        if let Some(known) = self.0.iter_mut().find(|talker| talker.key == key) {
            known.add(&new);
        } else if self.0.len() < count {
            self.0.push(Talker { descriptor: descriptor(), ..new });
        } else if let Some(fewest) = self.0.iter_mut().min_by_key(|talker| talker.hits) {
            let error = fewest.hits;
            *fewest = Talker { descriptor: descriptor(), hits: hits.saturating_add(error), error, ..new };
        }
    }
}

impl Talker {
    fn add(&mut self, other: &Self) {
        self.hits = self.hits.saturating_add(other.hits);
        self.error = self.error.saturating_add(other.error);
        self.over_limit = self.over_limit.saturating_add(other.over_limit);
    }

    fn halve(&mut self) {
        self.hits /= 2;
        self.error /= 2;
        self.over_limit /= 2;
    }
}

/// `key=value,key=value`, cut when it is long. Control characters are escaped.
fn label(entries: &[Entry]) -> String {
    let texts: Vec<_> = entries.iter().map(|entry| format!("{}={}", entry.key, entry.value)).collect();
    let mut text: String = texts.join(",").chars().flat_map(char::escape_debug).collect();
    if text.len() > LABEL {
        text.truncate(text.floor_char_boundary(LABEL));
        text.push('…');
    }
    text
}

impl Display for Talkers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, (rule, talkers)) in self.merged().into_iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            writeln!(f, "{gap}{rule}\n  {:>10}  {:>8}  {:>10}  descriptor", "hits", "too many", "over limit")?;
            for Talker { descriptor, hits, error, over_limit, .. } in talkers {
                writeln!(f, "  {hits:>10}  {error:>8}  {over_limit:>10}  {descriptor}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// What the sketch promises: no talker has had fewer hits than shown less the error, nor more than shown, and whoever has had more
        /// than a k-th of all hits is there.
        #[test]
        fn frequent_talkers_are_kept_within_their_error(keys in vec(0..30_u128, 1..400), count in 1..8_usize) {
            let mut top = Top::default();
            for key in &keys {
                top.count(count, *key, || key.to_string(), 1, 0);
            }
            prop_assert!(top.0.len() <= count);
            for key in 0..30 {
                let hits = keys.iter().filter(|other| **other == key).count() as u64;
                match top.0.iter().find(|talker| talker.key == key) {
                    Some(talker) => prop_assert!(talker.hits >= hits && talker.hits - talker.error <= hits),
                    None => prop_assert!(hits <= keys.len() as u64 / count as u64),
                }
            }
        }
    }

    #[test]
    fn old_hits_fade() {
        let talkers = Talkers::new(3);
        let sketch = talkers.sketch();
        let mut rules = sketch.rules.lock();
        rules.by_name.insert("r".into(), Top::default());
        rules.by_name.get_mut("r").unwrap().count(3, 1, || "a".into(), 3, 1);
        let begin = rules.halved;
        rules.halve(begin + HALVING / 2);
        assert_eq!(rules.by_name["r"].0[0].hits, 3);
        rules.halve(begin + HALVING);
        assert_eq!((rules.by_name["r"].0[0].hits, rules.by_name["r"].0[0].over_limit), (1, 0));
        rules.halve(begin + HALVING * 2);
        assert!(rules.by_name.is_empty());
    }

    #[test]
    fn cores_are_added_up() {
        let talkers = Talkers::new(2);
        for (core, hits) in [(talkers.sketch(), 2), (talkers.sketch(), 3)] {
            let mut rules = core.rules.lock();
            let top = rules.by_name.entry("d.user".into()).or_default();
            top.count(2, 1, || "user=a\\n".into(), hits, 1);
            top.count(2, u128::from(hits), || format!("user={hits}"), 1, 0);
        }
        let text = talkers.to_string();
        assert_eq!(text.lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>(), ["5", "0", "2", "user=a\\n"]);
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn labels_are_short_and_plain() {
        let entry = |value: &str| Entry { key: "k".into(), value: value.into() };
        assert_eq!(label(&[entry("a"), entry("b\u{1b}\n")]), "k=a,k=b\\u{1b}\\n");
        assert!(label(&[entry(&"é".repeat(500))]).len() <= LABEL + 4);
    }
}

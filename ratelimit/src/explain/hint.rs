//! What to do when nothing matches.

use crate::config::{Candidate, Config, End, Walk};

/// Texts less alike than this are no typing errors of each other.
const LIKE: f64 = 0.8;
/// More names are only counted.
const MAX_NAMES: usize = 6;

/// About a domain that has no rules.
pub(super) fn domain(config: &Config, domain: &str) -> String {
    let names = config.names();
    if names.is_empty() {
        return "there are no rules at all".to_owned();
    }
    format!("no rules for this domain; {}", nearest(&[domain], &names))
}

/// About a descriptor whose entries all match, or fall short.
pub(super) fn end(walk: &Walk<'_>) -> String {
    match &walk.end {
        End::Rule(_) => String::new(),
        End::NoLimit { below } if below.is_empty() => "the descriptor has no rate_limit in the rules".to_owned(),
        End::NoLimit { below } => format!("no limit at this depth; the rules go on with {}", list(below)),
        End::NoMatch { .. } if walk.steps.is_empty() => "no rule for the first entry".to_owned(),
        End::NoMatch { known, .. } if known.is_empty() => {
            let levels = walk.steps.len();
            format!(
                "more entries than the rules have: they end after {levels}, and only a rule for all entries applies"
            )
        }
        End::NoMatch { .. } => format!("no rule for entry {}", walk.steps.len() + 1),
    }
}

/// About an entry that matches nothing.
pub(super) fn entry(key: &str, value: &str, others: &[Candidate<'_>], known: &[&str]) -> String {
    match (known, others) {
        ([], _) => "the rules end before this entry".to_owned(),
        (_, []) => format!("no such key; {}", nearest(&[key, &format!("{key}_{value}")], known)),
        _ => "no value of this key fits; a descriptor with the key alone would".to_owned(),
    }
}

/// What is most like one of the texts, or else what there is.
fn nearest(texts: &[&str], known: &[&str]) -> String {
    let likeness = |known: &str| texts.iter().map(|text| strsim::jaro_winkler(text, known)).fold(0.0, f64::max);
    let best = known.iter().map(|known| (likeness(known), *known)).max_by(|one, two| one.0.total_cmp(&two.0));
    match best {
        Some((likeness, known)) if likeness >= LIKE => format!("is {known} meant?"),
        _ => format!("the rules have {}", list(known)),
    }
}

fn list(names: &[&str]) -> String {
    let some = names.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(MAX_NAMES);
    if more > 0 { format!("{some} and {more} more") } else { some }
}

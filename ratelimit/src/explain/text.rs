//! An explanation for people.

use std::fmt;

use jiff::SignedDuration;

use super::{Counter, Descriptor, Entry, Explanation};
use crate::store::Holder;

/// More descriptors that were not chosen are only counted.
const MAX_LOSERS: usize = 4;
/// Longer labels do not push the column to the right.
const MAX_LABEL: usize = 32;

/// The answer, then each descriptor in two columns.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = self.answer.map_or("unknown".to_owned(), words);
        writeln!(f, "domain {}: {answer}, {}", plain(&self.domain), self.because)?;
        for (position, descriptor) in self.descriptors.iter().enumerate() {
            let rows = rows(descriptor);
            let length = |(label, _): &(String, String)| label.chars().count();
            let width = rows.iter().map(length).filter(|length| *length <= MAX_LABEL).max().unwrap_or_default();
            let mut number = format!("{}.", position + 1);
            writeln!(f)?;
            for (label, text) in rows {
                writeln!(f, "{number:<3} {label:<width$}  {text}")?;
                number.clear();
            }
        }
        Ok(())
    }
}

fn words(code: &str) -> String {
    code.replace('_', " ")
}

/// Without what might change the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

fn rows(descriptor: &Descriptor) -> Vec<(String, String)> {
    let mut rows: Vec<_> = descriptor.entries.iter().flat_map(entry).collect();
    let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
    if let Some(rule) = &descriptor.rule {
        let name = if descriptor.name.is_empty() { String::new() } else { format!(", name {}", descriptor.name) };
        row("rule", format!("{rule}{name}"));
    }
    if let Some(limit) = &descriptor.limit {
        let from = if limit.of_request { ", brought by the request" } else { "" };
        row("limit", format!("{}{from}", limit.text));
    }
    if let Some(over) = &descriptor.r#override {
        let values = if over.values.is_empty() { String::new() } else { format!(" for {}", plain(&over.values)) };
        let expires = over.expires.as_ref().map(|expires| format!(" until {expires}")).unwrap_or_default();
        row("override", format!("{}{values}{expires}: {} instead of {}", over.place, over.limit, over.instead_of));
        if !over.reason.is_empty() {
            row("", plain(&over.reason));
        }
    }
    if let Some(counter) = &descriptor.counter {
        row("counter", self::counter(counter, descriptor));
        if !counter.holders.is_empty() {
            row("leases", counter.holders.iter().map(holder).collect::<Vec<_>>().join(", "));
        }
    }
    if !descriptor.replaces.is_empty() {
        row("replaces", descriptor.replaces.join(", "));
    }
    if descriptor.shadow_mode {
        row("mode", "shadow: counts, and never denies".to_owned());
    }
    if descriptor.quota_mode {
        row("mode", "quota: denies when all quotas of the request are over".to_owned());
    }
    if !descriptor.leases {
        row("mode", "leases: false, so that each hit is charged in Redis".to_owned());
    }
    let status = descriptor.status.map_or("unknown".to_owned(), words);
    row("answer", format!("{status}, {}", descriptor.because));
    rows
}

fn entry(entry: &Entry) -> Vec<(String, String)> {
    let label = format!("{}={}", plain(&entry.key), plain(&entry.value));
    let first = match &entry.matched {
        Some(matched) => format!("matches {matched}, {}", entry.because),
        None if entry.because.is_empty() => String::new(),
        None => format!("matches nothing: {}", entry.because),
    };
    let losers = entry.losers.iter().take(MAX_LOSERS);
    let losers = losers.map(|loser| (String::new(), format!("  not {}: {}", loser.descriptor, loser.because)));
    let more = (entry.losers.len() + entry.more_losers).saturating_sub(MAX_LOSERS);
    let more = (more > 0).then(|| (String::new(), format!("  nor {more} more")));
    [(label, first)].into_iter().chain(losers).chain(more).collect()
}

fn counter(counter: &Counter, descriptor: &Descriptor) -> String {
    let Counter { used, remaining, leased, hits, seconds_left, .. } = counter;
    let limit = descriptor.limit.as_ref();
    let burst = limit.map_or(0, |limit| limit.burst);
    let left = SignedDuration::from_secs(i64::from(*seconds_left));
    let end = match limit.map(|limit| limit.algorithm) {
        Some("fixed_window") => format!(", window ends in {left:#}"),
        _ if *used > 0 => format!(", empty in {left:#}"),
        _ => String::new(),
    };
    let leased = if *leased > 0 { format!(", of them {leased} leased to this replica") } else { String::new() };
    let change = match hits {
        ..0 => format!("gives back {}", hits.unsigned_abs()),
        _ => format!("adds {hits}"),
    };
    format!("{used} of {burst} used, {remaining} left{leased}{end}; the request {change}")
}

fn holder(holder: &Holder) -> String {
    let name = plain(&holder.replica);
    match holder.hits {
        Some(hits) if holder.own => format!("{hits} held by {name}, this replica"),
        Some(hits) => format!("{hits} held by {name}"),
        None => format!("{name} does not say"),
    }
}

//! One descriptor of a request, explained.

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::RateLimitDescriptor, service::ratelimit::v3::rate_limit_response::Code,
};
use serde::Serialize;

use super::{Counters, Foreseen, hint};
use crate::{
    config::{self, Candidate, Config, End, Kind, PerUnit, Reason, Rule, Walk},
    limiter::{Applied, Plan},
    overrides,
    store::{Algorithm, Charge, Denies, Holder, Outcome, Standing},
};

/// More descriptors that were not chosen are only counted.
const MAX_LOSERS: usize = 20;

/// What applies to one descriptor of a request, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// In the order of the descriptor.
    pub entries: Vec<Entry>,
    /// The rule in `/rlconfig`, also if another one replaces it.
    pub rule: Option<String>,
    /// The rule's `name`; empty for none.
    pub name: String,
    /// What is allowed now; `None` if nothing is limited.
    pub limit: Option<Limit>,
    /// The override that the limit comes from.
    pub r#override: Option<Override>,
    /// `None` if nothing is counted or nobody knows.
    pub counter: Option<Counter>,
    /// Names of rules that the rule replaces.
    pub replaces: Vec<String>,
    /// The rule never denies.
    pub shadow_mode: bool,
    /// The rule, or every rule, denies only together with the others in quota mode.
    pub quota_mode: bool,
    /// Hits may be leased, where `LEASES` is set.
    pub leases: bool,
    /// Who decides while the store cannot.
    pub on_store_loss: Option<&'static str>,
    /// `OK` or `OVER_LIMIT`; `None` if nobody knows what has been counted.
    pub status: Option<&'static str>,
    /// Why that is the status.
    pub because: String,
}

/// Where one entry led.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// As the request has it.
    pub key: String,
    /// As the request has it.
    pub value: String,
    /// `key` or `key_value` of the descriptor in the rules.
    pub matched: Option<String>,
    /// How it matches, or why nothing does.
    pub because: String,
    /// Descriptors that might have been meant.
    pub losers: Vec<Loser>,
    /// Further ones.
    pub more_losers: usize,
}

/// A descriptor of the rules that an entry does not lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loser {
    /// `key` or `key_value`.
    pub descriptor: String,
    /// Why not.
    pub because: &'static str,
}

/// What is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// For people.
    pub text: String,
    /// Hits in each window.
    pub requests_per_unit: u32,
    /// Hits that may come at once.
    pub burst: u32,
    /// Seconds.
    pub window: u32,
    /// As in the configuration.
    pub algorithm: &'static str,
    /// The request brought it.
    pub of_request: bool,
}

/// What lies over a rule's own limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// `file:line`.
    pub place: String,
    /// The rule's own limit.
    pub instead_of: String,
    /// What is in force.
    pub limit: String,
    /// The values that it is for; empty for all.
    pub values: String,
    /// `None` for never.
    pub expires: Option<String>,
    /// Empty for none.
    pub reason: String,
}

/// What has been counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counter {
    /// Hits in use.
    pub used: u64,
    /// Hits that are free.
    pub remaining: u64,
    /// Of those, hits that this replica holds a lease of.
    pub leased: u64,
    /// Replicas that hold leases of the counter, the asked one first, then those that do not say.
    pub holders: Vec<Holder>,
    /// What the request would add.
    pub hits: i64,
    /// Until the fixed window ends, or else until nothing of the counter is left.
    pub seconds_left: u32,
}

/// Every counted descriptor's position and charge.
pub(super) fn counted<'p>(plan: &'p Plan<'_>) -> impl Iterator<Item = (usize, &'p Charge)> {
    plan.applied().enumerate().filter_map(|(position, applied)| match applied {
        Applied::Counted(_, _, charge) => Some((position, charge)),
        Applied::Nothing | Applied::Unlimited => None,
    })
}

/// All descriptors of a plan's request.
pub(super) fn all(
    config: &Config,
    plan: &Plan<'_>,
    counters: &Counters,
    foreseen: Option<&Foreseen>,
) -> Vec<Descriptor> {
    let request = plan.request();
    let domain = config.domain(&request.domain);
    let walks: Vec<_> = request.descriptors.iter().map(|of| domain.map(|domain| domain.walk(&of.entries))).collect();
    let mut charged = 0;
    let mut descriptors = Vec::with_capacity(walks.len());
    for ((descriptor, applied), walk) in request.descriptors.iter().zip(plan.applied()).zip(&walks) {
        let mut explained = Descriptor::new(descriptor, applied, walk.as_ref());
        explained.because = match applied {
            Applied::Unlimited => "the rule is unlimited".to_owned(),
            Applied::Nothing => unmatched(walk.as_ref(), plan, &walks),
            Applied::Counted(limit, _, charge) => {
                let outcome = foreseen.and_then(|foreseen| foreseen.outcomes.get(charged));
                if let Counters::Known(standings) = counters {
                    explained.counter = standings.get(charged).map(|standing| Counter::new(limit, charge, standing));
                }
                charged += 1;
                verdict(charge, outcome.copied(), counters)
            }
        };
        if walk.is_some() && descriptor.limit.is_some() && !matches!(applied, Applied::Counted(_, None, _)) {
            explained.because += "; its own limit does not count, as LIMIT_OVERRIDE_DOMAINS leaves the domain out";
        }
        descriptors.push(explained);
    }
    let statuses = foreseen.map_or(&[][..], |foreseen| &foreseen.decision.response.statuses);
    for (descriptor, status) in descriptors.iter_mut().zip(statuses) {
        descriptor.status = Some(status.code().as_str_name());
    }
    descriptors
}

fn verdict(charge: &Charge, outcome: Option<Outcome>, counters: &Counters) -> String {
    let Some(outcome) = outcome else {
        return match counters {
            Counters::Silent(_) => format!("on_store_loss decides: {}", charge.on_store_loss),
            _ => "depends on what has been counted".to_owned(),
        };
    };
    if !charge.is_over(outcome.count) {
        return "within its limit".to_owned();
    }
    match charge.denies {
        Denies::Alone => "over its limit",
        Denies::Nothing => "over its limit, but shadow_mode lets it pass",
        Denies::Together => "over its limit, which denies the request when all its quotas are over",
    }
    .to_owned()
}

/// Why no limit applies.
fn unmatched(walk: Option<&Walk<'_>>, plan: &Plan<'_>, walks: &[Option<Walk<'_>>]) -> String {
    let Some(walk) = walk else { return "the domain has no rules".to_owned() };
    let End::Rule(rule) = &walk.end else { return hint::end(walk) };
    let brings_limit = |position: usize| {
        let applied = plan.applied().nth(position);
        matches!(applied, Some(Applied::Counted(_, None, _)))
    };
    let by = walks.iter().enumerate().find_map(|(position, other)| match &other.as_ref()?.end {
        End::Rule(other) if other.replaces.contains(&rule.name) && !brings_limit(position) => {
            Some(format!("descriptor {}, {}, replaces {}", position + 1, other.full_key, rule.name))
        }
        _ => None,
    });
    by.unwrap_or_else(|| "another rule replaces it".to_owned())
}

impl Descriptor {
    fn new(descriptor: &RateLimitDescriptor, applied: Applied<'_>, walk: Option<&Walk<'_>>) -> Self {
        let of_request = matches!(applied, Applied::Counted(_, None, _));
        let walk = walk.filter(|_| !of_request);
        let rule = walk.and_then(|walk| if let End::Rule(rule) = &walk.end { Some(*rule) } else { None });
        let limit = match applied {
            Applied::Counted(limit, ..) => Some(limit),
            Applied::Nothing | Applied::Unlimited => None,
        };
        let charge = if let Applied::Counted(_, _, charge) = applied { Some(charge) } else { None };
        let steps = descriptor.entries.iter().enumerate();
        Self {
            entries: steps.map(|(position, entry)| Entry::new(&entry.key, &entry.value, walk, position)).collect(),
            rule: rule.map(|rule| rule.full_key.clone()),
            name: rule.map(|rule| rule.name.clone()).unwrap_or_default(),
            limit: limit.map(|limit| Limit::new(limit, of_request)),
            r#override: rule.and_then(|rule| Override::of(rule, descriptor)),
            counter: None,
            replaces: rule.map(|rule| rule.replaces.clone()).unwrap_or_default(),
            shadow_mode: charge.is_some_and(|charge| charge.denies == Denies::Nothing),
            quota_mode: charge.is_some_and(|charge| charge.denies == Denies::Together),
            leases: charge.is_none_or(|charge| charge.leases),
            on_store_loss: charge.map(|charge| charge.on_store_loss.name()),
            status: charge.is_none().then(|| Code::Ok.as_str_name()),
            because: String::new(),
        }
    }
}

impl Entry {
    fn new(key: &str, value: &str, walk: Option<&Walk<'_>>, position: usize) -> Self {
        let step = walk.and_then(|walk| walk.steps.get(position));
        let stopped = walk.filter(|walk| walk.steps.len() == position);
        let (because, others) = match (step, stopped.map(|walk| &walk.end)) {
            (Some(step), _) => (kind(step.kind).to_owned(), step.others.as_slice()),
            (None, Some(End::NoMatch { others, known })) => (hint::entry(key, value, others, known), others.as_slice()),
            _ if walk.is_none() => (String::new(), &[][..]),
            _ => ("the entry before leads nowhere".to_owned(), &[][..]),
        };
        Self {
            key: key.to_owned(),
            value: value.to_owned(),
            matched: step.map(|step| step.text.to_owned()),
            because,
            losers: others.iter().take(MAX_LOSERS).map(Loser::from).collect(),
            more_losers: others.len().saturating_sub(MAX_LOSERS),
        }
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Exact => "the exact value",
        Kind::Wildcard => "the first wildcard in the file that fits",
        Kind::Key => "the key alone, for any value",
    }
}

impl From<&Candidate<'_>> for Loser {
    fn from(candidate: &Candidate<'_>) -> Self {
        let because = match candidate.reason {
            Reason::ExactWins => "it fits, but the exact value wins",
            Reason::EarlierWildcardWins => "it fits, but stands later in the file",
            Reason::KeyComesLast => "the key alone comes last",
            Reason::PatternDiffers => "it does not fit",
            Reason::ValueDiffers => "another value",
        };
        Self { descriptor: candidate.text.to_owned(), because }
    }
}

impl Limit {
    fn new(limit: PerUnit, of_request: bool) -> Self {
        Self {
            text: config::Limit::PerUnit(limit).to_string(),
            requests_per_unit: limit.requests_per_unit,
            burst: limit.burst,
            window: limit.window(),
            algorithm: match limit.algorithm {
                Algorithm::FixedWindow => "fixed_window",
                Algorithm::SlidingWindow => "sliding_window",
                Algorithm::Gcra { .. } => "gcra",
                Algorithm::Concurrency => "concurrency",
            },
            of_request,
        }
    }
}

impl Override {
    fn of(rule: &Rule, descriptor: &RateLimitDescriptor) -> Option<Self> {
        let overridden = rule.overridden.as_ref()?;
        let by_value = overridden.of_value(&descriptor.entries);
        let whole = || overridden.whole.as_ref().map(|over| (rule.limit, &**over));
        let (limit, over): (config::Limit, &overrides::Override) = by_value.or_else(whole)?;
        Some(Self {
            place: over.place.clone(),
            instead_of: overridden.written.to_string(),
            limit: limit.to_string(),
            values: over.target.values(),
            expires: over.expires.map(|expires| expires.to_string()),
            reason: over.reason.clone(),
        })
    }
}

impl Counter {
    fn new(limit: PerUnit, charge: &Charge, standing: &Standing) -> Self {
        Self {
            used: standing.count,
            remaining: u64::from(limit.burst).saturating_sub(standing.count),
            leased: standing.leased,
            holders: standing.holders.clone(),
            hits: charge.hits,
            seconds_left: standing.seconds_left,
        }
    }
}

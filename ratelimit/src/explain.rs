//! Why a request is answered as it is: the rule of each descriptor, what lies over it, what has been counted. No IO, no clock.

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use serde::Serialize;

pub use self::descriptor::{Counter, Descriptor, Entry, Limit, Loser, Override};
use crate::{
    config::Config,
    limiter::{self, Decision, Options, Plan, RequestError},
    store::{Denies, Outcome, Standing, foresee},
};

mod client;
mod descriptor;
mod hint;
mod request;
mod text;

pub use self::{
    client::{Error as AskError, ask},
    request::{NoPair, Pairs, request},
};

/// One request, explained. `Display` is for people, `Serialize` for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The request's domain.
    pub domain: String,
    /// `OK` or `OVER_LIMIT`; `None` if nobody knows what has been counted.
    pub answer: Option<&'static str>,
    /// Why that is the answer.
    pub because: String,
    /// In the order of the request.
    pub descriptors: Vec<Descriptor>,
}

/// What is known of the counters of a plan's charges.
#[derive(Clone, Debug)]
pub enum Counters {
    /// One for each charge.
    Known(Vec<Standing>),
    /// The store does not tell, for this reason.
    Silent(String),
    /// Nobody was asked.
    Unasked,
}

impl Explanation {
    /// Explains a plan that was made of the same configuration and options, and what would be answered now.
    pub fn new(config: &Config, plan: &Plan<'_>, options: &Options, counters: &Counters) -> Self {
        let foreseen = Foreseen::new(plan, options, counters);
        let domain = &plan.request().domain;
        let because = match (&foreseen, counters) {
            (Some(foreseen), _) if foreseen.decision.shadowed => {
                let denials = denials(plan, &foreseen.outcomes);
                format!("as SHADOW_MODE is set; without it OVER LIMIT, as {denials}")
            }
            _ if !plan.knows_domain() => hint::domain(config, domain),
            (Some(foreseen), _) => denials(plan, &foreseen.outcomes),
            (None, Counters::Silent(error)) => format!("as the counters cannot be read: {error}"),
            (None, _) => "as files do not tell what has been counted; ask a running instance".to_owned(),
        };
        let response = foreseen.as_ref().map(|foreseen| &foreseen.decision.response);
        Self {
            domain: domain.clone(),
            answer: response.map(|response| response.overall_code().as_str_name()),
            because,
            descriptors: descriptor::all(config, plan, counters, foreseen.as_ref()),
        }
    }
}

/// What would come of a request now.
#[derive(Debug)]
struct Foreseen {
    outcomes: Vec<Outcome>,
    decision: Decision,
}

impl Foreseen {
    /// `None` if that depends on counters that nobody knows.
    fn new(plan: &Plan<'_>, options: &Options, counters: &Counters) -> Option<Self> {
        let outcomes = match counters {
            Counters::Known(standings) => foresee(plan.charges(), standings),
            _ if plan.charges().is_empty() => vec![],
            Counters::Silent(_) | Counters::Unasked => return None,
        };
        let decision = plan.decide(&outcomes, options);
        Some(Self { outcomes, decision })
    }
}

/// Explains by the rules alone.
pub fn without_counts(
    config: &Config,
    request: &RateLimitRequest,
    options: &Options,
) -> Result<Explanation, RequestError> {
    let plan = limiter::plan(config, request, options)?;
    Ok(Explanation::new(config, &plan, options, &Counters::Unasked))
}

/// Which descriptors deny the request.
fn denials(plan: &Plan<'_>, outcomes: &[Outcome]) -> String {
    let over = descriptor::counted(plan).zip(outcomes).filter(|((_, charge), outcome)| charge.is_over(outcome.count));
    let over: Vec<_> = over.map(|((position, charge), _)| (position + 1, charge.denies)).collect();
    let alone: Vec<_> = over.iter().filter(|(_, denies)| *denies == Denies::Alone).map(|(at, _)| *at).collect();
    let together = |denies| plan.charges().iter().filter(|charge| charge.denies == denies).count();
    let quotas = over.iter().filter(|(_, denies)| *denies == Denies::Together).count();
    match alone.as_slice() {
        [one] => format!("descriptor {one} is over its limit"),
        [_, ..] => {
            let positions: Vec<_> = alone.iter().map(ToString::to_string).collect();
            format!("descriptors {} are over their limits", positions.join(", "))
        }
        [] if quotas > 0 && quotas == together(Denies::Together) => "all quotas of the request are over".to_owned(),
        [] if plan.charges().is_empty() => "nothing is limited".to_owned(),
        [] if over.is_empty() => "every limit has room".to_owned(),
        [] => "no limit that is over denies it".to_owned(),
    }
}

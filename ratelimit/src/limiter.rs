//! The algorithm: from a request to the counters it touches, and from their values to the answer. No IO, no clock.

use std::{convert::Infallible, iter, str::FromStr};

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_response::{Code, DescriptorStatus},
    },
};

pub use self::headers::Headers;
use self::quota::Quota;
use crate::{
    config::{Config, Domain, Limit, PerUnit, Rule, Unit},
    key,
    store::{self, Algorithm, Charge, OnStoreLoss, Outcome},
};

mod headers;
mod metadata;
mod quota;

/// Stands for an outcome that a store left out.
const MISSING: Outcome = Outcome { count: u64::MAX, charged: false, seconds_left: 0, near: false };
/// More descriptors than this in one request are refused.
pub const MAX_DESCRIPTORS: usize = 32;

/// Why a request cannot be decided. Texts are upstream's where upstream refuses too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// `domain` is not set.
    #[error("rate limit domain must not be empty")]
    EmptyDomain,
    /// `descriptors` has no element.
    #[error("rate limit descriptor list must not be empty")]
    NoDescriptors,
    /// `descriptors` has more than [`MAX_DESCRIPTORS`] elements.
    #[error("rate limit request has {0} descriptors, at most {MAX_DESCRIPTORS} are allowed")]
    TooManyDescriptors(usize),
    /// A descriptor's own `limit` has no unit, or one that is not in the enum.
    #[error("descriptor {descriptor}: limit has unit {unit}, which is not a unit of time")]
    OverrideUnit {
        /// Position in the request, from zero.
        descriptor: usize,
        /// The number sent.
        unit: i32,
    },
}

#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
/// What an operator decides about answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Share of a limit above which hits count as near it, in the metrics only.
    pub near_limit_ratio: f32,
    /// Answer OK whatever the counters say; the statuses still tell.
    pub shadow_mode: bool,
    /// A denied request costs nothing of any limit. A descriptor that states its own hits and is over its limit keeps them,
    /// since they may be the cost of a response that is gone.
    pub all_or_nothing: bool,
    /// Treat every limit as one in quota mode: deny only when all limits of a request are over.
    pub quota_mode: bool,
    /// Tell Envoy the request and the metadata of its rules in the answer's `dynamic_metadata`.
    pub dynamic_metadata: bool,
    /// Most series of metrics with values of requests, see `detailed_metric`; further values share one.
    pub max_value_series: usize,
    /// Who decides about a limit while the store cannot, where the limit's rule does not say.
    pub on_store_loss: OnStoreLoss,
    /// Whose requests may bring limits of their own; those of others fall under the rules.
    pub override_domains: OverrideDomains,
    /// Makes the names of counters unknown to clients; all replicas need the same.
    pub secret: key::Secret,
    /// Headers for the client about the descriptor that is closest to its limit.
    pub headers: Option<Headers>,
}

/// Domains whose requests' own limits are honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideDomains {
    /// Every domain, as upstream does.
    All,
    /// These; none if empty.
    Only(Vec<String>),
}

impl OverrideDomains {
    fn has(&self, domain: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(domains) => domains.iter().any(|known| known == domain),
        }
    }
}

/// `*`, or names divided by commas.
impl FromStr for OverrideDomains {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(if text.trim() == "*" { Self::All } else { Self::Only(names.map(str::to_owned).collect()) })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            near_limit_ratio: 0.8,
            shadow_mode: false,
            all_or_nothing: true,
            quota_mode: false,
            dynamic_metadata: false,
            max_value_series: 1000,
            on_store_loss: OnStoreLoss::Share,
            override_domains: OverrideDomains::All,
            secret: key::Secret::default(),
            headers: None,
        }
    }
}

/// Which limits a request falls under and what it costs, before any counter is touched.
#[derive(Debug)]
pub struct Plan<'p> {
    request: &'p RateLimitRequest,
    knows_domain: bool,
    /// One for each descriptor.
    checks: Vec<Check<'p>>,
    /// One for each [`Check::Counted`], in order.
    charges: Vec<Charge>,
}

#[derive(Debug)]
enum Check<'p> {
    Unmatched,
    Unlimited(&'p Rule),
    Counted(Quota<'p>),
}

/// What a plan has for one descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Applied<'p> {
    /// No rule, or one that another replaces.
    Nothing,
    /// A rule that does not count.
    Unlimited,
    /// A limit, of the rule or of the request if there is no rule, and what it costs.
    Counted(PerUnit, Option<&'p Rule>, &'p Charge),
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The answer to Envoy.
    pub response: RateLimitResponse,
    /// It would have been a denial but for [`Options::shadow_mode`].
    pub shadowed: bool,
}

/// Finds the limits of a request's descriptors.
pub fn plan<'p>(
    config: &'p Config,
    request: &'p RateLimitRequest,
    options: &Options,
) -> Result<Plan<'p>, RequestError> {
    if request.domain.is_empty() {
        return Err(RequestError::EmptyDomain);
    }
    match request.descriptors.len() {
        0 => return Err(RequestError::NoDescriptors),
        count if count > MAX_DESCRIPTORS => return Err(RequestError::TooManyDescriptors(count)),
        _ => {}
    }
    let domain = config.domain(&request.domain);
    let takes_overrides = options.override_domains.has(&request.domain);
    let mut checks = Vec::with_capacity(request.descriptors.len());
    let mut replaced: Vec<&str> = Vec::new();
    for (position, descriptor) in request.descriptors.iter().enumerate() {
        let (check, rule) = match domain {
            Some(domain) => check(domain, descriptor, position, takes_overrides)?,
            None => (Check::Unmatched, None),
        };
        replaced.extend(rule.iter().flat_map(|rule| &rule.replaces).map(String::as_str));
        checks.push(check);
    }
    let mut charges = Vec::with_capacity(checks.len());
    for (check, descriptor) in checks.iter_mut().zip(&request.descriptors) {
        let Check::Counted(quota) = check else { continue };
        if quota.name().is_some_and(|name| replaced.contains(&name)) {
            *check = Check::Unmatched;
        } else {
            charges.push(quota.charge(request, descriptor, options));
        }
    }
    Ok(Plan { request, knows_domain: domain.is_some(), checks, charges })
}

/// The limit of one descriptor, and the rule it comes from if it comes from the configuration.
fn check<'p>(
    domain: &'p Domain,
    descriptor: &'p RateLimitDescriptor,
    position: usize,
    takes_overrides: bool,
) -> Result<(Check<'p>, Option<&'p Rule>), RequestError> {
    let entries = &descriptor.entries;
    if let Some(limit) = descriptor.limit.as_ref().filter(|_| takes_overrides) {
        let Some(unit) = Unit::from_number(limit.unit) else {
            return Err(RequestError::OverrideUnit { descriptor: position, unit: limit.unit });
        };
        let limit = PerUnit::fixed(limit.requests_per_unit, unit);
        let quota = Quota { limit, entries, rule: None, metrics: &domain.overrides };
        return Ok((Check::Counted(quota), None));
    }
    let Some(rule) = domain.rule(entries) else { return Ok((Check::Unmatched, None)) };
    let check = match rule.limit_of(entries) {
        Limit::Unlimited => Check::Unlimited(rule),
        Limit::PerUnit(limit) => Check::Counted(Quota { limit, entries, rule: Some(rule), metrics: &rule.metrics }),
    };
    Ok((check, Some(rule)))
}

impl Plan<'_> {
    /// What to count, in the order in which [`Plan::decide`] wants the outcomes. Empty when no limit applies.
    pub fn charges(&self) -> &[Charge] {
        &self.charges
    }

    /// The request that is planned.
    pub(crate) fn request(&self) -> &RateLimitRequest {
        self.request
    }

    /// What applies to each descriptor.
    pub(crate) fn applied(&self) -> impl Iterator<Item = Applied<'_>> {
        let mut charges = self.charges.iter();
        self.checks.iter().map(move |check| match check {
            Check::Unmatched => Applied::Nothing,
            Check::Unlimited(_) => Applied::Unlimited,
            Check::Counted(quota) => {
                charges.next().map_or(Applied::Nothing, |charge| Applied::Counted(quota.limit, quota.rule, charge))
            }
        })
    }

    /// Whether the request's domain is configured at all.
    pub fn knows_domain(&self) -> bool {
        self.knows_domain
    }

    /// Adds the outcomes to the rules' metrics.
    pub fn count(&self, outcomes: &[Outcome], options: &Options) {
        for ((quota, charge), outcome) in self.quotas().zip(&self.charges).zip(outcomes) {
            quota.count(charge, *outcome, options);
        }
    }

    /// The answer: one status for each descriptor, and over limit if any limit denies. A charge that the store gave no
    /// outcome for counts as over its limit.
    pub fn decide(&self, outcomes: &[Outcome], options: &Options) -> Decision {
        let mut outcomes = outcomes.iter().copied().chain(iter::repeat(MISSING)).take(self.charges.len());
        let over = store::is_denied(&self.charges, &outcomes.clone().map(|outcome| outcome.count).collect::<Vec<_>>());
        let counted = outcomes.clone();
        let mut statuses = Vec::with_capacity(self.checks.len());
        for check in &self.checks {
            statuses.push(match check {
                Check::Unmatched => DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() },
                Check::Unlimited(_) => {
                    DescriptorStatus { code: Code::Ok.into(), limit_remaining: u32::MAX, ..DescriptorStatus::default() }
                }
                Check::Counted(quota) => quota.status(outcomes.next().unwrap_or(MISSING)),
            });
        }
        let response = RateLimitResponse {
            overall_code: if over && !options.shadow_mode { Code::OverLimit } else { Code::Ok }.into(),
            response_headers_to_add: options.headers.as_ref().map(|names| names.of(&statuses)).unwrap_or_default(),
            dynamic_metadata: options
                .dynamic_metadata
                .then(|| metadata::of(self.request, self.passed(&statuses, counted))),
            statuses,
            ..RateLimitResponse::default()
        };
        Decision { response, shadowed: over && options.shadow_mode }
    }

    /// The rules that let their descriptor pass; one of slots only if a slot was taken, so that what gives it back can be
    /// made from its metadata.
    fn passed<'s>(
        &'s self,
        statuses: &'s [DescriptorStatus],
        outcomes: impl Iterator<Item = Outcome> + 's,
    ) -> impl Iterator<Item = &'s Rule> {
        let mut counted = self.charges.iter().zip(outcomes);
        self.checks.iter().zip(statuses).filter_map(move |(check, status)| match check {
            Check::Unmatched => None,
            Check::Unlimited(rule) => Some(*rule),
            Check::Counted(quota) => {
                let passed = counted.next().is_some_and(|(charge, outcome)| match charge.algorithm {
                    Algorithm::Concurrency => outcome.charged && charge.hits > 0,
                    _ => status.code() == Code::Ok,
                });
                quota.rule.filter(|_| passed)
            }
        })
    }

    /// The rule of each descriptor, where one matches and no other replaces it.
    pub fn rules(&self) -> impl Iterator<Item = Option<&Rule>> {
        self.checks.iter().map(|check| match check {
            Check::Unmatched => None,
            Check::Unlimited(rule) => Some(*rule),
            Check::Counted(quota) => quota.rule,
        })
    }

    /// What was charged for which entries under which rule, and what came of it; without descriptors that bring their own
    /// limit.
    pub(crate) fn counted<'s>(
        &'s self,
        outcomes: &'s [Outcome],
    ) -> impl Iterator<Item = (&'s Rule, &'s [Entry], &'s Charge, Outcome)> {
        let counted = self.quotas().zip(&self.charges).zip(outcomes);
        counted.filter_map(|((quota, charge), outcome)| Some((quota.rule?, quota.entries, charge, *outcome)))
    }

    fn quotas(&self) -> impl Iterator<Item = &Quota<'_>> {
        self.checks.iter().filter_map(|check| if let Check::Counted(quota) = check { Some(quota) } else { None })
    }
}

//! A second configuration, tried on live traffic: what would it decide otherwise? It has counters of its own, answers nobody, and never
//! holds a decision up.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest, RateLimitResponse,
    rate_limit_response::{Code, DescriptorStatus},
};
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::{
    config::Config,
    limiter::{self, Options, Plan},
    service::CurrentConfig,
    store::CounterStore,
};

/// Requests that wait to be tried; more are dropped.
const WAITING: usize = 1024;

/// Hands decided requests over to be tried.
#[derive(Clone, Debug)]
pub struct Trial {
    sender: Sender<(RateLimitRequest, RateLimitResponse)>,
    /// One in so many requests is tried.
    every: u64,
    seen: Arc<AtomicU64>,
    dropped: Counter,
}

/// Tries requests on the second configuration.
#[derive(Debug)]
pub struct Shadow<S> {
    receiver: Receiver<(RateLimitRequest, RateLimitResponse)>,
    live: CurrentConfig,
    second: CurrentConfig,
    store: S,
    options: Options,
    report: Report,
    totals: Totals,
}

/// What the second configuration has decided otherwise, by rule. `Display` is a table.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<Mutex<Differences>>);

#[derive(Debug, Default)]
struct Differences {
    /// Which configuration they are about.
    config: Option<Arc<Config>>,
    requests: u64,
    agreed: u64,
    failed: u64,
    /// By the rule's full key.
    rules: BTreeMap<String, Difference>,
}

/// Of the descriptors that came to one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Difference {
    same: u64,
    newly_denied: u64,
    newly_allowed: u64,
}

#[derive(Debug)]
struct Totals {
    requests: Counter,
    agreed: Counter,
    failed: Counter,
}

/// Trials of `shadow`, to be compared with what was decided by `live`. One in `every` requests is tried.
pub fn new<S: CounterStore>(
    live: CurrentConfig,
    shadow: CurrentConfig,
    store: S,
    options: Options,
    every: u64,
) -> (Trial, Shadow<S>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let dropped = counter!("ratelimit_service_shadow_config_dropped");
    let totals = Totals {
        requests: counter!("ratelimit_service_shadow_config_requests"),
        agreed: counter!("ratelimit_service_shadow_config_agreed"),
        failed: counter!("ratelimit_service_shadow_config_failed"),
    };
    let trial = Trial { sender, every: every.max(1), seen: Arc::default(), dropped };
    (trial, Shadow { receiver, live, second: shadow, store, options, report: Report::default(), totals })
}

impl Trial {
    /// Takes a decided request, if it is its turn and there is room.
    pub(crate) fn take(&self, request: &RateLimitRequest, response: &RateLimitResponse) {
        if !self.seen.fetch_add(1, Relaxed).is_multiple_of(self.every) {
            return;
        }
        match self.sender.try_reserve() {
            Ok(room) => room.send((request.clone(), response.clone())),
            Err(_) => self.dropped.increment(1),
        }
    }
}

impl<S: CounterStore> Shadow<S> {
    /// Where the differences are told.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// Tries what is handed over, until nobody can hand over any more.
    pub async fn run(mut self) {
        while let Some((request, response)) = self.receiver.recv().await {
            let (Some(live), Some(shadow)) = (self.live.load_full(), self.second.load_full()) else { continue };
            self.totals.requests.increment(1);
            let Some(tried) = self.tried(&shadow, &request).await else {
                self.totals.failed.increment(1);
                self.report.failed(&shadow);
                continue;
            };
            let rules = (self.rules(&live, &request), self.rules(&shadow, &request));
            if self.report.compare(&shadow, rules, &response.statuses, &tried.statuses) {
                self.totals.agreed.increment(1);
            }
        }
    }

    /// What the second configuration decides. No metrics of its rules move.
    async fn tried(&self, shadow: &Config, request: &RateLimitRequest) -> Option<RateLimitResponse> {
        let plan = limiter::plan(shadow, request, &self.options).ok()?;
        let outcomes = match plan.charges() {
            [] => vec![],
            charges => self.store.charge(charges).await.ok()?,
        };
        Some(plan.decide(&outcomes, &self.options).response)
    }

    /// The full key of each descriptor's rule.
    fn rules(&self, config: &Config, request: &RateLimitRequest) -> Vec<Option<String>> {
        let plan = limiter::plan(config, request, &self.options);
        let keys = |plan: &Plan<'_>| plan.rules().map(|rule| Some(rule?.full_key.clone())).collect();
        plan.as_ref().map(keys).unwrap_or_default()
    }
}

impl Report {
    fn failed(&self, config: &Arc<Config>) {
        let mut differences = self.0.lock();
        differences.about(config);
        differences.requests += 1;
        differences.failed += 1;
    }

    /// Adds a request; true when both decide alike about each descriptor.
    fn compare(
        &self,
        config: &Arc<Config>,
        (live_rules, shadow_rules): (Vec<Option<String>>, Vec<Option<String>>),
        live: &[DescriptorStatus],
        shadow: &[DescriptorStatus],
    ) -> bool {
        let mut differences = self.0.lock();
        differences.about(config);
        differences.requests += 1;
        let mut agreed = true;
        let rules = live_rules.into_iter().zip(shadow_rules);
        for ((live_rule, shadow_rule), (live, shadow)) in rules.zip(live.iter().zip(shadow)) {
            let denied = (live.code() == Code::OverLimit, shadow.code() == Code::OverLimit);
            agreed &= denied.0 == denied.1;
            // A denial is the doing of the rule that denies.
            let rule = if denied == (true, false) { live_rule.or(shadow_rule) } else { shadow_rule.or(live_rule) };
            let Some(rule) = rule else { continue };
            let difference = differences.rules.entry(rule.clone()).or_default();
            difference.add(denied, &rule);
        }
        differences.agreed += u64::from(agreed);
        agreed
    }
}

impl Difference {
    /// `denied` by the one in force, and by the other.
    fn add(&mut self, denied: (bool, bool), rule: &str) {
        let of_rule = |name: &'static str| counter!(name, "rule" => rule.to_owned()).increment(1);
        match denied {
            (false, true) => {
                self.newly_denied += 1;
                of_rule("ratelimit_service_shadow_config_newly_denied");
            }
            (true, false) => {
                self.newly_allowed += 1;
                of_rule("ratelimit_service_shadow_config_newly_allowed");
            }
            _ => self.same += 1,
        }
    }
}

impl Differences {
    /// Begins anew when the configuration is another.
    fn about(&mut self, config: &Arc<Config>) {
        if !self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, config)) {
            *self = Self { config: Some(Arc::clone(config)), ..Self::default() };
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Differences { requests, agreed, failed, rules, .. } = &*self.0.lock();
        writeln!(f, "{requests} requests tried, {agreed} decided alike, {failed} could not be tried")?;
        if rules.is_empty() {
            return Ok(());
        }
        let width = rules.keys().map(|rule| rule.chars().count()).max().unwrap_or(0).max("rule".len());
        writeln!(f, "\n{:width$}  {:>10}  {:>12}  {:>13}", "rule", "same", "newly denied", "newly allowed")?;
        for (rule, Difference { same, newly_denied, newly_allowed }) in rules {
            writeln!(f, "{rule:width$}  {same:>10}  {newly_denied:>12}  {newly_allowed:>13}")?;
        }
        Ok(())
    }
}

//! Random histories of replicas that share a store, in virtual time: what is admitted never exceeds what the algorithm promises, and
//! nothing is denied that it has room for.
//!
//! `HISTORIES=1000000 cargo test -p ratelimit histories` runs more of them, in about a minute.

use std::{env, thread};

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, rate_limit_response::Code};
use rand::{Rng, SeedableRng, rngs::StdRng};
use ratelimit::{
    config::{Config, Domains},
    limiter::{self, Options, Plan},
    store::Memory,
};

use self::model::{Algorithm, Counter, Rule};
use crate::requests::{descriptor, request};

mod model;

const REPLICAS: usize = 8;
/// Rules that one history's requests fall under, each or together.
const TOGETHER: usize = 3;
/// Kinds of requests of a group: each choice of its rules, with up to so many hits.
const MOST_HITS: u32 = 3;
const CHOICES: usize = (1 << TOGETHER) - 1;
/// Longer than any window: a history finds all counters empty.
const PAUSE: u64 = 20_000;

/// Rules of each algorithm, with small limits, short windows, and windows whose buckets are no whole milliseconds.
fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::Gcra, Algorithm::Concurrency] {
        for (limit, burst, seconds) in [(1, 1, 1), (2, 5, 1), (5, 2, 3), (4, 4, 7), (3, 1, 2)] {
            let burst = if algorithm == Algorithm::Gcra { burst } else { limit };
            rules.push(Rule { algorithm, limit, burst, window: seconds * 1000 });
        }
    }
    rules
}

fn yaml(rules: &[Rule]) -> String {
    let rule = |(number, Rule { algorithm, limit, burst, window }): (usize, &Rule)| {
        let algorithm = match algorithm {
            Algorithm::FixedWindow => "fixed_window".to_owned(),
            Algorithm::SlidingWindow => "sliding_window".to_owned(),
            Algorithm::Gcra => format!("gcra, burst: {burst}"),
            Algorithm::Concurrency => "concurrency".to_owned(),
        };
        let window = format!("unit: second, unit_multiplier: {}", window / 1000);
        format!(
            "  - {{ key: r{number}, rate_limit: {{ {window}, requests_per_unit: {limit}, algorithm: {algorithm} }} }}\n"
        )
    };
    format!("domain: d\ndescriptors:\n{}", rules.iter().enumerate().map(rule).collect::<String>())
}

/// Rules whose counters a history plays with, and what its requests may be.
struct Group {
    rules: Vec<usize>,
    requests: Vec<RateLimitRequest>,
    /// For each rule, a request that gives one hit back.
    releases: Vec<RateLimitRequest>,
}

impl Group {
    fn random(random: &mut StdRng, rules: usize) -> Self {
        let rules = rand::seq::index::sample(random, rules, TOGETHER).into_vec();
        let named = |rule: &usize| descriptor(&[(format!("r{rule}").as_str(), "")]);
        let choices = (1..=CHOICES).flat_map(|choice| (1..=MOST_HITS).map(move |hits| (choice, hits)));
        let requests = choices.map(|(choice, hits_addend)| {
            let chosen =
                rules.iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1).map(|(_, rule)| named(rule));
            RateLimitRequest { hits_addend, ..request("d", chosen.collect()) }
        });
        let release = |rule| {
            let mut back = named(rule);
            back.is_negative_hits = true;
            request("d", vec![back])
        };
        Self { requests: requests.collect(), releases: rules.iter().map(release).collect(), rules }
    }
}

/// What a group's requests are to one replica.
struct Plans<'p> {
    requests: Vec<Plan<'p>>,
    releases: Vec<Plan<'p>>,
}

impl<'p> Plans<'p> {
    fn new(config: &'p Config, group: &'p Group, options: &Options) -> Self {
        let plan = |request: &'p RateLimitRequest| limiter::plan(config, request, options).unwrap();
        Self {
            requests: group.requests.iter().map(plan).collect(),
            releases: group.releases.iter().map(plan).collect(),
        }
    }
}

/// Plays histories with one store, and checks each step of each.
fn play(seed: u64, histories: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let (options, rules, store) = (Options::default(), rules(), Memory::new(100_000));
    let text = yaml(&rules);
    let config = || Config::from_yaml([("rules.yaml", text.as_str())], Domains::Distinct).unwrap();
    let configs: Vec<_> = (0..REPLICAS).map(|_| config()).collect();
    let groups: Vec<_> = (0..40).map(|_| Group::random(&mut random, rules.len())).collect();
    let plans = |group| configs.iter().map(|config| Plans::new(config, group, &options)).collect::<Vec<_>>();
    let groups: Vec<_> = groups.iter().map(|group| (group, plans(group))).collect();
    let mut now = 1_000_000_007;
    for number in 0..histories {
        let (group, plans) = &groups[random.random_range(0..groups.len())];
        let mut counters: Vec<_> = group.rules.iter().map(|rule| Counter::new(rules[*rule])).collect();
        let replicas = random.random_range(1..=REPLICAS);
        for _ in 0..random.random_range(4..=20) {
            now += pause(&mut random, &counters, now);
            // A replica's thread may have read the clock before another that charged earlier.
            let read = now - if random.random_ratio(1, 8) { random.random_range(0..=5) } else { 0 };
            let plans = &plans[random.random_range(0..replicas)];
            let context = || format!("history {number} of seed {seed} at {now}: {counters:#?}");
            let released = counters.iter().position(|counter| counter.can_release(now));
            if let Some(rule) = released.filter(|_| random.random_ratio(1, 3)) {
                store.charge_at(plans.releases[rule].charges(), read).unwrap();
                counters[rule].release(read);
                continue;
            }
            let index = random.random_range(0..plans.requests.len());
            let (choice, hits) = (index / MOST_HITS as usize + 1, index % MOST_HITS as usize + 1);
            let chosen = |(bit, _): &(usize, &Counter)| choice >> bit & 1 == 1;
            let outcomes = store.charge_at(plans.requests[index].charges(), read).unwrap();
            let decision = plans.requests[index].decide(&outcomes, &options);
            let admitted = decision.response.overall_code() == Code::Ok;
            let mut of_request = counters.iter().enumerate().filter(chosen).map(|(_, counter)| counter);
            if admitted {
                assert!(
                    of_request.all(|counter| counter.may_admit(hits as u64, read)),
                    "admitted {hits}: {}",
                    context()
                );
                let of_request = counters.iter_mut().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1);
                of_request.for_each(|(_, counter)| counter.admit(hits as u64, read));
            } else {
                assert!(of_request.any(|counter| counter.may_deny(hits as u64, read)), "denied {hits}: {}", context());
                let of_request = counters.iter_mut().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1);
                of_request.for_each(|(_, counter)| counter.show(read));
            }
        }
        now += PAUSE;
    }
}

/// Mostly moments at which something changes: no time at all, edges of windows and buckets, and when a hit is as old as the window.
fn pause(random: &mut StdRng, counters: &[Counter], now: u64) -> u64 {
    let counter = &counters[random.random_range(0..counters.len())];
    let window = counter.rule.window;
    let edge = match random.random_range(0..6) {
        0 | 1 => return 0,
        2 => window - now % window,
        3 => window.div_ceil(60) - now % window.div_ceil(60),
        4 => counter.oldest().map_or(0, |oldest| (oldest + window).saturating_sub(now)),
        _ => random.random_range(0..window),
    };
    (edge + random.random_range(0..3)).saturating_sub(1)
}

#[test]
fn replicas_never_admit_more_than_the_limit() {
    let histories = env::var("HISTORIES").map_or(20_000, |number| number.parse().unwrap());
    let threads = [1, 2].map(|seed| thread::spawn(move || play(seed, histories / 2)));
    for thread in threads {
        thread.join().unwrap();
    }
}

//! What the pure part of a decision takes: the key of a counter, the plan of a request, and the answer.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{fmt::Write as _, hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::RateLimitRequest,
};
use ratelimit::{
    config::{Config, Domains},
    key::Key,
    limiter::{Options, plan},
    store::{Algorithm, Memory},
};

/// A rule for any user, and so many for users of their own.
fn config(own: usize) -> Config {
    let mut yaml = String::from("domain: bench\ndescriptors:\n");
    let limit = "rate_limit: { unit: hour, requests_per_unit: 1000000 }";
    writeln!(yaml, "  - key: user\n    {limit}").unwrap();
    for number in 0..own {
        writeln!(yaml, "  - key: user\n    value: '{number:010}'\n    {limit}").unwrap();
    }
    Config::from_yaml([("bench.yaml", yaml.as_str())], Domains::Distinct).unwrap()
}

fn entry(number: usize) -> Entry {
    Entry { key: "user".to_owned(), value: format!("{number:010}") }
}

fn request(descriptors: usize) -> RateLimitRequest {
    let descriptors = (0..descriptors)
        .map(|number| RateLimitDescriptor { entries: vec![entry(number)], ..RateLimitDescriptor::default() });
    RateLimitRequest { domain: "bench".to_owned(), descriptors: descriptors.collect(), ..RateLimitRequest::default() }
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    for levels in [1, 3] {
        let entries: Vec<_> = (0..levels).map(entry).collect();
        group.bench_with_input(BenchmarkId::new("levels", levels), &entries, |bencher, entries| {
            bencher.iter(|| Key::new(black_box("bench"), 3600, Algorithm::FixedWindow, black_box(entries), &[]));
        });
    }
}

fn plans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    let options = Options::default();
    for (rules, descriptors) in [(1, 1), (1, 10), (10_000, 1)] {
        let (config, request) = (config(rules - 1), request(descriptors));
        let id = BenchmarkId::new(format!("{descriptors} descriptors"), format!("{rules} rules"));
        group.bench_with_input(id, &request, |bencher, request| {
            bencher.iter(|| plan(&config, black_box(request), &options).unwrap());
        });
    }
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    let (config, options) = (config(0), Options::default());
    for descriptors in [1, 10] {
        let request = request(descriptors);
        let plan = plan(&config, &request, &options).unwrap();
        let outcomes = Memory::new(1000).charge_now(plan.charges()).unwrap();
        group.bench_with_input(BenchmarkId::new("descriptors", descriptors), &outcomes, |bencher, outcomes| {
            bencher.iter(|| plan.decide(black_box(outcomes), &options));
        });
    }
}

/// All of a decision in memory but for the wire.
fn whole(criterion: &mut Criterion) {
    let (config, options, store) = (config(0), Options::default(), Memory::new(1000));
    for descriptors in [1, 10] {
        let request = request(descriptors);
        criterion.bench_function(&format!("plan, charge in memory, decide/{descriptors}"), |bencher| {
            bencher.iter(|| {
                let plan = plan(&config, black_box(&request), &options).unwrap();
                let outcomes = store.charge_now(plan.charges()).unwrap();
                plan.count(&outcomes, &options);
                plan.decide(&outcomes, &options)
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = keys, plans, decisions, whole
}
criterion_main!(benches);

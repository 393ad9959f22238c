//! Random requests to random rules: first explained, then decided.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::RateLimitRequest,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use ratelimit::{
    config::{Config, Domains},
    limiter::Options,
    service::{CurrentConfig, Service},
    store::Memory,
};
use tokio::runtime;

use crate::requests::{descriptor, hits, limit};

/// A descriptor in the rules: key, value, `rate_limit` and more, and the descriptors below.
#[derive(Clone, Debug)]
struct Node(&'static str, &'static str, Option<String>, Vec<Node>);

fn rate_limit() -> impl Strategy<Value = String> {
    let algorithm = select(vec![
        "",
        ", algorithm: sliding_window",
        ", algorithm: concurrency",
        ", algorithm: gcra",
        ", algorithm: gcra, burst: 2",
    ]);
    let limit = (1u32..5, algorithm)
        .prop_map(|(requests, algorithm)| format!("unit: year, requests_per_unit: {requests}{algorithm}"));
    let limit = prop_oneof![1 => Just("unlimited: true".to_owned()), 9 => limit];
    let name = select(vec!["", ", name: one", ", name: two", ", name: two, replaces: [{ name: one }]"]);
    let mode = select(vec!["", "", "shadow_mode: true, ", "quota_mode: true, "]);
    (limit, name, mode).prop_map(|(limit, name, mode)| format!("{mode}rate_limit: {{ {limit}{name} }}"))
}

fn nodes(depth: u32) -> BoxedStrategy<Vec<Node>> {
    let below = if depth == 0 { Just(vec![]).boxed() } else { prop_oneof![Just(vec![]), nodes(depth - 1)].boxed() };
    let node = (
        select(vec!["a", "b"]),
        select(vec!["", "x", "y", "x*", "*y", "*"]),
        option::weighted(0.8, rate_limit()),
        below,
    );
    vec(node.prop_map(|(key, value, limit, below)| Node(key, value, limit, below)), 0..5).boxed()
}

fn write(nodes: &[Node], text: &mut String) {
    let mut known = BTreeSet::new();
    text.push('[');
    for Node(key, value, limit, below) in nodes {
        if known.insert((key, value)) {
            let share = if value.contains('*') && below.is_empty() { ", share_threshold: true" } else { "" };
            let limit = limit.as_ref().map(|limit| format!(", {limit}")).unwrap_or_default();
            write!(text, "{{ key: {key}, value: '{value}'{share}{limit}, descriptors: ").unwrap();
            write(below, text);
            text.push_str("}, ");
        }
    }
    text.push(']');
}

fn any_descriptor() -> impl Strategy<Value = RateLimitDescriptor> {
    let entry = (select(vec!["a", "b", "c"]), select(vec!["", "x", "y", "xy", "z"]));
    let own = (0u32..5, Just(6));
    (vec(entry, 1..4), option::weighted(0.2, 0u64..4), prop::bool::weighted(0.1), option::weighted(0.1, own)).prop_map(
        |(entries, own_hits, negative, own_limit)| {
            let mut of = descriptor(&entries);
            if let Some(own) = own_hits {
                of = hits(of, own);
            }
            if let Some((requests, unit)) = own_limit {
                of = limit(of, requests, unit);
            }
            RateLimitDescriptor { is_negative_hits: negative, ..of }
        },
    )
}

fn any_request() -> impl Strategy<Value = RateLimitRequest> {
    let domain = prop_oneof![9 => Just("d".to_owned()), 1 => Just("other".to_owned())];
    (domain, vec(any_descriptor(), 1..5), 0u32..3).prop_map(|(domain, descriptors, hits_addend)| RateLimitRequest {
        domain,
        descriptors,
        hits_addend,
    })
}

fn any_options() -> impl Strategy<Value = Options> {
    (prop::bool::weighted(0.2), prop::bool::weighted(0.7), prop::bool::weighted(0.2), any::<bool>()).prop_map(
        |(shadow_mode, all_or_nothing, quota_mode, takes_own)| Options {
            shadow_mode,
            all_or_nothing,
            quota_mode,
            override_domains: if takes_own { "*" } else { "" }.parse().unwrap(),
            ..Options::default()
        },
    )
}

fn entries(of: &RateLimitDescriptor) -> &[Entry] {
    &of.entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn what_is_explained_is_what_is_answered(
        nodes in nodes(2), requests in vec(any_request(), 1..16), options in any_options(),
    ) {
        let mut text = "domain: d\ndescriptors: ".to_owned();
        write(&nodes, &mut text);
        let config = Arc::new(Config::from_yaml([("d.yaml", text.as_str())], Domains::Distinct).unwrap());
        let current = CurrentConfig::default();
        current.store(Some(Arc::clone(&config)));
        let service = Service::new(current, Memory::new(10_000), options);
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        for request in &requests {
            let explanation = runtime.block_on(service.explain(request)).unwrap();
            let answer = runtime.block_on(service.decide(request)).unwrap();
            prop_assert_eq!(explanation.answer, Some(answer.overall_code().as_str_name()), "{}\n{}", text, explanation);
            for ((explained, status), of) in explanation.descriptors.iter().zip(&answer.statuses).zip(&request.descriptors) {
                prop_assert_eq!(explained.status, Some(status.code().as_str_name()), "{}\n{}", text, explanation);
                let of_request = explained.limit.as_ref().is_some_and(|limit| limit.of_request);
                let rule = config.domain(&request.domain).and_then(|domain| domain.rule(entries(of)));
                let rule = rule.filter(|_| !of_request).map(|rule| rule.full_key.as_str());
                prop_assert_eq!(explained.rule.as_deref(), rule, "{}\n{}", text, explanation);
                let limit = status.current_limit.as_ref().map(|limit| (limit.requests_per_unit, limit.name.as_str()));
                let told = explained.limit.as_ref().map(|limit| (limit.requests_per_unit, explained.name.as_str()));
                prop_assert_eq!(told, limit, "{}\n{}", text, explanation);
            }
        }
    }
}

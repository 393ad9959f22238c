//! Which limit applies to a request, what it costs, and what the answer is.

use std::sync::LazyLock;

use envoy_types::pb::{
    envoy::{
        extensions::common::ratelimit::v3::{
            RateLimitDescriptor,
            rate_limit_descriptor::{Entry, RateLimitOverride},
        },
        service::ratelimit::v3::{RateLimitRequest, RateLimitResponse, rate_limit_response::Code},
    },
    google::protobuf::{Struct, UInt64Value, Value, value::Kind},
    ratelimit::config::ratelimit::v3::{self as config, RateLimitConfig, RateLimitPolicy},
};
use proptest::{collection::vec, option, prelude::*};
use ratelimit::{
    config::{Config, Domains},
    limiter::{self, Decision, Headers, MAX_DESCRIPTORS, Options, RequestError},
    store::{Denies, Outcome, Undo},
};

use crate::requests::{descriptor, hits, limit, request};

const RULES: &str = "
domain: d
descriptors:
  - key: user
    rate_limit: { unit: minute, requests_per_unit: 10, name: any-user }
  - key: user
    value: vip
    rate_limit: { unit: hour, requests_per_unit: 100, name: vip, replaces: [{ name: any-ip }] }
  - key: user
    value: v*
    rate_limit: { unit: second, requests_per_unit: 1, name: v-star }
  - key: user
    value: '*'
    descriptors:
      - key: path
        rate_limit: { unit: day, requests_per_unit: 5, name: per-path }
  - key: ip
    rate_limit: { unit: minute, requests_per_unit: 3, name: any-ip }
  - key: free
    rate_limit: { unlimited: true }
  - key: banned
    rate_limit: { unit: second, requests_per_unit: 0 }
  - key: shadow
    shadow_mode: true
    rate_limit: { unit: minute, requests_per_unit: 1 }
  - key: quota
    value: one
    quota_mode: true
    rate_limit: { unit: minute, requests_per_unit: 1 }
  - key: quota
    value: two
    quota_mode: true
    rate_limit: { unit: minute, requests_per_unit: 1 }
  - key: told
    detailed_metric: true
    metadata: { tier: gold, nested: { list: [1, text, null, true] } }
    rate_limit: { unit: minute, requests_per_unit: 1 }
  - key: told
    value: too
    metadata: { tier: silver }
    rate_limit: { unlimited: true }
  - key: shared
    value: a*
    share_threshold: true
    rate_limit: { unit: minute, requests_per_unit: 1 }
";

fn rules() -> &'static Config {
    static CONFIG: LazyLock<Config> =
        LazyLock::new(|| Config::from_yaml([("rules.yaml", RULES)], Domains::Distinct).unwrap());
    &CONFIG
}

/// Decides a request of domain `d` whose counters then stand at `counts`.
fn decide(descriptors: Vec<RateLimitDescriptor>, counts: &[u64], options: &Options) -> Decision {
    let request = request("d", descriptors);
    let plan = limiter::plan(rules(), &request, options).unwrap();
    assert_eq!(plan.charges().len(), counts.len());
    let outcomes: Vec<_> =
        counts.iter().map(|&count| Outcome { count, charged: true, seconds_left: 7, near: false }).collect();
    plan.decide(&outcomes, options)
}

fn answer(descriptors: Vec<RateLimitDescriptor>, counts: &[u64]) -> RateLimitResponse {
    decide(descriptors, counts, &Options::default()).response
}

/// Name of the rule that a single descriptor falls under.
fn matched(entries: &[(&str, &str)]) -> Option<String> {
    let request = request("d", vec![descriptor(entries)]);
    let plan = limiter::plan(rules(), &request, &Options::default()).unwrap();
    let outcomes = vec![Outcome { count: 1, charged: true, seconds_left: 1, near: false }; plan.charges().len()];
    let status = plan.decide(&outcomes, &Options::default()).response.statuses.remove(0);
    status.current_limit.map(|limit| limit.name)
}

#[test]
fn exact_values_win_over_wildcards_and_these_over_bare_keys() {
    let name = |text: &str| Some(text.to_owned());
    assert_eq!(matched(&[("user", "vip")]), name("vip"));
    assert_eq!(matched(&[("user", "val")]), name("v-star"), "the first wildcard in the file");
    assert_eq!(matched(&[("ip", "10.0.0.1")]), name("any-ip"));
    assert_eq!(matched(&[("other", "x")]), None);
    // Another wildcard matches, and there is no way back from it to the bare key.
    assert_eq!(matched(&[("user", "joe")]), None);
    assert_eq!(matched(&[("user", "joe"), ("path", "/")]), name("per-path"));
}

#[test]
fn depth_must_be_the_rules() {
    assert_eq!(matched(&[("ip", "10.0.0.1"), ("path", "/")]), None, "longer than the rule");
    assert_eq!(
        matched(&[("user", "vip"), ("path", "/")]),
        None,
        "vip has nothing below it, and the wildcard is not tried"
    );
    assert_eq!(matched(&[]), None);
}

#[test]
fn statuses_are_in_step_with_the_descriptors() {
    let response =
        answer(vec![descriptor(&[("nothing", "x")]), descriptor(&[("ip", "x")]), descriptor(&[("free", "x")])], &[2]);
    assert_eq!(response.overall_code(), Code::Ok);
    let [unmatched, limited, free] = response.statuses.as_slice() else { panic!("{response:?}") };
    assert_eq!((unmatched.code(), &unmatched.current_limit, unmatched.limit_remaining), (Code::Ok, &None, 0));
    assert_eq!((free.code(), &free.current_limit, free.limit_remaining), (Code::Ok, &None, u32::MAX));
    let limit = limited.current_limit.clone().unwrap();
    assert_eq!((limit.requests_per_unit, limit.unit().as_str_name(), limit.name.as_str()), (3, "MINUTE", "any-ip"));
    assert_eq!((limited.limit_remaining, limited.duration_until_reset.as_ref().unwrap().seconds), (1, 7));
}

#[test]
fn over_limit_begins_above_the_limit() {
    let ip = || vec![descriptor(&[("ip", "x")])];
    assert_eq!(answer(ip(), &[3]).overall_code(), Code::Ok);
    let response = answer(ip(), &[4]);
    assert_eq!(response.overall_code(), Code::OverLimit);
    assert_eq!((response.statuses[0].code(), response.statuses[0].limit_remaining), (Code::OverLimit, 0));
    assert_eq!(answer(vec![descriptor(&[("banned", "x")])], &[1]).overall_code(), Code::OverLimit);
}

#[test]
fn one_denial_is_enough() {
    let response = answer(vec![descriptor(&[("ip", "x")]), descriptor(&[("user", "vip")])], &[101]);
    assert_eq!(response.overall_code(), Code::OverLimit);
    assert_eq!(response.statuses[0].code(), Code::Ok);
}

#[test]
fn hits_are_the_descriptors_or_the_requests_or_one() {
    let config = rules();
    let ip = || descriptor(&[("ip", "x")]);
    let charged = |hits_addend, descriptor| {
        let request = RateLimitRequest { hits_addend, ..request("d", vec![descriptor]) };
        limiter::plan(config, &request, &Options::default()).unwrap().charges()[0].hits
    };
    assert_eq!(charged(0, ip()), 1);
    assert_eq!(charged(5, ip()), 5);
    assert_eq!(charged(5, hits(ip(), 2)), 2);
    assert_eq!(charged(5, hits(ip(), 0)), 0, "a descriptor may look without counting");
    assert_eq!(charged(0, hits(ip(), u64::MAX)), i64::from(u32::MAX));
    assert_eq!(charged(0, RateLimitDescriptor { is_negative_hits: true, ..hits(ip(), 2) }), -2);
}

#[test]
fn charges_say_what_they_deny_and_when_they_are_taken_back() {
    let charge = |descriptor: RateLimitDescriptor, options: &Options| {
        let request = request("d", vec![descriptor]);
        let plan = limiter::plan(rules(), &request, options).unwrap();
        let charge = plan.charges()[0];
        (charge.denies, charge.undo)
    };
    let normal = Options::default();
    let ip = || descriptor(&[("ip", "x")]);
    assert_eq!(charge(ip(), &normal), (Denies::Alone, Undo::Denied));
    assert_eq!(charge(hits(ip(), 5), &normal), (Denies::Alone, Undo::DeniedByOthers));
    let back = RateLimitDescriptor { is_negative_hits: true, ..hits(ip(), 2) };
    assert_eq!(charge(back, &normal), (Denies::Alone, Undo::Never));
    assert_eq!(charge(descriptor(&[("shadow", "x")]), &normal), (Denies::Nothing, Undo::Denied));
    assert_eq!(charge(descriptor(&[("quota", "one")]), &normal), (Denies::Together, Undo::Denied));
    let quota = Options { quota_mode: true, ..Options::default() };
    assert_eq!(charge(ip(), &quota), (Denies::Together, Undo::Denied));
    for options in [Options { shadow_mode: true, ..normal.clone() }, Options { all_or_nothing: false, ..normal }] {
        assert_eq!(charge(ip(), &options).1, Undo::Never);
    }
}

#[test]
fn a_rule_drops_those_it_replaces() {
    let response = answer(vec![descriptor(&[("ip", "x")]), descriptor(&[("user", "vip")])], &[1]);
    assert_eq!(response.statuses[0].current_limit, None);
    assert_eq!(response.statuses[1].current_limit.as_ref().unwrap().name, "vip");
}

#[test]
fn a_requests_own_limit_wins() {
    let response = answer(vec![limit(descriptor(&[("shadow", "x")]), 2, 3)], &[3]);
    assert_eq!(response.overall_code(), Code::OverLimit, "shadow mode is the rule's, not the override's");
    let limit_given = response.statuses[0].current_limit.clone().unwrap();
    assert_eq!((limit_given.requests_per_unit, limit_given.unit().as_str_name()), (2, "HOUR"));
    let response = answer(vec![limit(descriptor(&[("unknown", "x")]), 2, 7)], &[1]);
    assert_eq!(response.statuses[0].limit_remaining, 1);
}

#[test]
fn a_limit_without_a_unit_is_an_error() {
    let config = rules();
    for unit in [0, 8, -1, i32::MAX] {
        let error =
            limiter::plan(config, &request("d", vec![limit(descriptor(&[("ip", "x")]), 1, unit)]), &Options::default())
                .unwrap_err();
        assert_eq!(error, RequestError::OverrideUnit { descriptor: 0, unit });
    }
}

#[test]
fn requests_out_of_bounds_are_errors() {
    let config = rules();
    let error = |request| limiter::plan(config, &request, &Options::default()).unwrap_err().to_string();
    assert_eq!(error(request("", vec![descriptor(&[])])), "rate limit domain must not be empty");
    assert_eq!(error(request("d", vec![])), "rate limit descriptor list must not be empty");
    let many = vec![descriptor(&[("ip", "x")]); MAX_DESCRIPTORS + 1];
    assert_eq!(error(request("d", many)), "rate limit request has 33 descriptors, at most 32 are allowed");
}

#[test]
fn an_unknown_domain_is_ok() {
    let request = request("other", vec![limit(descriptor(&[("ip", "x")]), 0, 1)]);
    let plan = limiter::plan(rules(), &request, &Options::default()).unwrap();
    assert!(!plan.knows_domain());
    assert_eq!(plan.decide(&[], &Options::default()).response.overall_code(), Code::Ok);
}

#[test]
fn shadow_rules_never_deny() {
    let response = answer(vec![descriptor(&[("shadow", "x")])], &[9]);
    assert_eq!(response.overall_code(), Code::Ok);
    assert_eq!((response.statuses[0].code(), response.statuses[0].limit_remaining), (Code::Ok, 0));
}

#[test]
fn global_shadow_mode_changes_the_overall_code_only() {
    let options = Options { shadow_mode: true, ..Options::default() };
    let decision = decide(vec![descriptor(&[("ip", "x")])], &[9], &options);
    assert!(decision.shadowed);
    assert_eq!(decision.response.overall_code(), Code::Ok);
    assert_eq!(decision.response.statuses[0].code(), Code::OverLimit);
}

#[test]
fn quota_rules_deny_only_together() {
    let both = || vec![descriptor(&[("quota", "one")]), descriptor(&[("quota", "two")])];
    assert_eq!(answer(both(), &[2, 1]).overall_code(), Code::Ok);
    assert_eq!(answer(both(), &[2, 1]).statuses[0].code(), Code::OverLimit);
    assert_eq!(answer(both(), &[2, 2]).overall_code(), Code::OverLimit);
    let with_ip = vec![descriptor(&[("quota", "one")]), descriptor(&[("ip", "x")])];
    assert_eq!(answer(with_ip, &[1, 4]).overall_code(), Code::OverLimit);
}

#[test]
fn global_quota_mode_makes_every_rule_a_quota() {
    let options = Options { quota_mode: true, ..Options::default() };
    let overall = |counts: &[u64]| {
        let descriptors = vec![descriptor(&[("ip", "x")]), limit(descriptor(&[("own", "x")]), 2, 1)];
        decide(descriptors, counts, &options).response.overall_code()
    };
    assert_eq!(overall(&[4, 1]), Code::Ok);
    assert_eq!(overall(&[3, 3]), Code::Ok);
    assert_eq!(overall(&[4, 3]), Code::OverLimit);
}

/// The answer's `dynamic_metadata` as JSON.
fn told(request: &RateLimitRequest, count: u64) -> serde_json::Value {
    let options = Options { dynamic_metadata: true, ..Options::default() };
    let plan = limiter::plan(rules(), request, &options).unwrap();
    let outcomes = vec![Outcome { count, charged: true, seconds_left: 7, near: false }; plan.charges().len()];
    proto::json::to_json(&plan.decide(&outcomes, &options).response.dynamic_metadata.unwrap()).unwrap()
}

#[test]
fn dynamic_metadata_tells_the_request() {
    let own_limit = hits(limit(descriptor(&[("a", "b"), ("c", "")]), 42, 2), 0);
    let request = RateLimitRequest { hits_addend: 3, ..request("d", vec![own_limit, descriptor(&[("ip", "x")])]) };
    let expected = serde_json::json!({
        "domain": "d",
        "descriptors": [
            { "entries": ["a=b", "c="], "limit": "requests_per_unit:42 unit:MINUTE", "hitsAddend": 0.0 },
            { "entries": ["ip=x"] },
        ],
        "hitsAddend": 3.0,
    });
    assert_eq!(told(&request, 1), expected);
    assert_eq!(decide(vec![descriptor(&[("free", "x")])], &[], &Options::default()).response.dynamic_metadata, None);
}

#[test]
fn dynamic_metadata_carries_that_of_the_rules_which_let_pass() {
    let request = request("d", vec![descriptor(&[("told", "x")]), descriptor(&[("told", "too")])]);
    let expected = serde_json::json!({ "tier": "silver", "nested": { "list": [1.0, "text", null, true] } });
    assert_eq!(told(&request, 1)["metadata"], expected, "also of a rule with metrics by value");
    assert_eq!(told(&request, 2)["metadata"], serde_json::json!({ "tier": "silver" }));
}

#[test]
fn metadata_from_xds_is_told_too() {
    let metadata: Struct = proto::json::from_json(serde_json::json!({ "tier": "gold", "weight": 1.5 })).unwrap();
    let free = RateLimitPolicy { unlimited: true, ..RateLimitPolicy::default() };
    let told = config::RateLimitDescriptor {
        key: "told".into(),
        detailed_metric: true,
        rate_limit: Some(free),
        metadata: Some(metadata.clone()),
        ..config::RateLimitDescriptor::default()
    };
    let message = RateLimitConfig { name: "d".into(), domain: "d".into(), descriptors: vec![told] };
    let config = Config::from_xds(&[message], Domains::Distinct).unwrap();
    let request = request("d", vec![descriptor(&[("told", "x")])]);
    let options = Options { dynamic_metadata: true, ..Options::default() };
    let response = limiter::plan(&config, &request, &options).unwrap().decide(&[], &options).response;
    let expected = Value { kind: Some(Kind::StructValue(metadata)) };
    assert_eq!(response.dynamic_metadata.unwrap().fields["metadata"], expected);
}

#[test]
fn values_count_apart_unless_they_share_a_threshold() {
    let config = rules();
    let key = |key, value| {
        limiter::plan(config, &request("d", vec![descriptor(&[(key, value)])]), &Options::default()).unwrap().charges()
            [0]
        .key
    };
    assert_ne!(key("ip", "1"), key("ip", "2"));
    assert_eq!(key("shared", "a1"), key("shared", "a2"));
}

#[test]
fn headers_tell_about_the_tightest_limit() {
    let names = Headers { limit: "L".into(), remaining: "R".into(), reset: "S".into() };
    let options = Options { headers: Some(names), ..Options::default() };
    let headers = |descriptors, counts: &[u64]| {
        let response = decide(descriptors, counts, &options).response;
        response.response_headers_to_add.into_iter().map(|header| (header.key, header.value)).collect::<Vec<_>>()
    };
    let three =
        |limit: &str, remaining: &str| [("L", limit), ("R", remaining), ("S", "7")].map(|(k, v)| (k.into(), v.into()));
    let two = || vec![descriptor(&[("shadow", "x")]), descriptor(&[("ip", "x")])];
    assert_eq!(headers(two(), &[1, 1]), three("1", "0"), "the least remaining");
    assert_eq!(headers(two(), &[1, 9]), three("3", "0"), "the one that denies");
    assert_eq!(headers(vec![descriptor(&[("free", "x")])], &[]), []);
}

fn any_descriptor() -> impl Strategy<Value = RateLimitDescriptor> {
    let key = prop_oneof!["user|ip|free|banned|shadow|quota|shared|path", ".{0,4}"];
    let value = prop_oneof!["vip|one|two|a|v", ".{0,4}"];
    let entries = vec((key, value).prop_map(|(key, value)| Entry { key, value }), 0..4);
    let own_limit = option::of(
        (any::<u32>(), -1..9).prop_map(|(requests_per_unit, unit)| RateLimitOverride { requests_per_unit, unit }),
    );
    let hits = option::of(any::<u64>().prop_map(|value| UInt64Value { value }));
    (entries, own_limit, hits, any::<bool>()).prop_map(|(entries, limit, hits_addend, is_negative_hits)| {
        RateLimitDescriptor { entries, limit, hits_addend, is_negative_hits }
    })
}

proptest! {
    #[test]
    fn nothing_panics_and_statuses_fit(
        domain in "d?",
        descriptors in vec(any_descriptor(), 0..40),
        hits_addend: u32,
        counts in vec((any::<u64>(), any::<u32>()), 0..40),
        headers: bool,
    ) {
        let config = rules();
        let count = descriptors.len();
        let request = RateLimitRequest { domain, descriptors, hits_addend };
        let names = Headers { limit: "l".into(), remaining: "r".into(), reset: "s".into() };
        let options = Options { headers: headers.then_some(names), ..Options::default() };
        if let Ok(plan) = limiter::plan(config, &request, &options) {
            // Also with fewer or more outcomes than charges, which no store gives.
            let outcomes: Vec<_> = counts.iter().map(|&(count, seconds_left)| Outcome { count, charged: true, seconds_left, near: false }).collect();
            plan.count(&outcomes, &options);
            let response = plan.decide(&outcomes, &options).response;
            prop_assert_eq!(response.statuses.len(), count);
            prop_assert_ne!(response.overall_code(), Code::Unknown);
        }
    }
}

//! What a caller may try with a request.

use std::collections::HashSet;

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, rate_limit_response::Code};
use ratelimit::{
    config::{Config, Domains},
    limiter::{self, Headers, Options, OverrideDomains, RequestError},
    store::{Charge, Memory},
};

use crate::requests::{descriptor, hits, limit, request};

fn config() -> Config {
    let rules = "domain: d\ndescriptors: [{ key: k, rate_limit: { unit: hour, requests_per_unit: 10 } }]";
    Config::from_yaml([("d.yaml", rules)], Domains::Distinct).unwrap()
}

fn charges(config: &Config, request: &RateLimitRequest) -> Vec<Charge> {
    limiter::plan(config, request, &Options::default()).unwrap().charges().to_vec()
}

#[test]
fn l2_odd_values_have_counters_of_their_own() {
    let config = config();
    let long = "x".repeat(1 << 20);
    let values = ["", "\0", "\0\0", " ", "\u{202e}", "é", "e\u{301}", "k", "*", "\r\n", &long, &long[1..]];
    let key = |value: &str| charges(&config, &request("d", vec![descriptor(&[("k", value)])]))[0].key;
    assert_eq!(values.map(key).into_iter().collect::<HashSet<_>>().len(), values.len());
    let many = request("d", vec![descriptor(&[("k", "x")]); limiter::MAX_DESCRIPTORS + 1]);
    let error = limiter::plan(&config, &many, &Options::default()).unwrap_err();
    assert_eq!(error, RequestError::TooManyDescriptors(33));
    let deep = vec![("k", "x"); 100_000];
    assert!(charges(&config, &request("d", vec![descriptor(&deep)])).is_empty());
}

#[test]
fn l6_hits_cannot_wrap_around_or_be_made_up() {
    let (config, store) = (config(), Memory::new(1000));
    let send = |asked| {
        let plan_of = request("d", vec![asked]);
        let plan = limiter::plan(&config, &plan_of, &Options::default()).unwrap();
        let outcomes = store.charge_at(plan.charges(), 0).unwrap();
        (plan.decide(&outcomes, &Options::default()).response.overall_code(), outcomes[0].count)
    };
    let asked = || descriptor(&[("k", "x")]);
    for _ in 0..3 {
        for most in [u64::from(u32::MAX), u64::from(u32::MAX) + 1, 1 << 63, u64::MAX] {
            let (code, count) = send(hits(asked(), most));
            assert_eq!(code, Code::OverLimit, "{most}");
            assert!(count >= u32::MAX.into(), "{most} {count}");
        }
    }
    let mut back = hits(asked(), u64::MAX);
    back.is_negative_hits = true;
    for _ in 0..40 {
        send(back.clone());
    }
    assert_eq!(send(hits(asked(), 0)), (Code::Ok, 0), "giving back ends at zero");
    assert_eq!(send(hits(asked(), 11)).0, Code::OverLimit, "nothing was saved up below it");
}

#[test]
fn l7_own_limits_are_taken_from_listed_domains_only() {
    let config = config();
    let asked = request("d", vec![limit(descriptor(&[("k", "x")]), u32::MAX, 1)]);
    let limits = |override_domains: &str| {
        let override_domains = override_domains.parse().unwrap();
        let options = Options { override_domains, ..Options::default() };
        limiter::plan(&config, &asked, &options)
            .unwrap()
            .charges()
            .iter()
            .map(|charge| charge.limit)
            .collect::<Vec<_>>()
    };
    assert_eq!(Options::default().override_domains, OverrideDomains::All);
    assert_eq!(limits("*"), [u32::MAX]);
    assert_eq!(limits("c,d"), [u32::MAX]);
    assert_eq!(limits("c"), [10], "the rule's");
    assert_eq!(limits(""), [10]);
}

#[test]
fn l9_headers_hold_nothing_of_the_request() {
    let config = config();
    let names = Headers { limit: "l".into(), remaining: "r".into(), reset: "s".into() };
    let options = Options { headers: Some(names), ..Options::default() };
    let asked = request("d", vec![descriptor(&[("k", "x\r\nset-cookie: a=b")])]);
    let plan = limiter::plan(&config, &asked, &options).unwrap();
    let outcomes = Memory::new(1000).charge_at(plan.charges(), 0).unwrap();
    for header in plan.decide(&outcomes, &options).response.response_headers_to_add {
        assert!(header.value.bytes().all(|byte| byte.is_ascii_digit()) && header.raw_value.is_empty(), "{header:?}");
    }
}

//! The grammar, case by case: what a configuration makes of requests, in `grammar/*.yaml`.

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::RateLimitDescriptor,
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_response::{DescriptorStatus, rate_limit::Unit},
    },
};
use ratelimit::{
    config::{Config, Domains},
    limiter::{self, Options},
    store::Memory,
};
use serde::Deserialize;

use crate::requests::{descriptor, hits, limit, request};

/// A configuration, and either the error it is refused with or what it answers to requests, one after the other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    config: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Descriptors, divided by ` & `. Each is `key=value,key=value`, and may be followed by its own limit, as `@5/MINUTE`, and
    /// by its own hits, as `+3` or `-1`.
    ask: String,
    /// Of the whole request.
    #[serde(default)]
    hits: u32,
    /// Sends the request so often; the last answer counts.
    #[serde(default = "once")]
    times: u32,
    #[serde(default = "domain")]
    domain: String,
    /// The overall code, and behind a colon what is said about each descriptor, divided by ` & `.
    answer: String,
}

fn once() -> u32 {
    1
}

fn domain() -> String {
    "d".into()
}

fn asked(text: &str) -> RateLimitDescriptor {
    let mut words = text.split_whitespace();
    let entries = words.next().unwrap_or_default().split(',').filter_map(|entry| entry.split_once('='));
    let asked = descriptor(&entries.collect::<Vec<_>>());
    words.fold(asked, |asked, word| match word.split_at(1) {
        ("@", own) => {
            let (requests, unit) = own.split_once('/').unwrap();
            limit(asked, requests.parse().unwrap(), Unit::from_str_name(unit).unwrap().into())
        }
        ("+", own) => hits(asked, own.parse().unwrap()),
        ("-", own) => RateLimitDescriptor { is_negative_hits: true, ..hits(asked, own.parse().unwrap()) },
        _ => panic!("{word} in {text}"),
    })
}

fn told(response: &RateLimitResponse) -> String {
    let statuses: Vec<_> = response.statuses.iter().map(status).collect();
    format!("{}: {}", response.overall_code().as_str_name(), statuses.join(" & "))
}

fn status(status: &DescriptorStatus) -> String {
    let code = status.code().as_str_name();
    let Some(limit) = &status.current_limit else {
        return if status.limit_remaining == u32::MAX { format!("{code} unlimited") } else { code.to_owned() };
    };
    let name = if limit.name.is_empty() { String::new() } else { format!(" {}", limit.name) };
    let unit = limit.unit().as_str_name();
    format!("{code} {} of {}/{unit}{name}", status.limit_remaining, limit.requests_per_unit)
}

/// What is not as the case says.
fn mismatches(case: &Case) -> Vec<String> {
    let config = match Config::from_yaml([("case.yaml", case.config.as_str())], Domains::Distinct) {
        Ok(config) => config,
        Err(error) if Some(error.to_string()) == case.error => return vec![],
        Err(error) => return vec![format!("{}: {error}", case.name)],
    };
    if case.error.is_some() {
        return vec![format!("{}: it is not refused", case.name)];
    }
    let (store, options) = (Memory::new(1000), Options::default());
    let mismatch = |step: &Step| {
        let descriptors = step.ask.split(" & ").map(asked).collect();
        let request = RateLimitRequest { hits_addend: step.hits, ..request(&step.domain, descriptors) };
        let plan = limiter::plan(&config, &request, &options).unwrap();
        let decide = || plan.decide(&store.charge_at(plan.charges(), 0).unwrap(), &options).response;
        for _ in 1..step.times {
            decide();
        }
        let answer = told(&decide());
        (answer != step.answer).then(|| format!("{}: {} is answered {answer}", case.name, step.ask))
    };
    case.steps.iter().filter_map(mismatch).collect()
}

#[test]
fn cases() {
    insta::glob!("grammar/*.yaml", |path| {
        let cases: Vec<Case> = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(!cases.is_empty());
        let mismatches: Vec<_> = cases.iter().flat_map(mismatches).collect();
        assert!(mismatches.is_empty(), "{mismatches:#?}");
    });
}

//! What the debug port tells of live traffic: who uses a rule most, and what a second configuration would decide.

use std::fs;

use crate::program::{Program, fetch, until};

fn ask(program: &Program, user: &str) -> u16 {
    let body = format!(r#"{{"domain": "d", "descriptors": [{{"entries": [{{"key": "user", "value": "{user}"}}]}}]}}"#);
    fetch(program.http, "POST", "/json", &body).0
}

#[test]
fn top_lists_who_uses_a_rule_most() {
    let program = Program::start(&["--top-talkers", "2"]);
    for (user, times) in [("ann", 21), ("bob", 5), ("cid", 1)] {
        for _ in 0..times {
            ask(&program, user);
        }
    }
    let (_, text) = fetch(program.debug, "GET", "/top", "");
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["d.user"]);
    assert_eq!(rows[2], ["21", "0", "1", "user=ann"], "one hit is over the limit of 20: {text}");
    assert_eq!(rows[3], ["6", "5", "0", "user=cid"], "it took the place of one with 5 hits: {text}");
    let (_, metrics) = fetch(program.metrics, "GET", "/metrics", "");
    assert!(!metrics.contains("ann"), "values of requests are no labels");
}

#[test]
fn a_second_configuration_is_tried_and_decides_nothing() {
    let shadow = tempfile::tempdir().unwrap();
    let rules = "domain: d\ndescriptors: [{ key: user, rate_limit: { unit: year, requests_per_unit: 2 } }]\n";
    fs::write(shadow.path().join("rules.yaml"), rules).unwrap();
    let program = Program::start(&["--shadow-config-dir", shadow.path().to_str().unwrap()]);
    let report = || fetch(program.debug, "GET", "/shadow", "").1;
    // Nothing is tried before the second configuration has been read.
    until("a request that is tried", || {
        ask(&program, "first");
        !report().starts_with("0 requests")
    });
    let row = |text: &str| {
        let row = text.lines().find(|line| line.starts_with("d.user ")).unwrap_or_default().to_owned();
        row.split_whitespace().skip(1).map(|count| count.parse::<u64>().unwrap()).collect::<Vec<_>>()
    };
    let before = row(&report());
    for _ in 0..5 {
        assert_eq!(ask(&program, "joe"), 200, "the second configuration allows two");
    }
    until("five more trials", || row(&report()).iter().sum::<u64>() >= before.iter().sum::<u64>() + 5);
    let after = row(&report());
    assert!(after[1] >= before[1] + 3, "newly denied: {before:?} {after:?}");
    assert_eq!(after[2], 0);
    let (_, metrics) = fetch(program.metrics, "GET", "/metrics", "");
    assert!(metrics.contains(r#"ratelimit_service_shadow_config_newly_denied{rule="d.user"}"#), "{metrics}");
}

#[test]
fn pages_that_are_off_say_how_to_switch_them_on() {
    let program = Program::start(&[]);
    for (path, setting) in [("/top", "TOP_TALKERS"), ("/shadow", "SHADOW_CONFIG_DIR")] {
        let (status, text) = fetch(program.debug, "GET", path, "");
        assert!(status == 200 && text.contains(setting), "{path}: {text}");
    }
    assert!(fetch(program.debug, "GET", "/stats", "").1.contains("ratelimit_service_config_load_success"));
}

//! What is read from YAML and from xDS, and the exact text of each error.

use envoy_types::pb::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitReplace, RateLimitUnit,
};
use ratelimit::config::{Config, Domains};

use crate::requests::descriptor;

/// What `/rlconfig` says about a file, or the error.
fn read(name: &str, text: &str) -> String {
    match Config::from_yaml([(name, text)], Domains::Distinct) {
        Ok(config) => config.dump(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn good_files_are_read() {
    insta::glob!("config/good/*.yaml", |path| {
        let text = std::fs::read_to_string(path).unwrap();
        insta::assert_snapshot!(read("good.yaml", &text));
    });
}

#[test]
fn bad_files_are_refused_with_their_place() {
    insta::glob!("config/bad/*.yaml", |path| {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(Config::from_yaml([("bad.yaml", text.as_str())], Domains::Distinct).is_err());
        insta::assert_snapshot!(read("bad.yaml", &text));
    });
}

#[test]
fn a_domain_has_one_file() {
    let files = [("a.yaml", "domain: x"), ("b.yaml", "domain: y"), ("c.yaml", "domain: x")];
    let error = Config::from_yaml(files, Domains::Distinct);
    let text = error.unwrap_err().to_string();
    assert_eq!(
        text,
        r#"domain "x" is defined by a.yaml and again by c.yaml; each domain has one file unless MERGE_DOMAIN_CONFIG is set"#
    );
}

#[test]
fn files_of_one_domain_are_merged() {
    let part = |keys: &[&str]| {
        let rule = |key: &&str| format!("  - {{ key: {key}, rate_limit: {{ unit: second, requests_per_unit: 1 }} }}\n");
        format!("domain: x\ndescriptors:\n{}", keys.iter().map(rule).collect::<String>())
    };
    let merge = |first: &str, second: &str| Config::from_yaml([("a.yaml", first), ("b.yaml", second)], Domains::Merged);
    let config = merge(&part(&["b", "w*"]), &part(&["a", "wx", "ww*"])).unwrap();
    let keys: Vec<_> = config.dump().lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect();
    assert_eq!(keys, ["x.b", "x.w*", "x.a", "x.wx", "x.ww*"]);
    let found = |key: &str| Some(config.domain("x")?.rule(&descriptor(&[(key, "")]).entries)?.full_key.clone());
    assert_eq!(found("a").unwrap(), "x.a");
    assert_eq!(found("ww1").unwrap(), "x.w*", "the first wildcard of the first file");

    let error = merge(&part(&["a", "b"]), &part(&["c", "b"])).unwrap_err().to_string();
    assert_eq!(error, r#"domain "x": descriptor "b" is defined by a.yaml and again by b.yaml; remove one"#);
}

#[test]
fn the_place_is_shown_in_the_text() {
    let error =
        Config::from_yaml([("a.yaml", "domain: x\ndescriptors:\n  - key: ''\n")], Domains::Distinct).unwrap_err();
    let mut shown = String::new();
    let handler = miette::NarratableReportHandler::new();
    handler.render_report(&mut shown, &error).unwrap();
    assert!(shown.contains("label at line 3, column 5: here"), "{shown}");
}

fn message(domain: &str, descriptors: Vec<RateLimitDescriptor>) -> RateLimitConfig {
    RateLimitConfig { name: format!("{domain}-config"), domain: domain.into(), descriptors }
}

#[test]
fn xds_messages_make_the_same_tree() {
    let limit = |unit: RateLimitUnit, requests_per_unit| RateLimitPolicy {
        unit: unit.into(),
        requests_per_unit,
        ..RateLimitPolicy::default()
    };
    let admin = RateLimitDescriptor {
        key: "role".into(),
        value: "admin*".into(),
        quota_mode: true,
        rate_limit: Some(RateLimitPolicy {
            replaces: vec![RateLimitReplace { name: "users".into() }],
            ..limit(RateLimitUnit::Hour, 7)
        }),
        ..RateLimitDescriptor::default()
    };
    let any_role = RateLimitDescriptor {
        key: "role".into(),
        shadow_mode: true,
        rate_limit: Some(RateLimitPolicy { unlimited: true, ..RateLimitPolicy::default() }),
        ..RateLimitDescriptor::default()
    };
    let users = RateLimitDescriptor {
        key: "database".into(),
        value: "users".into(),
        rate_limit: Some(RateLimitPolicy { name: "users".into(), ..limit(RateLimitUnit::Second, 500) }),
        descriptors: vec![admin, any_role],
        ..RateLimitDescriptor::default()
    };
    let number = RateLimitDescriptor {
        key: "number".into(),
        value: "10".into(),
        rate_limit: Some(limit(RateLimitUnit::Day, 0)),
        ..RateLimitDescriptor::default()
    };
    let config = Config::from_xds(&[message("mongo_cps", vec![users, number])], Domains::Distinct).unwrap();
    assert_eq!(config.dump(), read("nested.yaml", include_str!("config/good/nested.yaml")));
}

#[test]
fn xds_errors_name_message_and_descriptor() {
    let below = |descriptor| RateLimitDescriptor {
        key: "a".into(),
        value: "b".into(),
        descriptors: vec![descriptor],
        ..RateLimitDescriptor::default()
    };
    let error = |messages: &[RateLimitConfig]| Config::from_xds(messages, Domains::Distinct).unwrap_err().to_string();
    let no_unit = RateLimitDescriptor {
        key: "c".into(),
        rate_limit: Some(RateLimitPolicy::default()),
        ..RateLimitDescriptor::default()
    };
    assert_eq!(
        error(&[message("d", vec![below(no_unit)])]),
        r#"RateLimitConfig "d-config": d.a_b.c: rate_limit needs a unit: second, minute, hour, day, week, month or year"#
    );
    assert_eq!(
        error(&[message("d", vec![]), message("d", vec![])]),
        r#"domain "d" is defined by d-config and again by d-config; each domain has one file unless MERGE_DOMAIN_CONFIG is set"#
    );
}

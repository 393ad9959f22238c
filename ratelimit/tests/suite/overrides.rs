//! Other limits than the rules', for a rule or a value, for a time.

use std::{fs, path::Path, time::Duration};

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitResponse, rate_limit_response::Code};
use jiff::{SignedDuration, Timestamp};
use ratelimit::{
    config::{Config, Domains},
    limiter::{self, Options},
    overrides::{Overlay, Overrides},
    service::CurrentConfig,
    store::Charge,
};

use crate::{
    program::{Program, ask, fetch, until},
    requests::{descriptor, request},
    xds_server::XdsServer,
};

const RULES: &str = "
domain: shop
descriptors:
  - key: user
    shadow_mode: true
    rate_limit: { unit: minute, requests_per_unit: 10, name: per-user }
  - key: user
    value: bot
    rate_limit: { unit: minute, requests_per_unit: 1 }
  - key: free
    rate_limit: { unlimited: true }
  - key: tenant
    value: t*
    descriptors:
      - key: path
        rate_limit: { unit: hour, requests_per_unit: 5 }
";

/// Rules with overrides over them.
struct Shop {
    config: CurrentConfig,
    overlay: Overlay,
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn overrides(text: &str) -> Overrides {
    Overrides::from_yaml([("o.yaml", text)]).unwrap()
}

impl Shop {
    fn open(text: &str, now: Timestamp) -> Self {
        let config = CurrentConfig::default();
        let overlay = Overlay::from(config.clone());
        overlay.publish(Config::from_yaml([("shop.yaml", RULES)], Domains::Distinct).unwrap());
        overlay.replace(overrides(text), now);
        Self { config, overlay }
    }

    /// What a request with these entries is charged.
    fn charge(&self, entries: &[(&str, &str)]) -> Option<Charge> {
        let config = self.config.load();
        let request = request("shop", vec![descriptor(entries)]);
        let plan = limiter::plan(config.as_ref().unwrap(), &request, &Options::default()).unwrap();
        plan.charges().first().copied()
    }

    /// The limit and the window that it has.
    fn limit(&self, entries: &[(&str, &str)]) -> (u32, u32) {
        let charge = self.charge(entries).unwrap();
        (charge.limit, charge.window)
    }
}

#[test]
fn the_more_specific_wins_and_what_is_left_out_stays() {
    let shop = Shop::open(
        "
- { domain: shop, descriptor: [{ key: user }], rate_limit: { requests_per_unit: 20 } }
- { domain: shop, descriptor: [{ key: user, match: joe }], rate_limit: { requests_per_unit: 99, unit: hour } }
- { domain: shop, descriptor: [{ key: user, match: ann }], rate_limit: { unlimited: true } }
- { domain: shop, descriptor: [{ key: tenant, value: t* }, { key: path, match: /x }], rate_limit: { requests_per_unit: 6 } }
- { domain: shop, descriptor: [{ key: tenant, value: t*, match: t1 }, { key: path }], rate_limit: { requests_per_unit: 7 } }
- domain: shop
  descriptor: [{ key: tenant, value: t*, match: t1 }, { key: path, match: /y }]
  rate_limit: { requests_per_unit: 8 }
- { domain: shop, descriptor: [{ key: free, match: bad }], rate_limit: { unit: second, requests_per_unit: 1 } }
",
        Timestamp::now(),
    );
    assert_eq!(shop.limit(&[("user", "eve")]), (20, 60));
    assert_eq!(shop.limit(&[("user", "joe")]), (99, 3600));
    assert_eq!(shop.charge(&[("user", "ann")]), None, "unlimited");
    assert_eq!(shop.limit(&[("user", "bot")]), (1, 60), "another rule");
    for (tenant, path, limit) in [("t2", "/", 5), ("t2", "/x", 6), ("t1", "/x", 7), ("t1", "/y", 8), ("t1", "/", 7)] {
        assert_eq!(shop.limit(&[("tenant", tenant), ("path", path)]), (limit, 3600), "{tenant} {path}");
    }
    assert_eq!(shop.limit(&[("free", "bad")]), (1, 1));
    assert_eq!(shop.charge(&[("free", "good")]), None);

    let config = shop.config.load_full().unwrap();
    let rule = config.domain("shop").unwrap().rules()[0];
    assert!(rule.shadow_mode);
    assert_eq!(rule.name, "per-user");
    assert!(config.dump().starts_with("shop.user: unit=MINUTE requests_per_unit=20, "), "{}", config.dump());
}

#[test]
fn windows_and_algorithms_change_too() {
    let rules = |more: &str| {
        let limit = format!("{{ unit: minute, requests_per_unit: 10{more} }}");
        format!("domain: shop\ndescriptors: [{{ key: user, rate_limit: {limit} }}]")
    };
    let of = |written: &str, change: &str| {
        let config = CurrentConfig::default();
        let overlay = Overlay::from(config.clone());
        overlay.publish(Config::from_yaml([("shop.yaml", rules(written).as_str())], Domains::Distinct).unwrap());
        overlay.replace(
            overrides(&format!("- {{ domain: shop, descriptor: [{{ key: user }}], rate_limit: {{ {change} }} }}")),
            Timestamp::now(),
        );
        let config = config.load_full().unwrap();
        config.domain("shop").unwrap().rules()[0].limit.to_string()
    };
    for (written, change, limit) in [
        ("", "requests_per_unit: 3", "3 per minute"),
        (", unit_multiplier: 5", "requests_per_unit: 3", "3 per 5 minutes"),
        (", unit_multiplier: 5", "unit: hour", "10 per hour"),
        ("", "unit_multiplier: 2, algorithm: sliding_window", "10 per 2 minutes, sliding window"),
        (", algorithm: gcra", "requests_per_unit: 3", "3 per minute, gcra, burst 3"),
        (", algorithm: gcra, burst: 2", "requests_per_unit: 3", "3 per minute, gcra, burst 2"),
        (", algorithm: gcra, burst: 2", "burst: 5", "10 per minute, gcra, burst 5"),
        (", algorithm: gcra, burst: 2", "algorithm: fixed_window", "10 per minute"),
        (", algorithm: gcra, burst: 2", "requests_per_unit: 0", "0 per minute, gcra, burst 0"),
        (", algorithm: concurrency", "unlimited: true", "unlimited"),
        ("", "burst: 5", "10 per minute"),
        ("", "unit: year, unit_multiplier: 1000", "10 per minute"),
    ] {
        assert_eq!(of(written, change), limit, "{change} over {written:?}");
    }
}

#[test]
fn the_count_goes_on_where_the_window_stays() {
    let shop = Shop::open(
        "- { domain: shop, descriptor: [{ key: user }], rate_limit: { requests_per_unit: 2 } }",
        Timestamp::now(),
    );
    let over = shop.charge(&[("user", "joe")]).unwrap();
    shop.overlay.replace(Overrides::default(), Timestamp::now());
    let written = shop.charge(&[("user", "joe")]).unwrap();
    assert_eq!(over, Charge { limit: 2, ..written });
}

#[test]
fn expired_ones_end_at_their_time_and_a_short_one_lies_over_a_lasting_one() {
    let text = "
- { domain: shop, descriptor: [{ key: user }], rate_limit: { requests_per_unit: 20 }, expires: 2030-01-02T00:00:00Z }
- { domain: shop, descriptor: [{ key: user }], rate_limit: { requests_per_unit: 30 }, expires: 2030-01-01T01:00:00+01:00 }
- { domain: shop, descriptor: [{ key: user }], rate_limit: { requests_per_unit: 40 }, expires: 2020-01-01T00:00:00Z }
";
    let shop = Shop::open(text, at("2029-12-31T23:59:59Z"));
    let limit = || shop.limit(&[("user", "joe")]).0;
    assert_eq!(limit(), 30);
    assert_eq!(shop.overlay.refresh(at("2029-12-31T23:59:59.9Z")), Some(at("2030-01-01T00:00:00Z")));
    assert_eq!(limit(), 30);
    assert_eq!(shop.overlay.refresh(at("2030-01-01T00:00:00Z")), Some(at("2030-01-02T00:00:00Z")));
    assert_eq!(limit(), 20);
    assert_eq!(shop.overlay.refresh(at("2030-01-02T00:00:00Z")), None);
    assert_eq!(limit(), 10);
}

#[test]
fn another_configuration_keeps_its_overrides_and_what_matches_nothing_is_left_out() {
    let shop = Shop::open(
        "
- { domain: shop, descriptor: [{ key: user, match: bot }], rate_limit: { requests_per_unit: 2 } }
- { domain: shop, descriptor: [{ key: tenant, value: t* }], rate_limit: { requests_per_unit: 2 } }
- { domain: mall, descriptor: [{ key: user }], rate_limit: { requests_per_unit: 2 } }
- { domain: shop, descriptor: [{ key: free }], rate_limit: { requests_per_unit: 2 } }
- { domain: shop, descriptor: [{ key: user }], rate_limit: { requests_per_unit: 3 } }
",
        Timestamp::now(),
    );
    assert_eq!(shop.limit(&[("user", "bot")]), (1, 60), "it has a rule of its own");
    assert_eq!(shop.limit(&[("user", "joe")]), (3, 60));
    let rules = RULES.replace("requests_per_unit: 10", "requests_per_unit: 11").replace("minute", "day");
    shop.overlay.publish(Config::from_yaml([("shop.yaml", rules.as_str())], Domains::Distinct).unwrap());
    assert_eq!(shop.limit(&[("user", "joe")]), (3, 86400));
}

#[test]
fn a_bad_file_is_an_error_with_its_place() {
    for (text, error) in [
        ("domain: shop\n", "o.yaml:1:1: "),
        ("- domain: shop\n  descriptor: [{ key: k }]\n  rate_limit: {}\n", "o.yaml:1:3: rate_limit is empty"),
        ("- domain: shop\n  descriptor: [{ key: k }]\n  nonsense: 1\n", "o.yaml:3:3: unknown field `nonsense`"),
        ("- { domain: d, descriptor: [], rate_limit: { unlimited: true } }", "descriptor must name the rule"),
        ("- { domain: '', descriptor: [{ key: k }], rate_limit: { unlimited: true } }", "domain must not be empty"),
        ("- { domain: d, descriptor: [{ key: '' }], rate_limit: { unlimited: true } }", "empty key"),
        (
            "- { domain: d, descriptor: [{ key: k, value: v, match: v }], rate_limit: { unlimited: true } }",
            "match is for",
        ),
        ("- { domain: d, descriptor: [{ key: k }], rate_limit: { unlimited: true, unit: day } }", "both unlimited and"),
        (
            "- { domain: d, descriptor: [{ key: k }], rate_limit: { unlimited: true }, expires: soon }",
            "`soon` is no time",
        ),
    ] {
        let refused = Overrides::from_yaml([("o.yaml", text)]).unwrap_err().to_string();
        assert!(refused.contains(error) && refused.starts_with("o.yaml:"), "{refused} is not {error}");
    }
    let one = "- { domain: d, descriptor: [{ key: k }], rate_limit: { unlimited: true } }\n";
    let twice = Overrides::from_yaml([("a.yaml", one), ("b.yaml", one)]).unwrap_err().to_string();
    assert_eq!(twice, "b.yaml:1:3: d.k is overridden twice until the same time; remove one");
    for empty in ["", "# nothing yet\n", "[]"] {
        assert!(Overrides::from_yaml([("o.yaml", empty)]).is_ok(), "{empty:?}");
    }
}

fn remaining(response: &RateLimitResponse) -> (Code, u32) {
    (response.overall_code(), response.statuses[0].limit_remaining)
}

fn log(program: &Program) -> String {
    fs::read_to_string(program.dir.path().join("log")).unwrap()
}

fn write(dir: &Path, text: &str) {
    fs::write(dir.join("vip.yaml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_are_live_audited_and_expire() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(&["--log-level", "info", "--overrides-dir", dir.path().to_str().unwrap()]);
    let mut client = program.client().await;
    assert_eq!(remaining(&ask(&mut client, "joe").await.unwrap()), (Code::Ok, 19));

    let expires = Timestamp::now() + SignedDuration::from_secs(6);
    write(
        dir.path(),
        &format!(
            "- domain: d\n  descriptor: [{{ key: user, match: joe }}]\n  rate_limit: {{ requests_per_unit: 100 }}\n  expires: {expires}\n  reason: black friday\n- {{ domain: d, descriptor: [{{ key: nobody }}], rate_limit: {{ requests_per_unit: 1 }} }}\n"
        ),
    );
    until("the override", || log(&program).contains("override begins"));
    assert_eq!(remaining(&ask(&mut client, "joe").await.unwrap()), (Code::Ok, 98), "the count goes on");
    assert_eq!(remaining(&ask(&mut client, "ann").await.unwrap()), (Code::Ok, 19));

    write(dir.path(), "- domain: d\n  nonsense: 1\n");
    until("the error", || log(&program).contains("vip.yaml:2:3: unknown field `nonsense`"));
    assert_eq!(remaining(&ask(&mut client, "joe").await.unwrap()), (Code::Ok, 97), "the last good ones stay");
    let (_, metrics) = fetch(program.metrics, "GET", "/metrics", "");
    for line in ["overrides_load_success 2", "overrides_load_error 1", "overrides_in_force 1"] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }

    until("the end", || log(&program).contains("override expired"));
    assert!(Timestamp::now().duration_since(expires) < SignedDuration::from_secs(2), "it ended late");
    assert_eq!(remaining(&ask(&mut client, "joe").await.unwrap()), (Code::Ok, 16));
    let log = log(&program);
    for part in
        ["vip.yaml:1", "d.user", "user=joe", "20 per year", "100 per year", "black friday", &expires.to_string()]
    {
        assert!(log.contains(part), "{part} is not in\n{log}");
    }
    assert!(log.contains("override changes nothing") && log.contains("d.nobody"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_lie_over_what_an_xds_server_sends() {
    let mut server = XdsServer::start("127.0.0.1:0".parse().unwrap(), None).await;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "- { domain: d, descriptor: [{ key: user }], rate_limit: { requests_per_unit: 2 } }");
    let url = server.address.to_string();
    let xds = ["--config-type", "GRPC_XDS_SOTW", "--config-grpc-xds-server-url", &url];
    let force = ["--force-start-without-initial-config", "true", "--overrides-dir", dir.path().to_str().unwrap()];
    let program = Program::start(&[&xds[..], &force].concat());
    server.request().await;
    server.send("1", &["d"], 7);
    let rules = || fetch(program.debug, "GET", "/rlconfig", "").1;
    until("the configuration", || rules().contains("requests_per_unit=2,"));
    fs::remove_file(dir.path().join("vip.yaml")).unwrap();
    let removed = std::time::Instant::now();
    until("the end of the override", || rules().contains("requests_per_unit=7,"));
    assert!(removed.elapsed() < Duration::from_secs(10), "{:?}", removed.elapsed());
}

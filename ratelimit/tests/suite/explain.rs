//! Explanations, which must never say anything else than what is then answered.

use std::{fs, process::Command};

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, rate_limit_response::Code};
use ratelimit::{
    config::{Config, Domains},
    explain::{self, Counters, Explanation, Pairs},
    limiter::{self, Options},
    store::Standing,
};

use crate::{
    program::{Program, ask, fetch, until},
    redis_server::RedisServer,
    requests::{descriptor, hits, limit, request},
};

mod differential;

const RULES: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: minute, requests_per_unit: 3, name: per-user }
  - key: user
    value: bot-*
    rate_limit: { unit: hour, requests_per_unit: 10, algorithm: gcra, replaces: [{ name: any-ip }] }
  - key: user
    value: '*-crawler'
    descriptors:
      - key: path
        quota_mode: true
        rate_limit: { unit: hour, requests_per_unit: 1 }
  - key: user
    value: admin
    rate_limit: { unlimited: true }
  - key: ip
    shadow_mode: true
    rate_limit: { unit: hour, requests_per_unit: 1000, name: any-ip }
";

fn rules() -> Config {
    Config::from_yaml([("shop.yaml", RULES)], Domains::Distinct).unwrap()
}

fn typed(domain: &str, descriptors: &[&str]) -> RateLimitRequest {
    explain::request(domain, descriptors.iter().map(|text| text.parse::<Pairs>().unwrap()), 0)
}

/// With counters that stand at these counts.
fn explained(request: &RateLimitRequest, counts: &[u64], options: &Options) -> Explanation {
    let config = rules();
    let plan = limiter::plan(&config, request, options).unwrap();
    assert_eq!(plan.charges().len(), counts.len());
    let standing = |count: &u64| Standing { count: *count, seconds_left: 100, ..Standing::default() };
    Explanation::new(&config, &plan, options, &Counters::Known(counts.iter().map(standing).collect()))
}

fn text(descriptors: &[&str], counts: &[u64]) -> String {
    explained(&typed("shop", descriptors), counts, &Options::default()).to_string()
}

#[test]
fn the_text_says_which_rule_won_and_what_is_left() {
    assert_eq!(
        text(&["user=joe", "user=bot-crawler", "ip=1.2.3.4"], &[3, 4]),
        "\
domain shop: OVER LIMIT, descriptor 1 is over its limit

1.  user=joe  matches user, the key alone, for any value
                not user_bot-*: it does not fit
                not user_*-crawler: it does not fit
                not user_admin: another value
    rule      shop.user, name per-user
    limit     3 per minute
    counter   3 of 3 used, 0 left, window ends in 1m 40s; the request adds 1
    answer    OVER LIMIT, over its limit

2.  user=bot-crawler  matches user_bot-*, the first wildcard in the file that fits
                        not user: the key alone comes last
                        not user_*-crawler: it fits, but stands later in the file
                        not user_admin: another value
    rule              shop.user_bot-*
    limit             10 per hour, gcra, burst 10
    counter           4 of 10 used, 6 left, empty in 1m 40s; the request adds 1
    replaces          any-ip
    answer            OK, within its limit

3.  ip=1.2.3.4  matches ip, the key alone, for any value
    rule        shop.ip, name any-ip
    answer      OK, descriptor 2, shop.user_bot-*, replaces any-ip
"
    );
}

#[test]
fn the_text_says_what_to_do_when_nothing_matches() {
    for (descriptors, line) in [
        ("usr=joe", "usr=joe  matches nothing: no such key; is user meant?"),
        (
            "zone=x",
            "zone=x  matches nothing: no such key; the rules have user, user_bot-*, user_*-crawler, user_admin, ip",
        ),
        ("user=a-crawler", "OK, no limit at this depth; the rules go on with path"),
        ("user=joe,path=/", "path=/    matches nothing: the rules end before this entry"),
        ("user=joe,path=/", "OK, more entries than the rules have: they end after 1, and only a rule for all"),
        ("user=a-crawler,pat=/", "pat=/           matches nothing: no such key; is path meant?"),
        ("user=admin", "OK, the rule is unlimited"),
        ("user=admin", "matches user_admin, the exact value"),
        ("user=\u{1b}[2J-crawler", "user=\u{fffd}[2J-crawler  matches"),
    ] {
        let text = text(&[descriptors], &[]);
        assert!(text.contains(line), "{line}\n{text}");
        assert!(text.starts_with("domain shop: OK, nothing is limited\n"), "{text}");
    }
    let text = explained(&typed("shp", &["user=joe"]), &[], &Options::default()).to_string();
    assert!(text.starts_with("domain shp: OK, no rules for this domain; is shop meant?\n"), "{text}");
}

#[test]
fn modes_and_own_limits_are_told() {
    let options = Options::default();
    let text = |request: &RateLimitRequest, counts, options: &Options| explained(request, counts, options).to_string();
    let over = typed("shop", &["user=joe"]);
    let shadowed = text(&over, &[3], &Options { shadow_mode: true, ..Options::default() });
    assert!(
        shadowed.contains("OK, as SHADOW_MODE is set; without it OVER LIMIT, as descriptor 1 is over"),
        "{shadowed}"
    );
    let shadow = text(&typed("shop", &["ip=1"]), &[1000], &options);
    assert!(shadow.starts_with("domain shop: OK, no limit that is over denies it\n"), "{shadow}");
    assert!(shadow.contains("mode     shadow: counts, and never denies"), "{shadow}");
    let quota = text(&typed("shop", &["user=a-crawler,path=/"]), &[1], &options);
    assert!(quota.starts_with("domain shop: OVER LIMIT, all quotas of the request are over\n"), "{quota}");

    let own = request("shop", vec![limit(hits(descriptor(&[("user", "joe")]), 5), 4, 3)]);
    let taken = text(&own, &[0], &options);
    assert!(taken.contains("limit     4 per hour, brought by the request"), "{taken}");
    assert!(taken.contains("the request adds 5\n"), "{taken}");
    let refused = text(&own, &[0], &Options { override_domains: "other".parse().unwrap(), ..options });
    assert!(refused.contains("limit     3 per minute\n"), "{refused}");
    assert!(refused.contains("over its limit; its own limit does not count, as LIMIT_OVERRIDE_DOMAINS"), "{refused}");
}

#[test]
fn without_counts_only_what_is_certain_is_answered() {
    let explain = |text| explain::without_counts(&rules(), &typed("shop", &[text]), &Options::default()).unwrap();
    let limited = explain("user=joe");
    assert_eq!((limited.answer, limited.descriptors[0].status), (None, None));
    assert_eq!(limited.descriptors[0].rule.as_deref(), Some("shop.user"));
    assert_eq!(explain("user=admin").answer, Some("OK"));
    assert_eq!(explain("what=ever").answer, Some("OK"));
}

/// What the command prints and whether it succeeds.
fn command(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ratelimit"))
        .args(["--log-level", "error", "explain"])
        .args(arguments)
        .env_remove("OVERRIDES_DIR")
        .output()
        .unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_program_explains_and_charges_nothing() {
    let program = Program::start(&[]);
    let mut client = program.client().await;
    ask(&mut client, "joe").await.unwrap();
    let url = format!("http://127.0.0.1:{}/", program.debug);
    let arguments = ["--url", &url, "--domain", "d", "user=joe", "--descriptor", "ip=1,path=/x", "--hits-addend", "19"];
    for _ in 0..3 {
        let (success, text) = command(&arguments);
        assert!(success, "{text}");
        assert!(text.starts_with("domain d: OK, every limit has room\n"), "{text}");
        assert!(text.contains(" 1 of 20 used, 19 left, window ends in "), "{text}");
        assert!(text.contains("ip=1     matches nothing: no such key; the rules have user"), "{text}");
    }
    let (success, json) = command(&[&arguments[..], &["--output", "json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(success && json["answer"] == "OK" && json["descriptors"][0]["counter"]["used"] == 1, "{json}");

    let body = r#"{"domain": "d", "descriptors": [{"entries": [{"key": "user", "value": "joe"}]}], "hitsAddend": 20}"#;
    for method in ["GET", "POST"] {
        let (status, text) = fetch(program.debug, method, "/explain", body);
        assert_eq!(status, 200, "{text}");
        assert!(text.starts_with("domain d: OVER LIMIT, descriptor 1 is over its limit\n"), "{text}");
    }
    assert_eq!(ask(&mut client, "joe").await.unwrap().statuses[0].limit_remaining, 18);
    assert!(fetch(program.debug, "GET", "/", "").1.contains("/explain: "));
    assert_eq!(fetch(program.debug, "POST", "/explain", "{").0, 400);
    let (status, text) = fetch(program.debug, "POST", "/explain", "{}");
    assert_eq!((status, text.as_str()), (400, "rate limit domain must not be empty\n"));
    let (success, text) = command(&["--url", &url, "--domain", "", "user=joe"]);
    assert!(!success && text.contains("rate limit domain must not be empty"), "{text}");
    assert!(
        fs::read_to_string(program.dir.path().join("log")).unwrap().is_empty(),
        "values of requests are not logged"
    );
}

#[test]
fn files_explain_without_a_program() {
    let dir = tempfile::tempdir().unwrap();
    let (rules, overrides) = (dir.path().join("rules"), dir.path().join("overrides"));
    fs::create_dir_all(&rules).unwrap();
    fs::create_dir_all(&overrides).unwrap();
    fs::write(rules.join("shop.yaml"), RULES).unwrap();
    let over = "- { domain: shop, descriptor: [{ key: user, match: joe }], rate_limit: { requests_per_unit: 9 },
    expires: 2999-01-31T18:00:00Z, reason: he moves }";
    fs::write(overrides.join("joe.yaml"), over).unwrap();
    let rules = rules.to_str().unwrap();
    let explain = |entry| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ratelimit"));
        command.arg("--overrides-dir").arg(&overrides).args(["explain", "--dir", rules, "--domain", "shop", entry]);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (success, text) = explain("user=joe");
    assert!(success, "{text}");
    assert!(text.contains("limit     9 per minute\n"), "{text}");
    let place = overrides.join("joe.yaml");
    let over = format!(
        "override  {}:1 for user=joe until 2999-01-31T18:00:00Z: 9 per minute instead of 3 per minute\n",
        place.display()
    );
    assert!(text.contains(&over) && text.contains("\n              he moves\n"), "{text}");
    assert!(text.starts_with("domain shop: unknown, as files do not tell what has been counted; ask"), "{text}");
    assert!(!explain("user=ann").1.contains("override"));
    fs::write(&place, "nonsense").unwrap();
    let (success, text) = explain("user=joe");
    assert!(!success && text.contains("joe.yaml:1:1"), "{text}");
}

#[test]
fn the_command_says_what_is_wrong() {
    for (arguments, error) in [
        (&["--domain", "d", "joe"][..], "say KEY=VALUE instead of `joe`"),
        (&["--domain", "d", "--descriptor", "a=b,=c"], "say KEY=VALUE instead of `=c`"),
        (&["--domain", "d"], "KEY=VALUE"),
        (&["--url", "https://x", "--domain", "d", "a=b"], "is no URL of a debug port"),
        (&["--url", "http://127.0.0.1:1", "--domain", "d", "a=b"], "nobody answers at http://127.0.0.1:1"),
        (&["--dir", "/nonexistent", "--domain", "d", "a=b"], "cannot read /nonexistent"),
    ] {
        let (success, text) = command(arguments);
        assert!(!success && text.contains(error), "{arguments:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_in_redis_are_explained() {
    let mut redis = RedisServer::start();
    let socket = redis.socket();
    let deny = ["--on-store-loss", "deny", "--store-deadline", "5s", "--redis-timeout", "5s", "--leases", "false"];
    let program = Program::start(&[&["--redis-url", socket.to_str().unwrap()], &deny[..]].concat());
    let mut client = program.client().await;
    let body = r#"{"domain": "d", "descriptors": [{"entries": [{"key": "user", "value": "joe"}]}]}"#;
    let explain = || fetch(program.debug, "POST", "/explain", body).1;
    for used in 1..=20 {
        assert_eq!(ask(&mut client, "joe").await.unwrap().overall_code(), Code::Ok);
        let (count, text) = (format!(" {used} of 20 used, {} left", 20 - used), explain());
        assert!(text.contains(&count), "{count}: {text}");
        assert!(text.starts_with(if used < 20 { "domain d: OK" } else { "domain d: OVER LIMIT" }), "{text}");
    }
    assert_eq!(ask(&mut client, "joe").await.unwrap().overall_code(), Code::OverLimit);
    redis.kill();
    let text = explain();
    assert!(text.starts_with("domain d: unknown, as the counters cannot be read: "), "{text}");
    assert!(text.contains("answer    unknown, on_store_loss decides: deny\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_leases_of_the_replica_are_free() {
    let redis = RedisServer::start();
    let socket = redis.socket();
    let patient = ["--store-deadline", "5s", "--redis-timeout", "5s", "--leases", "true"];
    let program = Program::start(&[&["--redis-url", socket.to_str().unwrap()], &patient[..]].concat());
    let mut client = program.client().await;
    let entries = r#"[{"key": "user", "value": "joe"}]"#;
    let own = r#"{"requestsPerUnit": 1000000, "unit": "YEAR"}"#;
    let body = format!(r#"{{"domain": "d", "descriptors": [{{"entries": {entries}, "limit": {own}}}]}}"#);
    let explain = || fetch(program.debug, "POST", "/explain", &body).1;
    let (mut asked, mut text) = (0, String::new());
    for _ in 0..200 {
        for _ in 0..20 {
            let many = request("d", vec![limit(descriptor(&[("user", "joe")]), 1_000_000, 6)]);
            client.should_rate_limit(many).await.unwrap();
            asked += 1;
        }
        text = explain();
        if text.contains("leased to this replica") {
            break;
        }
    }
    assert!(text.contains("leased to this replica"), "{text}");
    // A lease that is being debited counts as used for a moment.
    let used = format!(" {asked} of 1000000 used, {} left", 1_000_000 - asked);
    until("a count without leases", || explain().contains(&used));
}

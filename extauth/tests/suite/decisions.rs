//! What the log and the metrics of the real program say about decisions.

use std::fs;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use proto::extauth::{Method, Policy};
use serde_json::{Value, json};

use crate::running::{Running, ask, until};
use crate::support::{api_keys, key, request, request_to};

fn guard(more: &Value) -> Vec<Policy> {
    let mut policy = json!({"name": "guard", "methods": []});
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let methods = vec![Method::ApiKey(api_keys(vec![key("a-key", "acme")]))];
    vec![Policy { methods, ..serde_json::from_value(policy).unwrap() }]
}

fn known(path: &str) -> CheckRequest {
    request_to(path, &[("x-api-key", "a-key")])
}

/// Ends the program, which writes what waits, and yields the lines about decisions.
fn decisions(running: &mut Running) -> Vec<String> {
    running.signal("-TERM");
    assert!(running.process.0.wait().unwrap().success());
    running.log().lines().filter(|line| line.contains("decision")).map(str::to_owned).collect()
}

#[tokio::test]
async fn each_share_of_the_decisions_is_logged_and_no_other() {
    const ASKED: usize = 2000;
    // Six standard deviations of a binomial distribution on either side.
    for (allow, deny, allowed, denied) in
        [("0.25", "0.5", 384..=616, 866..=1134), ("0", "1", 0..=0, ASKED..=ASKED), ("1", "0", ASKED..=ASKED, 0..=0)]
    {
        let mut running = Running::with(guard(&json!({})), |_, command| {
            command
                .env("EXTAUTH_DECISION_LOG_SAMPLE_ALLOW", allow)
                .env("EXTAUTH_DECISION_LOG_SAMPLE_DENY", deny)
                .env("EXTAUTH_LOG_LEVEL", "info");
        });
        let mut client = running.client().await;
        for _ in 0..ASKED {
            assert_eq!(ask(&mut client, known("/orders")).await.status, 200);
            let answer = ask(&mut client, request(&[])).await;
            assert_eq!(answer.status, 401);
            assert_eq!(answer.headers["x-decision-id"].len(), 32, "the client has an id in any case");
        }
        let lines = decisions(&mut running);
        let logged = |verdict: &str| lines.iter().filter(|line| line.contains(verdict)).count();
        let counts = (logged("verdict=\"allow\""), logged("verdict=\"deny\""));
        assert!(allowed.contains(&counts.0) && denied.contains(&counts.1), "{allow} {deny}: {counts:?}");
        assert_eq!(counts.0 + counts.1, lines.len());
    }
    let running = Running::begin(guard(&json!({})), |_, command| {
        command.env("EXTAUTH_DECISION_LOG_SAMPLE_DENY", "1.5");
    });
    until("a refusal", || running.log().contains("'1.5'"), || running.log());
}

#[tokio::test]
async fn c37_s11_a_line_of_json_is_one_object_whatever_is_asked() {
    let mut running = Running::with(guard(&json!({})), |_, command| {
        command.env("EXTAUTH_LOG_FORMAT", "json").env("EXTAUTH_LOG_LEVEL", "trace");
    });
    let mut client = running.client().await;
    let odd = "/a\"\r\n\u{1b}[31m{\"verdict\":\"allow\"}\u{2028}\u{0}\\";
    let mut asked = request_to(&format!("{odd}?token=in-the-query"), &[("x-request-id", "one\r\ntwo\"")]);
    let http = asked.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.host = "shop.example.com\r\nx: y".into();
    assert_eq!(ask(&mut client, asked).await.status, 401);
    assert_eq!(ask(&mut client, known("/orders")).await.status, 200);
    decisions(&mut running);

    let log = fs::read(running.path("extauth.log")).unwrap();
    let lines: Vec<Value> = log
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {}", line.escape_ascii())))
        .collect();
    let made: Vec<&Value> = lines.iter().filter(|line| line["@message"] == "decision").collect();
    assert_eq!(made.len(), 2, "{made:?}");
    let (denied, allowed) = (made[0], made[1]);
    assert_eq!(
        (&denied["verdict"], &denied["status"], &denied["policy"]),
        (&json!("deny"), &json!(401), &json!("guard"))
    );
    assert_eq!((&denied["path"], &denied["request_id"]), (&json!(odd), &json!("one\r\ntwo\"")));
    assert_eq!(
        (&allowed["verdict"], &allowed["client"], &allowed["method"]),
        (&json!("allow"), &json!("acme"), &json!("api_key"))
    );
    assert!(lines.iter().all(|line| line["@timestamp"].is_string() && line["level"].is_string()), "{lines:?}");
    assert!(!log.escape_ascii().to_string().contains("in-the-query"));
    assert!(!log.contains(&0x1b) && !log.contains(&b'\r'), "escapes are written as such");
}

#[tokio::test]
async fn a_shadow_counts_what_it_would_deny_and_lets_it_pass_as_nobody() {
    let rules = json!({"shadow": true, "rules": [
        {"name": "no-admin", "action": "deny", "when": {"paths": [{"prefix": "/admin"}]}},
    ], "default": "allow"});
    let mut running = Running::start(guard(&rules));
    let mut client = running.client().await;
    let counted = |method: &str, verdict: &str, running: &Running| {
        let series = format!("extauth_checks_total{{policy=\"guard\",method=\"{method}\",verdict=\"{verdict}\"}} ");
        let metrics = running.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("{series} is not in {metrics}")).parse::<u64>().unwrap()
    };
    for (request, client_header) in [
        (known("/orders"), Some("acme")),
        (known("/admin"), None),
        (known("/admin"), None),
        (request(&[("x-client", "root")]), None),
        (request(&[("x-api-key", "wrong"), ("x-client", "root")]), None),
    ] {
        let answer = ask(&mut client, request).await;
        assert_eq!((answer.status, answer.set.get("x-client").map(String::as_str)), (200, client_header));
        assert!(client_header.is_some() || answer.metadata.get("client").is_none(), "{answer:?}");
    }
    assert_eq!(counted("api_key", "allow", &running), 1);
    assert_eq!(counted("api_key", "shadow_deny", &running), 3, "a rule twice, and a wrong key");
    assert_eq!(counted("none", "shadow_deny", &running), 1, "no key at all");
    assert_eq!(counted("api_key", "deny", &running), 0);

    running.put(guard(&json!({})));
    until("the end of the shadow", || running.log().matches("policies are in force").count() == 2, || running.log());
    assert_eq!(ask(&mut client, request(&[("x-api-key", "wrong")])).await.status, 401);
    assert_eq!(counted("api_key", "shadow_deny", &running), 3, "the count goes on where it was");
    assert_eq!(counted("api_key", "deny", &running), 1);
    let lines = decisions(&mut running);
    let would = lines.iter().filter(|line| line.contains("verdict=\"shadow_deny\"")).count();
    assert_eq!((would, lines.len()), (4, 6), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("shadow_deny") && line.contains("rule=\"no-admin\"")), "{lines:?}");
}

#[tokio::test]
async fn s2_nothing_that_is_asked_becomes_a_series_of_the_metrics() {
    let running = Running::start(guard(&json!({})));
    let mut client = running.client().await;
    let series = || running.metrics().lines().filter(|line| line.starts_with("extauth_")).count();
    assert_eq!(ask(&mut client, known("/orders")).await.status, 200);
    let before = series();
    for number in 0..100 {
        let mut asked = request_to(&format!("/{number}"), &[("x-api-key", &format!("key-{number}"))]);
        let attributes = asked.attributes.as_mut().unwrap();
        if number % 2 == 0 {
            attributes.context_extensions.insert("policy".into(), format!("policy-{number}"));
        }
        let http = attributes.request.as_mut().unwrap().http.as_mut().unwrap();
        (http.host, http.method) = (format!("{number}.example.com"), format!("M{number}"));
        assert_ne!(ask(&mut client, asked).await.status, 200);
    }
    assert_eq!(series(), before, "{}", running.metrics());
}

#[tokio::test]
async fn p12_a_log_that_nobody_reads_holds_up_no_decision() {
    let mut running = Running::with(guard(&json!({})), |_, command| {
        command.stderr(std::process::Stdio::piped()).env("EXTAUTH_LOG_LEVEL", "trace");
    });
    // Open and never read.
    let _pipe = running.process.0.stderr.take();
    let mut client = running.client().await;
    let mut asked = 0;
    while !running
        .metrics()
        .lines()
        .any(|line| line.strip_prefix("log_lines_dropped_total ").is_some_and(|dropped| dropped != "0"))
    {
        assert!(asked < 100_000, "all lines are kept");
        for _ in 0..500 {
            let answer = tokio::time::timeout(std::time::Duration::from_secs(10), ask(&mut client, known("/orders")));
            assert_eq!(answer.await.expect("an answer in time").status, 200);
            asked += 1;
        }
    }
}

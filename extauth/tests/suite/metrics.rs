//! What is counted, under which names. Tests that run beside these count, too: only growth is looked at.

use std::time::Duration;

use extauth::keyring::Keyring;
use extauth::store::redis::Kind;
use extauth::store::{Redis, Store};
use proto::extauth::{ApiKey, Introspection, Method, Oidc, Secret};
use serde_json::json;

use crate::oidc::forger::{Forger, Started};
use crate::oidc::{Browser, Gate, SHOP, oidc, policy};
use crate::redis::{options, until};
use crate::support::{Service, api_keys, bearer, key, request, resources, wait};
use crate::web::{Reply, Web};

/// The value of a metric with these labels; nothing before it was counted.
fn value(name: &str) -> f64 {
    let text = proto::metrics::install().render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// Runs something and says whether each of these grew.
macro_rules! grows {
    ($names:expr, $work:expr) => {{
        let before = $names.map(value);
        let outcome = $work;
        for (name, before) in $names.iter().zip(before) {
            assert!(value(name) > before, "{name} is what it was: {before}");
        }
        outcome
    }};
}

#[tokio::test]
async fn logins_and_sessions_are_counted() {
    proto::metrics::install();
    let forger = Forger::start().await;
    let gate = Gate::open(policy(Oidc { forward_access_token: true, ..oidc(&forger.issuer) }));
    let mut browser = Browser::new(&gate, "ada").await;
    let tokens = |nonce: &str| {
        let mut tokens = Forger::tokens(&forger.sign(&forger.claims(nonce)));
        tokens["expires_in"] = 1.into();
        tokens["refresh_token"] = "again".into();
        tokens
    };
    let logins = [
        "extauth_logins_total{event=\"started\"}",
        "extauth_logins_total{event=\"succeeded\"}",
        "extauth_sessions_total{event=\"started\"}",
    ];
    grows!(logins, forger.login(&mut browser, tokens).await);
    forger.token(200, &json!({"access_token": "second", "token_type": "Bearer", "expires_in": 600}));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(grows!(["extauth_sessions_total{event=\"renewed\"}"], browser.go(SHOP).await).status, 200);
    let logout = format!("{SHOP}/logout");
    grows!(["extauth_sessions_total{event=\"logged_out\"}"], browser.go(&logout).await);
    let callback = format!("{SHOP}/oauth2/callback?code=x&state={}", "a".repeat(43));
    grows!(["extauth_logins_total{event=\"over\"}"], browser.go(&callback).await);
    let started = Started::by(&mut Browser::new(&gate, "eve").await, SHOP).await;
    grows!(["extauth_logins_total{event=\"refused\"}"], browser.go(&started.callback("code=x")).await);
    forger.token(503, &"");
    let started = Started::by(&mut browser, SHOP).await;
    grows!(["extauth_logins_total{event=\"unavailable\"}"], browser.go(&started.callback("code=x")).await);
}

#[test]
fn questions_are_counted_and_timed() {
    proto::metrics::install();
    let web = Web::replying(Reply::ok("{\"active\":true}"));
    let introspection = Introspection {
        name: "counted".into(),
        endpoint: web.url("/introspect"),
        client_id: "tollgate".into(),
        client_secret: Some(Secret::new("s3cret")),
        ..Introspection::default()
    };
    let service = Service::new(vec![Method::Introspection(introspection)]);
    let count = |result: &str| {
        value(&format!("extauth_questions_total{{method=\"introspection\",provider=\"counted\",result=\"{result}\"}}"))
    };
    let labels = "{method=\"introspection\",provider=\"counted\"}";
    let (seconds, open) =
        (format!("extauth_question_seconds_count{labels}"), format!("extauth_question_breaker_open{labels}"));
    service.ask(&bearer("a"));
    service.ask(&bearer("a"));
    assert_eq!((count("active"), value(&seconds)), (1.0, 1.0), "what is known is not asked");
    web.reply(Reply::ok("{\"active\":false}"));
    service.ask(&bearer("b"));
    assert_eq!((count("inactive"), value(&open)), (1.0, 0.0));
    web.reply(Reply::error());
    for number in 0..7 {
        service.ask(&bearer(&format!("bad-{number}")));
    }
    assert_eq!((count("failed"), count("refused"), value(&open)), (5.0, 2.0, 1.0));
}

#[test]
fn keys_attempts_and_failures_of_the_store_are_counted() {
    proto::metrics::install();
    let resources = resources();
    let keyring = Keyring::new(resources.store.clone(), "counted");
    wait(keyring.add(&key("in-the-store", "acme"), Duration::from_mins(10))).unwrap();
    let method = ApiKey { key_set: Some("counted".into()), ..api_keys(Vec::new()) };
    let service = Service::sharing(&resources, vec![Method::ApiKey(method)]);
    until("the set is read", || value("extauth_keys{set=\"counted\"}") > 0.5);
    grows!(["extauth_attempts_total{result=\"failed\"}"], service.ask(&request(&[("x-api-key", "bad")])));

    let store = Store::Redis(Redis::new(options("127.0.0.1:1", Kind::Single), resources.background.clone()).unwrap());
    let answer = grows!(["extauth_store_errors_total{operation=\"get\"}"], wait(store.get("a")));
    assert!(answer.is_err());
}

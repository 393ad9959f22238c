//! Redis lost or replaced in the middle of a refresh: the refresh token was spent, and the tokens that it bought must not be.

use std::time::{Duration, Instant};

use extauth::resources::{Options, Resources, Storage};
use extauth::store::redis;
use logins::Provider;
use proto::extauth::Oidc;
use serde_json::json;

use super::{Browser, Gate, PATIENCE, SHOP, client, oidc, policy};
use crate::redis::{Cluster, Node, Replicated, Single, until};
use crate::tools;

/// How long a refresh takes, so that there is a middle of it.
const SLOW: u64 = 1500;

/// A provider whose access tokens live for three seconds, and whose refresh tokens are good once.
fn provider() -> Provider {
    Provider::start(&json!({"clients": [client(&json!({}))], "ttl": {"access": 3}, "rotate": true}))
}

/// A replica with connections of its own.
fn replica(provider: &Provider, options: &redis::Options) -> Gate {
    let options = redis::Options { timeout: Duration::from_secs(1), ..options.clone() };
    let options = Options { store: Storage::Redis(options), ..Options::default() };
    let oidc = Oidc { forward_access_token: true, ..oidc(&provider.issuer) };
    Gate::with(Resources::new(&options).unwrap(), policy(oidc))
}

async fn ask(browser: &mut Browser) -> (u16, Option<String>) {
    browser.headers.insert("sec-fetch-mode".into(), "cors".into());
    let page = browser.ask("GET", SHOP, b"").await;
    browser.headers.remove("sec-fetch-mode");
    (page.status, page.upstream.map(|answer| answer.set["authorization"].clone()))
}

/// A browser on each of two replicas with one session, whose access token has just ended.
struct Expired {
    browser: Browser,
    second: Browser,
    token: String,
    _gates: [Gate; 2],
}

async fn expired(provider: &Provider, options: &redis::Options) -> Expired {
    let (gate, other) = (replica(provider, options), replica(provider, options));
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.open(SHOP).await.status, 200);
    let (_, token) = ask(&mut browser).await;
    let mut second = Browser::new(&other, "ada").await;
    second.cookies.clone_from(&browser.cookies);
    tokio::time::sleep(Duration::from_secs(4)).await;
    provider.fault(json!({"path": "/token", "delay": SLOW})).await;
    Expired { browser, second, token: token.unwrap(), _gates: [gate, other] }
}

/// Waits until the refresh token is on its way.
async fn spent(provider: &Provider) {
    let begun = Instant::now();
    while provider.count("/token").await < 2 {
        assert!(begun.elapsed() < PATIENCE, "nobody refreshes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until there is an answer other than "try again".
async fn settled(browser: &mut Browser) -> (u16, Option<String>) {
    let begun = Instant::now();
    loop {
        let answer = ask(browser).await;
        if answer.0 != 503 {
            return answer;
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "it never comes back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn i9_redis_that_hangs_in_the_middle_of_a_refresh_loses_no_tokens() {
    let server = Single::start();
    let provider = provider();
    let Expired { mut browser, mut second, token: old, _gates } =
        Box::pin(expired(&provider, &server.node.options())).await;
    let asking = tokio::spawn(async move { (ask(&mut browser).await, browser) });
    spent(&provider).await;
    server.node.hang();
    // Longer than any lease.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        assert_eq!(ask(&mut second).await.0, 503, "nobody can say whose session it is");
    }
    server.node.resume();
    let (first, mut browser) = asking.await.unwrap();
    assert!(first.0 == 503 || first.0 == 200, "{first:?}");
    let (status, token) = settled(&mut browser).await;
    assert_eq!(status, 200);
    assert_ne!(token.as_ref(), Some(&old));
    // The new access token may have ended, too, and the next refresh token have been used.
    assert_eq!(settled(&mut second).await.0, 200);
    assert_eq!(provider.count("grant.error").await, 0, "no refresh token was used twice");
}

#[tokio::test]
async fn i8_redis_that_is_lost_in_the_middle_of_a_refresh_ends_the_session_without_a_loop() {
    let mut server = Single::start();
    let provider = provider();
    let Expired { mut browser, mut second, _gates, .. } = Box::pin(expired(&provider, &server.node.options())).await;
    let asking = tokio::spawn(async move { (ask(&mut browser).await, browser) });
    spent(&provider).await;
    server.node.kill();
    assert_eq!(ask(&mut second).await.0, 503);
    server.node.restart();
    let (first, mut browser) = asking.await.unwrap();
    assert!(first.0 == 503 || first.0 == 401, "no session, no 200: {first:?}");
    assert_eq!(settled(&mut browser).await.0, 401, "it is gone, and nobody says otherwise");
    assert_eq!(settled(&mut second).await.0, 401);
    assert_eq!(provider.count("/token").await, 2, "a spent token is not tried again");
    provider.fault(json!({})).await;
    // Too soon after the last login it is no redirect, and then it is one login.
    browser.cookies.retain(|cookie| !cookie.name.ends_with("-login"));
    assert_eq!(browser.open(SHOP).await.status, 200);
    assert_eq!(provider.count("/token").await, 3);
}

#[tokio::test]
async fn i9_a_failover_in_the_middle_of_a_refresh_uses_the_refresh_token_once() {
    let mut replicated = Replicated::start();
    let provider = provider();
    let Expired { mut browser, mut second, token: old, _gates } =
        Box::pin(expired(&provider, &replicated.options())).await;
    let asking = tokio::spawn(async move { (ask(&mut browser).await, browser) });
    spent(&provider).await;
    replicated.servers[0].kill();
    let (first, mut browser) = asking.await.unwrap();
    assert!(first.0 == 503 || first.0 == 200, "{first:?}");
    let (status, token) = settled(&mut browser).await;
    assert_eq!(status, 200, "the session is on the next primary");
    assert_ne!(token.as_ref(), Some(&old));
    assert_eq!(settled(&mut second).await.0, 200);
    assert_eq!(provider.count("grant.error").await, 0, "no refresh token was used twice");
    assert_eq!(settled(&mut browser).await.0, 200, "the session goes on");
}

#[tokio::test]
async fn i9_a_cluster_that_fails_over_in_the_middle_of_a_refresh_uses_the_refresh_token_once() {
    let mut cluster = Cluster::with_replicas(&tools::redis_server(), 1);
    let provider = provider();
    let Expired { mut browser, mut second, token: old, _gates } =
        Box::pin(expired(&provider, &cluster.options())).await;
    let holds = |node: &Node| node.cli(&["KEYS", "test:session:*"]).contains("test:session:");
    until("the session on a replica", || cluster.nodes.iter().filter(|node| holds(node)).count() == 2);
    let asking = tokio::spawn(async move { (ask(&mut browser).await, browser) });
    spent(&provider).await;
    let primary = |node: &Node| node.cli(&["ROLE"]).starts_with("master");
    let primary = cluster.nodes.iter().position(|node| holds(node) && primary(node)).unwrap();
    cluster.nodes[primary].kill();
    let (first, mut browser) = asking.await.unwrap();
    assert!(first.0 == 503 || first.0 == 200, "{first:?}");
    let (status, token) = settled(&mut browser).await;
    assert_eq!(status, 200, "the session is on the next primary");
    assert_ne!(token.as_ref(), Some(&old));
    assert_eq!(settled(&mut second).await.0, 200);
    assert_eq!(provider.count("grant.error").await, 0, "no refresh token was used twice");
    assert_eq!(settled(&mut browser).await.0, 200, "the session goes on");
}

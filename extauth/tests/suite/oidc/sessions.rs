//! Sessions as they are used, renewed, shared and ended.

use std::process::Command;
use std::time::{Duration, Instant};

use extauth::resources::{Options, Resources, Storage};
use extauth::session::Sessions;
use futures::future::join_all;
use proto::extauth::{CookieNames, ForwardIdToken, Oidc, OidcProvider};
use serde_json::{Value, json};

use super::forger::{Forger, now};
use super::{Browser, Gate, PATIENCE, SHARED, SHOP, client, known_as, oidc, policy};
use crate::redis::{Node, Single};
use crate::support::resources;
use logins::Provider;

/// Another replica with the same store.
pub(super) fn replica(of: &Gate, oidc: Oidc) -> Gate {
    let mut resources = resources();
    resources.store = of.resources.store.clone();
    resources.sessions = Sessions::new(resources.store.clone(), resources.background.clone());
    Gate::with(resources, policy(oidc))
}

fn short_lived(issuer: &str) -> Oidc {
    Oidc { forward_access_token: true, ..oidc(issuer) }
}

async fn ask(browser: &mut Browser) -> (u16, Option<String>) {
    browser.headers.insert("sec-fetch-mode".into(), "cors".into());
    let page = browser.ask("GET", SHOP, b"").await;
    (page.status, page.upstream.map(|answer| answer.set["authorization"].clone()))
}

#[tokio::test]
async fn i9_two_replicas_and_a_hundred_requests_use_a_refresh_token_once() {
    let ttl = json!({"access": 3});
    let provider = Provider::start(&json!({"clients": [client(&json!({}))], "ttl": ttl, "rotate": true}));
    let gate = Gate::open(policy(short_lived(&provider.issuer)));
    let other = replica(&gate, short_lived(&provider.issuer));
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.open(SHOP).await.status, 200);
    let (_, first) = ask(&mut browser).await;
    for round in 1..=2 {
        let renewed = browser.session().unwrap().clone();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let mut tabs = Vec::new();
        for tab in 0..100 {
            let mut browser = Browser::new(if tab % 2 == 0 { &gate } else { &other }, "ada").await;
            browser.cookies.push(renewed.clone());
            tabs.push(browser);
        }
        let answers = join_all(tabs.iter_mut().map(ask)).await;
        let tokens = &answers[0].1;
        assert!(tokens.is_some() && *tokens != first, "{:?}", answers[0]);
        assert!(answers.iter().all(|answer| answer.0 == 200 && answer.1 == *tokens), "{answers:?}");
        assert_eq!(provider.count("/token").await, 1 + round, "one login, one refresh a round");
        let page = browser.go(SHOP).await;
        let cookie = page.header("set-cookie").expect("the browser keeps the id for longer");
        assert!(cookie.contains(&renewed.value) && cookie.contains("Max-Age=604"), "{cookie}");
    }
}

#[tokio::test]
async fn tokens_are_renewed_ahead_while_the_old_ones_are_used() {
    let provider = Provider::start(&json!({"clients": [client(&json!({}))], "ttl": {"access": 10}}));
    let gate = Gate::open(policy(short_lived(&provider.issuer)));
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.open(SHOP).await.status, 200);
    let (_, first) = ask(&mut browser).await;
    provider.fault(json!({"path": "/token", "delay": 1000})).await;
    let begun = Instant::now();
    // Two seconds before the end, that is after a bit more than eight.
    while provider.count("/token").await == 1 {
        let (status, token) = ask(&mut browser).await;
        assert_eq!((status, &token), (200, &first), "the old token is good, and nobody waits for the new one");
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    while ask(&mut browser).await.1 == first {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(provider.count("/token").await, 2);
}

#[tokio::test]
async fn i7_a_refresh_that_fails_ends_a_session_only_when_the_provider_says_so() {
    let forger = Forger::start().await;
    let gate = Gate::open(policy(short_lived(&forger.issuer)));
    let mut browser = Browser::new(&gate, "ada").await;
    let tokens = |lifetime: u64, id_token: Option<String>, access: &str| {
        let mut tokens =
            json!({"access_token": access, "token_type": "Bearer", "expires_in": lifetime, "refresh_token": "again"});
        if let Some(id_token) = id_token {
            tokens["id_token"] = id_token.into();
        }
        tokens
    };
    let page = forger.login(&mut browser, |nonce| tokens(1, Some(forger.sign(&forger.claims(nonce))), "first")).await;
    assert_eq!(page.status, 302);
    forger.token(503, &"");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(ask(&mut browser).await.0, 503, "nobody can say whether the session goes on");
    let asked = forger.asked("token");
    for _ in 0..20 {
        assert_eq!(ask(&mut browser).await.0, 503);
    }
    assert_eq!(forger.asked("token"), asked, "a provider that is down is left alone for a while");

    forger.token(200, &tokens(1, None, "second"));
    let begun = Instant::now();
    while ask(&mut browser).await != (200, Some("Bearer second".to_owned())) {
        assert!(begun.elapsed() < PATIENCE, "the provider is back, and nobody notices");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let page = browser.go(SHOP).await;
    let upstream = page.upstream.unwrap();
    assert_eq!(upstream.set["x-user"], "ada", "an answer without ID token keeps the last one");

    let other = json!({"iss": forger.issuer, "aud": "shop", "sub": "eve", "iat": now(), "exp": now() + 60});
    forger.token(200, &tokens(600, Some(forger.sign(&other)), "eve's"));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(ask(&mut browser).await.0, 401, "another user's tokens end it");
    assert_eq!(ask(&mut browser).await.0, 401);
}

#[tokio::test]
async fn without_a_refresh_token_a_session_ends_with_its_access_token() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut browser = Browser::new(&gate, "ada").await;
    let login = |nonce: &str| {
        let mut tokens = Forger::tokens(&forger.sign(&forger.claims(nonce)));
        tokens["expires_in"] = 2.into();
        tokens
    };
    assert_eq!(forger.login(&mut browser, login).await.status, 302);
    assert!(browser.session().unwrap().attributes.contains("Max-Age=2;"), "{:?}", browser.session());
    browser.headers.insert("sec-fetch-mode".into(), "cors".into());
    assert_eq!(browser.ask("GET", SHOP, b"").await.status, 200);
    tokio::time::sleep(Duration::from_millis(3100)).await;
    assert_eq!(browser.ask("GET", SHOP, b"").await.status, 401);
}

#[tokio::test]
async fn lifetimes_that_a_provider_does_not_say_are_ours() {
    let forger = Forger::start().await;
    let login = |provider: OidcProvider, oidc: Oidc, refresh: Option<&str>| {
        let (forger, refresh) = (&forger, refresh.map_or(Value::Null, Into::into));
        Box::pin(async move {
            let gate = Gate::open(policy(Oidc { providers: vec![provider], ..oidc }));
            let mut browser = Browser::new(&gate, "ada").await;
            let tokens = |nonce: &str| {
                let mut tokens = Forger::tokens(&forger.sign(&forger.claims(nonce)));
                tokens.as_object_mut().unwrap().remove("expires_in");
                tokens["refresh_token"] = refresh;
                tokens
            };
            let page = forger.login(&mut browser, tokens).await;
            (page.status, browser.session().map(|cookie| cookie.attributes.clone()).unwrap_or_default())
        })
    };
    let usual = || known_as(&forger.issuer);
    let any = || oidc(&forger.issuer);
    assert_eq!(login(usual(), any(), None).await.0, 403, "no lifetime, and no default");
    let access = || OidcProvider { default_token_ttl_seconds: 77, ..usual() };
    assert!(login(access(), any(), None).await.1.contains("Max-Age=77;"));
    assert!(login(access(), any(), Some("opaque")).await.1.contains("Max-Age=604800;"));
    let refresh = OidcProvider { default_refresh_token_ttl_seconds: 99, ..access() };
    assert!(login(refresh.clone(), any(), Some("opaque")).await.1.contains("Max-Age=99;"));
    let dated = forger.sign(&json!({"exp": now() + 1234}));
    let cookie = login(refresh.clone(), any(), Some(&dated)).await.1;
    assert!(cookie.contains("Max-Age=123"), "{cookie}");
    let off = OidcProvider { refresh_token: false, ..refresh.clone() };
    assert!(login(off, any(), Some("opaque")).await.1.contains("Max-Age=77;"));
    let capped = Oidc { max_session_seconds: Some(50), ..any() };
    assert!(login(refresh, capped, Some("opaque")).await.1.contains("Max-Age=50;"));
}

#[tokio::test]
async fn tokens_go_upstream_as_asked_and_a_client_s_own_never_do() {
    let forward = Oidc {
        forward_access_token: true,
        forward_id_token: Some(ForwardIdToken { header: "x-id-token".into() }),
        cookie_names: CookieNames { access_token: Some("AccessToken".into()), id_token: Some("IdToken".into()) },
        ..oidc(&SHARED.issuer)
    };
    let gate = Gate::open(policy(forward.clone()));
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.open(SHOP).await.status, 200);
    let cookies = browser.cookie(&url::Url::parse(SHOP).unwrap());
    browser.headers.insert("cookie".into(), format!("theme=dark; IdToken=forged; {cookies}; AccessToken=forged"));
    browser.headers.insert("x_id_token".into(), "forged".into());
    let upstream = browser.go(SHOP).await.upstream.unwrap();
    let id_token = &upstream.set["x-id-token"];
    let access_token = upstream.set["authorization"].strip_prefix("Bearer ").unwrap();
    assert_eq!(id_token.split('.').count(), 3);
    assert_eq!(upstream.set["cookie"], format!("theme=dark; AccessToken={access_token}; IdToken={id_token}"));
    assert!(upstream.removes("x_id_token"));

    let as_bearer = Oidc {
        forward_access_token: false,
        forward_id_token: Some(ForwardIdToken { header: "Authorization".into() }),
        ..forward
    };
    let gate = replica(&gate, as_bearer);
    let mut second = Browser::new(&gate, "ada").await;
    second.cookies = browser.cookies;
    let upstream = second.go(SHOP).await.upstream.unwrap();
    assert!(
        upstream.set["authorization"].starts_with("Bearer ") && upstream.set["authorization"].split('.').count() == 3
    );
}

#[tokio::test]
async fn more_scopes_resources_and_parameters_reach_the_provider() {
    let provider = Provider::start(&json!({"clients": [client(&json!({}))], "userinfoOnly": true}));
    let known = OidcProvider {
        resources: vec!["https://api.example.com".into()],
        scopes: vec!["openid".into(), "email".into(), "groups".into()],
        authorization_params: [("prompt".to_owned(), "login".to_owned()), ("ui_locales".into(), "de".into())].into(),
        user_info: true,
        ..known_as(&provider.issuer)
    };
    // An access token for one resource is not good at the userinfo endpoint.
    let without = OidcProvider { user_info: false, ..known.clone() };
    let gate = Gate::open(policy(Oidc { providers: vec![without], ..short_lived(&provider.issuer) }));
    let mut browser = Browser::new(&gate, "ada").await;
    let page = browser.open(SHOP).await;
    let sent = browser.visited.iter().find(|url| url.path() == "/auth").unwrap().to_string();
    for parameter in [
        "prompt=login",
        "ui_locales=de",
        "resource=https%3A%2F%2Fapi.example.com",
        "scope=openid+email+groups",
        "code_challenge_method=S256",
        "response_type=code",
    ] {
        assert!(sent.contains(parameter), "{parameter}: {sent}");
    }
    let upstream = page.upstream.unwrap();
    let token = upstream.set["authorization"].split('.').nth(1).unwrap().to_owned();
    let claims: Value = serde_json::from_slice(
        &base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, token).unwrap(),
    )
    .unwrap();
    assert_eq!(claims["aud"], "https://api.example.com");

    let asked = OidcProvider { resources: Vec::new(), ..known };
    let gate = Gate::open(policy(Oidc { providers: vec![asked], ..oidc(&provider.issuer) }));
    let page = Browser::new(&gate, "ada").await.open(SHOP).await;
    assert_eq!(page.upstream.unwrap().metadata["main"]["email"], "ada@example.com");
}

#[tokio::test]
async fn i8_a_store_that_is_lost_or_down_lets_nobody_in_and_starts_no_loop() {
    let mut server = Single::start();
    let options = Options { store: Storage::Redis(server.node.options()), ..Options::default() };
    let gate = Gate::with(Resources::new(&options).unwrap(), policy(oidc(&SHARED.issuer)));
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.open(SHOP).await.status, 200);
    let all = everything(&server.node);
    assert!(all.contains("session:") && !all.contains("eyJ"), "no token lies in Redis in clear: {all}");
    assert!(!all.contains(&browser.session().unwrap().value), "and no session id");

    let reads = gets(&server.node);
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(browser.go(SHOP).await.status, 200);
    }
    let most = begun.elapsed().as_secs() + 2;
    let reads = gets(&server.node) - reads;
    assert!(reads <= most, "one read a session and second at most, and not {reads}");

    server.node.cli(&["FLUSHALL"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    browser.headers.insert("sec-fetch-mode".into(), "cors".into());
    assert_eq!(browser.ask("GET", SHOP, b"").await.status, 401, "the session is gone: that is no error");
    browser.headers.clear();
    let mut again = Browser::new(&gate, "ada").await;
    assert_eq!(again.open(SHOP).await.status, 200);

    server.node.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let page = again.go(SHOP).await;
    assert_eq!(page.status, 503, "{page:?}");
    let page = Browser::new(&gate, "ada").await.open(SHOP).await;
    assert_eq!((page.status, page.header("location")), (503, None), "{page:?}");
}

/// Keys and values.
fn everything(node: &Node) -> String {
    let keys = node.cli(&["KEYS", "*"]);
    let values = keys.lines().flat_map(|key| {
        ["GET", "ZRANGE"].map(|read| node.cli(&[read, key, "0", "-1"][..if read == "GET" { 2 } else { 4 }]))
    });
    let values: String = values.collect();
    keys + &values
}

/// How often a value was read.
fn gets(node: &Node) -> u64 {
    let stats = node.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls=")).unwrap_or("0,");
    line.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_program_lists_and_ends_sessions_in_redis() {
    let server = Single::start();
    let options = Options { store: Storage::Redis(server.node.options()), ..Options::default() };
    let gate = Gate::with(Resources::new(&options).unwrap(), policy(oidc(&SHARED.issuer)));
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.open(SHOP).await.status, 200);
    let run = |what: &str, redis: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_extauth"));
        command.args(["sessions", what, "--issuer", &SHARED.issuer, "--subject", "ada"]);
        if redis {
            command.env("EXTAUTH_REDIS_URL", format!("redis://{}", server.node.address()));
            command.env("EXTAUTH_REDIS_PREFIX", server.node.options().prefix);
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let (done, listed) = run("list", true);
    assert!(done && listed.lines().count() == 1 && listed.contains(" main "), "{listed}");
    assert!(!listed.contains(&browser.session().unwrap().value), "an id is a credential: {listed}");
    assert_eq!(run("revoke", true), (true, "1 sessions ended\n".to_owned()));
    let begun = Instant::now();
    browser.headers.insert("sec-fetch-mode".into(), "cors".into());
    while browser.ask("GET", SHOP, b"").await.status != 401 {
        assert!(begun.elapsed() < PATIENCE, "the server does not notice");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(run("list", true), (true, String::new()));
    let (done, said) = run("list", false);
    assert!(!done && said.contains("EXTAUTH_REDIS_URL"), "{said}");
}

#[tokio::test]
async fn i7_a_slow_provider_costs_five_seconds_and_no_more() {
    let provider = Provider::start(&json!({"clients": [client(&json!({}))]}));
    let gate = Gate::open(policy(oidc(&provider.issuer)));
    let mut browser = Browser::new(&gate, "ada").await;
    provider.fault(json!({"path": "/token", "delay": 20_000})).await;
    let begun = Instant::now();
    let page = browser.open(SHOP).await;
    assert_eq!((page.status, page.header("retry-after")), (503, Some("5")), "{page:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(browser.session().is_none());
}

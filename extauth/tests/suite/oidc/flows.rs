//! Logins that somebody tampers with.

use futures::future::join_all;
use serde_json::json;

use super::forger::{Forger, Started, second};
use super::{Browser, Gate, SHARED, SHOP, oidc, policy};
use proto::extauth::{Oidc, Policy};

#[tokio::test]
async fn many_tabs_log_in_at_once_with_one_cookie() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut browser = Browser::new(&gate, "ada").await;
    let mut tabs = Vec::new();
    for tab in 0..20 {
        tabs.push(Started::by(&mut browser, &format!("{SHOP}/tab/{tab}")).await);
    }
    assert_eq!(browser.cookies.len(), 1, "twenty flows, one cookie");
    tabs.reverse();
    for (tab, started) in tabs.iter().enumerate() {
        forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
        let page = browser.go(&started.callback("code=a-code")).await;
        assert_eq!(page.location().path(), format!("/tab/{}", 19 - tab));
        assert_eq!(browser.go(page.location().as_str()).await.status, 200);
    }
    assert_eq!(browser.cookies.len(), 2);
}

#[tokio::test]
async fn o1_login_csrf_a_callback_works_in_the_browser_that_started_and_nowhere_else() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut attacker = Browser::new(&gate, "eve").await;
    let started = Started::by(&mut attacker, SHOP).await;
    forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
    let callback = started.callback("code=a-code");

    let mut victim = Browser::new(&gate, "ada").await;
    assert_eq!(victim.go(&callback).await.status, 403, "without any login of its own");
    Started::by(&mut victim, SHOP).await;
    assert_eq!(victim.go(&callback).await.status, 403, "with a login of its own");
    assert!(victim.session().is_none() && forger.asked("token") == 0, "the code was not even used");
    assert_eq!(attacker.go(&callback).await.status, 302);
}

#[tokio::test]
async fn o1_o4_cve_2023_27496_a_state_is_good_once_and_only_when_it_is_whole() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut browser = Browser::new(&gate, "ada").await;
    let started = Started::by(&mut browser, SHOP).await;
    forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
    let callback = format!("{SHOP}/oauth2/callback");
    let state = &started.state;
    for query in [
        String::new(),
        "?".to_owned(),
        "?code=x".to_owned(),
        "?code=x&state=".to_owned(),
        "?code=x&state=%ff%fe".to_owned(),
        "?code=x&state=%".to_owned(),
        format!("?code=x&state={state}x"),
        format!("?code=x&state={}", &state[1..]),
        format!("?code=x&state={state}&state={state}"),
        format!("?code=x&code=y&state={state}"),
        format!("?code=x&state={}", "a".repeat(43)),
        format!("?code={}&state={state}", "a".repeat(5000)),
        format!("#code=x&state={state}"),
        "?ticket=x".to_owned(),
        format!("?ticket={state}"),
    ] {
        let page = browser.ask("GET", &format!("{callback}{query}"), b"").await;
        assert_eq!(page.status, 400, "{query}: {page:?}");
    }
    assert_eq!(forger.asked("token"), 0);
    assert_eq!(browser.go(&started.callback("code=x")).await.status, 302, "none of that has spent it");
    assert_eq!(browser.go(&started.callback("code=x")).await.status, 400, "but that has");
}

#[tokio::test]
async fn o4_of_fifty_who_come_with_one_code_one_gets_a_session() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut browser = Browser::new(&gate, "ada").await;
    let started = Started::by(&mut browser, SHOP).await;
    forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
    let callback = started.callback("code=x");
    let mut others = Vec::new();
    for _ in 0..50 {
        let mut other = Browser::new(&gate, "ada").await;
        other.cookies.clone_from(&browser.cookies);
        others.push(other);
    }
    let pages = join_all(others.iter_mut().map(|other| other.go(&callback))).await;
    assert_eq!(pages.iter().filter(|page| page.status == 302).count(), 1);
    assert_eq!(pages.iter().filter(|page| page.status == 400).count(), 49);
    assert_eq!(forger.asked("token"), 1);
}

#[tokio::test]
async fn a_provider_that_says_no_ends_the_login_without_a_loop() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut browser = Browser::new(&gate, "ada").await;
    for answer in ["error=access_denied", "error=<script>alert(1)</script>", "error=x&code=y", "x=y"] {
        let started = Started::by(&mut browser, SHOP).await;
        let page = browser.go(&started.callback(answer)).await;
        assert_eq!(page.status, 403, "{answer}: {page:?}");
        assert!(!page.body.contains("script"), "{}", page.body);
    }
}

#[tokio::test]
async fn o5_mix_up_an_answer_must_come_from_the_issuer_that_was_asked() {
    let honest = Forger::with(json!({"authorization_response_iss_parameter_supported": true})).await;
    let evil = Forger::start().await;
    let oidc = oidc(&honest.issuer);
    let providers = vec![oidc.providers[0].clone(), second(&evil.issuer)];
    let gate = Gate::open(policy(Oidc { providers, ..oidc }));
    let mut browser = Browser::new(&gate, "ada").await;
    let iss = |issuer: &str| {
        format!("code=x&iss={}", url::form_urlencoded::byte_serialize(issuer.as_bytes()).collect::<String>())
    };
    for (provider, answer, expected) in [
        ("main", iss(&evil.issuer), 403),
        ("main", iss(""), 403),
        ("main", "code=x".to_owned(), 403),
        ("second", iss(&honest.issuer), 403),
        ("second", iss(&evil.issuer), 302),
        ("main", iss(&honest.issuer), 302),
    ] {
        let page = browser.go(&format!("{SHOP}/?idp_hint={provider}")).await;
        let started = Started::of(&page);
        for forger in [&honest, &evil] {
            forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
        }
        let page = browser.go(&started.callback(&answer)).await;
        assert_eq!(page.status, expected, "{provider} {answer}: {page:?}");
        browser.cookies.retain(|cookie| cookie.name.ends_with("-login"));
    }
}

#[tokio::test]
async fn o7_ghsa_f24x_a_login_gives_a_new_session_and_ends_the_old_one() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let login = async |browser: &mut Browser| {
        let started = Started::by(browser, &format!("{SHOP}/oauth2/login")).await;
        forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
        assert_eq!(browser.go(&started.callback("code=x")).await.status, 302);
        browser.session().unwrap().clone()
    };
    let mut attacker = Browser::new(&gate, "eve").await;
    let planted = login(&mut attacker).await;
    let mut victim = Browser::new(&gate, "ada").await;
    victim.cookies.push(planted.clone());
    let own = login(&mut victim).await;
    assert_ne!(planted.value, own.value);
    attacker.headers.insert("sec-fetch-mode".into(), "cors".into());
    assert_eq!(attacker.ask("GET", SHOP, b"").await.status, 401, "what was planted is worth nothing");
    assert_eq!(victim.go(SHOP).await.status, 200);
}

#[tokio::test]
async fn o6_after_a_login_the_browser_stays_on_its_host() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut browser = Browser::new(&gate, "ada").await;
    let evil = [
        "//evil.com",
        "/%5cevil.com",
        "%5c/%5c/evil.com",
        "/%09/evil.com",
        "/%0a/evil.com",
        "https:evil.com",
        "https://evil.com",
        "https://shop.example.com.evil.com",
        "https://shop.example.com@evil.com",
        "https://evilshop.example.com",
        "javascript:alert(1)",
        "/%0d%0aset-cookie:a=b",
    ];
    for rd in evil {
        let started = Started::by(&mut browser, &format!("{SHOP}/oauth2/login?rd={rd}")).await;
        forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
        let page = browser.go(&started.callback("code=x")).await;
        assert_eq!(page.header("location"), Some("https://shop.example.com/"), "{rd}");
    }
    for (path, expected) in [
        ("//evil.com/x", "https://shop.example.com//evil.com/x"),
        ("/.//evil.com", "https://shop.example.com//evil.com"),
    ] {
        browser.cookies.clear();
        let started = Started::by(&mut browser, &format!("{SHOP}{path}")).await;
        forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
        let page = browser.go(&started.callback("code=x")).await;
        assert_eq!(page.header("location"), Some(expected));
    }
}

#[tokio::test]
async fn a_host_that_is_none_starts_no_login() {
    let gate = Gate::open(policy(oidc(&SHARED.issuer)));
    let mut browser = Browser::new(&gate, "ada").await;
    for host in [
        "",
        "evil.com@shop.example.com",
        "shop.example.com/x",
        "shop.example.com?",
        "a b",
        "shop\u{2e}example\u{3002}com",
    ] {
        let page = browser.ask_host(host).await;
        assert_eq!(page.status, 401, "{host}: {page:?}");
    }
}

#[tokio::test]
async fn o16_cve_2022_29226_a_bearer_token_is_no_session() {
    let gate = Gate::open(Policy { optional: false, ..policy(oidc(&SHARED.issuer)) });
    let mut browser = Browser::new(&gate, "ada").await;
    for bearer in ["Bearer garbage", "Bearer a.b.c", "bearer", "Basic YTpi"] {
        browser.headers.insert("authorization".into(), bearer.into());
        let page = browser.ask("GET", &format!("{SHOP}/?token=garbage&access_token=x"), b"").await;
        assert_eq!(page.status, 401, "{bearer}: {page:?}");
    }
}

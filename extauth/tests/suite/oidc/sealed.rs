//! Sessions and started logins that the browser keeps, with no store that would work.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use extauth::config::Config;
use extauth::resources::{Options, Resources, Storage};
use futures::future::join_all;
use logins::Provider;
use proto::extauth::{Allow, Oidc, OidcProvider, Policy, Secret, SessionCookie, SessionKind};
use serde_json::{Value, json};

use super::forger::{Forger, Started};
use super::{Browser, Gate, PATIENCE, Page, SHARED, SHOP, client, known_as, oidc, policy, refusal};
use crate::support::encode;

const FIRST: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const SECOND: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn sealed(issuer: &str) -> Oidc {
    Oidc {
        session: SessionKind::Sealed,
        sealing_keys: Some(Secret::new(FIRST)),
        forward_access_token: true,
        ..oidc(issuer)
    }
}

/// Where a store is asked for anything, it fails.
fn without_store() -> Resources {
    let mut options = crate::redis::options("127.0.0.1:1", extauth::store::redis::Kind::Single);
    options.timeout = Duration::from_millis(100);
    Resources::new(&Options { store: Storage::Redis(options), ..Options::default() }).unwrap()
}

fn gate(oidc: Oidc) -> Gate {
    Gate::with(without_store(), policy(oidc))
}

/// The cookies of the session, without those of logins.
fn session(browser: &Browser) -> BTreeMap<String, String> {
    let own =
        browser.cookies.iter().filter(|cookie| cookie.name.contains("session-") && !cookie.name.contains("-login"));
    own.map(|cookie| (cookie.name.clone(), cookie.value.clone())).collect()
}

fn logins(browser: &Browser) -> usize {
    browser.cookies.iter().filter(|cookie| cookie.name.contains("-login-")).count()
}

/// What a script is answered.
async fn ask(browser: &mut Browser) -> (u16, Option<String>) {
    browser.headers.insert("sec-fetch-mode".into(), "cors".into());
    let page = browser.ask("GET", SHOP, b"").await;
    browser.headers.remove("sec-fetch-mode");
    (page.status, page.upstream.map(|answer| answer.set["authorization"].clone()))
}

/// With an access token of so many bytes, which lives for so long.
async fn logged_in(forger: &Forger, gate: &Gate, bytes: usize, seconds: u64) -> (Browser, Page) {
    let mut browser = Browser::new(gate, "ada").await;
    let tokens = |nonce: &str| {
        let mut tokens = Forger::tokens(&forger.sign(&forger.claims(nonce)));
        tokens["access_token"] = "x".repeat(bytes).into();
        tokens["expires_in"] = seconds.into();
        tokens["refresh_token"] = "once".into();
        tokens
    };
    let page = forger.login(&mut browser, tokens).await;
    (browser, page)
}

#[tokio::test]
async fn a_browser_logs_in_comes_back_and_logs_out_without_a_store() {
    let gate = gate(sealed(&SHARED.issuer));
    let mut browser = Browser::new(&gate, "ada").await;
    let page = browser.open(&format!("{SHOP}/orders?page=2")).await;
    assert_eq!((page.status, page.url.as_str()), (200, "https://shop.example.com/orders?page=2"));
    let upstream = page.upstream.unwrap();
    assert_eq!(upstream.set["x-user"], "ada");
    assert!(upstream.removes("cookie"), "the upstream sees none of ours: {upstream:?}");
    assert_eq!(logins(&browser), 0, "a login that has ended leaves nothing");
    let cookies = session(&browser);
    for (name, value) in &cookies {
        assert!(
            name.starts_with("__Host-") && name.len() + value.len() < 4096 && !value.contains("eyJ"),
            "{name}={value}"
        );
    }
    browser.headers.insert("cookie".into(), format!("theme=dark; {}", browser.cookie(&page.url)));
    assert_eq!(browser.go(SHOP).await.upstream.unwrap().set["cookie"], "theme=dark");
    browser.headers.clear();

    let page = browser.go(&format!("{SHOP}/logout")).await;
    assert_eq!(page.location().path(), "/session/end", "the provider's session ends, too");
    assert_eq!(session(&browser), BTreeMap::new());
    assert_eq!(ask(&mut browser).await.0, 401);
}

#[tokio::test]
async fn many_tabs_log_in_at_once_and_their_cookies_do_not_pile_up() {
    let forger = Forger::start().await;
    let gate = gate(sealed(&forger.issuer));
    let mut browser = Browser::new(&gate, "ada").await;
    let mut tabs = Vec::new();
    for tab in 0..20 {
        tabs.push(Started::by(&mut browser, &format!("{SHOP}/tab/{tab}")).await);
        assert!(logins(&browser) <= 8);
        // Which of two was first must be seen on the clock.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let long = format!("{SHOP}/{}", "a".repeat(3000));
    let started = Started::by(&mut browser, &long).await;
    assert!(browser.cookies.iter().all(|cookie| cookie.value.len() < 2500), "a long target is forgotten");
    tabs.drain(..13);
    tabs.reverse();
    for (tab, started) in tabs.iter().enumerate() {
        forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
        let page = browser.go(&started.callback("code=a-code")).await;
        assert_eq!(page.location().path(), format!("/tab/{}", 19 - tab), "{page:?}");
    }
    forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
    assert_eq!(browser.go(&started.callback("code=a-code")).await.location().path(), "/");
    assert_eq!(logins(&browser), 0);
}

#[tokio::test]
async fn o1_o4_a_sealed_login_is_good_once_in_its_own_browser_and_in_time() {
    let forger = Forger::start().await;
    let brief = gate(Oidc { csrf_token_ttl_seconds: 2, ..sealed(&forger.issuer) });
    let gate = gate(sealed(&forger.issuer));
    let mut browser = Browser::new(&gate, "ada").await;
    let started = Started::by(&mut browser, SHOP).await;
    forger.token(200, &Forger::tokens(&forger.sign(&forger.claims(&started.nonce))));
    let callback = started.callback("code=x");
    let mut stranger = Browser::new(&gate, "eve").await;
    Started::by(&mut stranger, SHOP).await;
    assert_eq!(stranger.go(&callback).await.status, 400, "another browser");
    assert_eq!(browser.go(&format!("{SHOP}/oauth2/callback?ticket={}", started.state)).await.status, 400);
    let mut others = Vec::new();
    for _ in 0..50 {
        let mut other = Browser::new(&gate, "ada").await;
        other.cookies.clone_from(&browser.cookies);
        others.push(other);
    }
    let pages = join_all(others.iter_mut().map(|other| other.go(&callback))).await;
    assert_eq!(pages.iter().filter(|page| page.status == 302).count(), 1);
    assert_eq!(forger.asked("token"), 1);

    let mut browser = Browser::new(&brief, "ada").await;
    let started = Started::by(&mut browser, SHOP).await;
    let cookies = browser.cookies.clone();
    tokio::time::sleep(Duration::from_millis(3100)).await;
    browser.cookies = cookies;
    assert_eq!(browser.go(&started.callback("code=x")).await.status, 400, "a browser that does not forget");
    assert_eq!(forger.asked("token"), 1);
}

#[tokio::test]
async fn a_large_session_takes_several_cookies_and_a_smaller_one_takes_them_away() {
    let forger = Forger::start().await;
    let gate = gate(sealed(&forger.issuer));
    let (mut browser, page) = logged_in(&forger, &gate, 9000, 2).await;
    assert_eq!(page.status, 302, "{page:?}");
    let cookies = session(&browser);
    assert!((3..=5).contains(&cookies.len()), "{:?}", cookies.keys());
    assert!(
        browser.cookies.iter().all(|cookie| cookie.name.len() + cookie.value.len() + cookie.attributes.len() < 4096)
    );
    assert_eq!(ask(&mut browser).await.1.unwrap().len(), "Bearer ".len() + 9000);
    assert!(browser.go(SHOP).await.upstream.unwrap().removes("cookie"), "no part goes upstream");

    forger.token(200, &json!({"access_token": "small", "token_type": "Bearer", "expires_in": 600}));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(ask(&mut browser).await, (200, Some("Bearer small".to_owned())));
    assert_eq!(session(&browser).len(), 1, "what was larger is gone");
    assert_eq!(ask(&mut browser).await, (200, Some("Bearer small".to_owned())));
    assert_eq!(forger.asked("token"), 2);

    let (browser, page) = logged_in(&forger, &gate, 20_000, 600).await;
    assert_eq!(page.status, 403, "{page:?}");
    assert_eq!(session(&browser), BTreeMap::new());
}

#[tokio::test]
async fn a25_cve_2023_35941_tampered_cut_mixed_and_doubled_cookies_are_no_session() {
    let forger = Forger::start().await;
    let gate = gate(sealed(&forger.issuer));
    let (mut browser, _) = logged_in(&forger, &gate, 6000, 600).await;
    let (other, _) = logged_in(&forger, &gate, 6000, 600).await;
    let good = session(&browser);
    let other = session(&other);
    let names: Vec<_> = good.keys().cloned().collect();
    let (first, second) = (names[0].as_str(), names[1].as_str());
    assert!(good.len() >= 3);
    let with = |name: &str, value: &str| {
        let mut cookies = good.clone();
        cookies.insert(name.to_owned(), value.to_owned());
        cookies
    };
    let touched = |name: &str, place: usize| {
        let mut text = good[name].clone().into_bytes();
        text[place] = if text[place] == b'A' { b'B' } else { b'A' };
        with(name, std::str::from_utf8(&text).unwrap())
    };
    let without =
        |name: &str| good.iter().filter(|(key, _)| *key != name).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut bad: Vec<(&str, BTreeMap<String, String>)> = vec![
        ("no first part", with(first, "")),
        ("no second part", without(second)),
        ("another's part", with(second, &other[second])),
        ("parts in another order", with(second, &good[&names[2]])),
        ("a count that is too small", with(first, &good[first].replacen('3', "2", 1))),
        ("a count that is too large", with(first, &good[first].replacen('3', "9", 1))),
        ("a count that is none", with(first, &good[first].replacen('3', "x", 1))),
        ("nothing but a count", with(first, "1.")),
        ("text", with(first, "1.aGVsbG8.aGVsbG8")),
    ];
    for (name, value) in &good {
        for place in [2, 10, value.len() / 2, value.len() - 1] {
            bad.push(("a touched part", touched(name, place)));
        }
    }
    let send = |cookies: &BTreeMap<String, String>| {
        cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    };
    browser.cookies.clear();
    browser.headers.insert("cookie".into(), send(&good));
    assert_eq!(ask(&mut browser).await.0, 200);
    for (what, cookies) in bad {
        browser.headers.insert("cookie".into(), send(&cookies));
        assert_eq!(ask(&mut browser).await.0, 401, "{what}");
    }
    for name in [first, second] {
        browser.headers.insert("cookie".into(), format!("{}; {name}={}", send(&good), other[name]));
        assert_eq!(ask(&mut browser).await.0, 401, "a second {name}");
    }
}

#[tokio::test]
async fn a25_a_cookie_is_good_for_its_own_name_client_and_purpose() {
    let forger = Forger::start().await;
    let name = |name: &str| SessionCookie { name: Some(format!("__Host-session-{name}")), ..SessionCookie::default() };
    let one = gate(Oidc { cookie: name("one"), ..sealed(&forger.issuer) });
    let (browser, _) = logged_in(&forger, &one, 100, 600).await;
    let value = session(&browser)["__Host-session-one"].clone();
    let other_client = OidcProvider { client_id: "office".into(), ..known_as(&forger.issuer) };
    let other_client = gate(Oidc { cookie: name("one"), providers: vec![other_client], ..sealed(&forger.issuer) });
    let other_name = gate(Oidc { cookie: name("two"), ..sealed(&forger.issuer) });
    let other_key = Some(Secret::new(SECOND));
    let other_key = gate(Oidc { cookie: name("one"), sealing_keys: other_key, ..sealed(&forger.issuer) });
    let same = gate(Oidc { cookie: name("one"), ..sealed(&forger.issuer) });
    for (what, gate, name, expected) in [
        ("another process with the same key", &same, "one", 200),
        ("another client of the provider", &other_client, "one", 401),
        ("another name", &other_name, "two", 401),
        ("another key", &other_key, "one", 401),
    ] {
        let mut browser = Browser::new(gate, "ada").await;
        browser.headers.insert("cookie".into(), format!("__Host-session-{name}={value}"));
        assert_eq!(ask(&mut browser).await.0, expected, "{what}");
    }
    let mut browser = Browser::new(&one, "ada").await;
    Started::by(&mut browser, SHOP).await;
    let login = browser.cookies.iter().find(|cookie| cookie.name.contains("-login-")).unwrap().value.clone();
    browser.headers.insert("cookie".into(), format!("__Host-session-one=1.{login}"));
    assert_eq!(ask(&mut browser).await.0, 401, "a login is no session");
}

/// Policies as files hold them, with these keys beside them.
fn files(issuer: &str, keys: &str) -> Config {
    let text = format!(
        "policies:\n- name: guard\n  methods:\n  - oidc:\n      session: sealed\n      sealingKeysFile: keys\n      \
         forwardAccessToken: true\n      providers:\n      - {{name: main, issuer: '{issuer}', clientID: shop, \
         clientSecret: x}}\n"
    );
    Config::parse(&[("a.yaml".to_owned(), text), ("keys".to_owned(), keys.to_owned())].into()).unwrap()
}

#[tokio::test]
async fn keys_rotate_while_sessions_go_on() {
    let forger = Forger::start().await;
    let gate = gate(sealed(&forger.issuer));
    let put = |keys: &str| gate.authorizer.replace(&files(&forger.issuer, keys).policies).unwrap();
    put(FIRST);
    let (mut used, _) = logged_in(&forger, &gate, 100, 600).await;
    let (mut unused, _) = logged_in(&forger, &gate, 100, 600).await;
    let old = session(&used);
    assert_eq!(used.go(SHOP).await.header("set-cookie"), None, "nothing is new");

    put(&format!("{SECOND}\n{FIRST}\n"));
    let page = used.go(SHOP).await;
    assert_eq!(page.status, 200);
    assert!(page.header("set-cookie").unwrap().contains("Max-Age=604"), "{page:?}");
    assert_ne!(session(&used), old, "sealed anew, with the new key");
    assert_eq!(used.go(SHOP).await.header("set-cookie"), None, "once");

    put(SECOND);
    assert_eq!(ask(&mut used).await.0, 200);
    assert_eq!(ask(&mut unused).await.0, 401, "the old key opens nothing more");
    assert_eq!(unused.go(SHOP).await.status, 503, "right after a login it might be lost again: no loop");
    unused.cookies.retain(|cookie| !cookie.name.ends_with("-login"));
    let page = unused.go(SHOP).await;
    assert_eq!((page.status, page.location().path()), (302, "/authorize"), "later it is a login as any other");
}

#[tokio::test]
async fn a_refresh_token_is_used_once_and_its_tokens_reach_the_browser() {
    let provider = Provider::start(&json!({"clients": [client(&json!({}))], "ttl": {"access": 3}, "rotate": true}));
    let gate = gate(sealed(&provider.issuer));
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.open(SHOP).await.status, 200);
    let (_, mut last) = ask(&mut browser).await;
    for round in 1..=2 {
        let old = browser.cookies.clone();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let mut tabs = Vec::new();
        for _ in 0..100 {
            let mut tab = Browser::new(&gate, "ada").await;
            tab.cookies.clone_from(&old);
            tabs.push(tab);
        }
        let answers = join_all(tabs.iter_mut().map(ask)).await;
        let tokens = &answers[0].1;
        assert!(tokens.is_some() && *tokens != last, "{:?}", answers[0]);
        assert!(answers.iter().all(|answer| answer.0 == 200 && answer.1 == *tokens), "{answers:?}");
        assert_eq!(provider.count("/token").await, 1 + round, "one login, one refresh a round");
        last.clone_from(tokens);
        // Whichever answer came last, the browser has what comes next.
        browser.cookies = tabs.pop().unwrap().cookies;
        assert_ne!(session(&browser).values().collect::<Vec<_>>(), old.iter().map(|c| &c.value).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_renewed_session_reaches_a_browser_whose_request_is_denied() {
    let forger = Forger::start().await;
    let rules = json!([{"name": "no-admin", "action": "deny", "when": {"paths": [{"prefix": "/admin"}]}}]);
    let by_rule = Policy {
        rules: serde_json::from_value(rules).unwrap(),
        default: Some(proto::extauth::Action::Allow),
        ..policy(sealed(&forger.issuer))
    };
    let results = json!({"headers": [{"name": "x-large", "value": "{claims.large}"}]});
    let by_result =
        Policy { results: Some(serde_json::from_value(results).unwrap()), ..policy(sealed(&forger.issuer)) };
    let groups = Allow { groups: Some(vec!["ops".to_owned()]), ..Allow::default() };
    let by_group = policy(Oidc { allow: groups, ..sealed(&forger.issuer) });
    for (policy, path) in [(by_rule, "/admin"), (by_result, "/"), (by_group, "/")] {
        let gate = Gate::with(without_store(), policy);
        let mut browser = Browser::new(&gate, "ada").await;
        let (mut first, mut second) = (Value::Null, Value::Null);
        let tokens = |nonce: &str| {
            first = forger.claims(nonce);
            first["groups"] = json!(["ops"]);
            second = first.clone();
            second["groups"] = json!(["sales"]);
            second["large"] = "x".repeat(5000).into();
            let mut tokens = Forger::tokens(&forger.sign(&first));
            (tokens["access_token"], tokens["expires_in"], tokens["refresh_token"]) =
                ("x".repeat(6000).into(), 2.into(), "once".into());
            tokens
        };
        assert_eq!(forger.login(&mut browser, tokens).await.status, 302);
        let (old, asked) = (session(&browser), forger.asked("token"));
        assert!(old.len() >= 2, "more than one cookie: {:?}", old.keys());
        second.as_object_mut().unwrap().remove("nonce");
        let mut tokens = Forger::tokens(&forger.sign(&second));
        (tokens["access_token"], tokens["expires_in"]) = ("y".repeat(3000).into(), 600.into());
        forger.token(200, &tokens);
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let page = browser.go(&format!("{SHOP}{path}")).await;
        assert_eq!((page.status, forger.asked("token")), (403, asked + 1), "{page:?}");
        let new = session(&browser);
        assert!(new.len() >= 2 && new.values().all(|part| !old.values().any(|known| known == part)), "{page:?}");
        // Envoy appends cookies, so that none takes another's place.
        assert_eq!(page.headers.iter().filter(|(name, _)| name == "set-cookie").count(), new.len().max(old.len()));
    }
}

#[tokio::test]
async fn i7_what_a_provider_says_no_to_lasts_until_its_end_and_no_longer() {
    let forger = Forger::start().await;
    let gate = gate(sealed(&forger.issuer));
    let (mut browser, _) = logged_in(&forger, &gate, 100, 10).await;
    forger.token(400, &json!({"error": "invalid_grant"}));
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_millis(8500)).await;
    // Another replica may have been faster with the refresh token; the access token is as good as it was.
    let (status, _) = ask(&mut browser).await;
    assert!(status == 200 || begun.elapsed() > Duration::from_secs(9), "{status} after {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(ask(&mut browser).await.0, 401);
    assert_eq!(forger.asked("token"), 2);

    let (mut browser, _) = logged_in(&forger, &gate, 100, 1).await;
    forger.token(503, &Value::Null);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    for _ in 0..20 {
        assert_eq!(ask(&mut browser).await.0, 503, "nobody can say whether it goes on");
    }
    assert_eq!(forger.asked("token"), 4, "a provider that is down is left alone");
    forger.token(200, &json!({"access_token": "new", "token_type": "Bearer", "expires_in": 600}));
    let begun = Instant::now();
    while ask(&mut browser).await != (200, Some("Bearer new".to_owned())) {
        assert!(begun.elapsed() < PATIENCE, "the provider is back, and nobody notices");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn what_needs_a_store_does_not_load_without_one() {
    let issuer = "http://127.0.0.1:9";
    for (oidc, problem) in [
        (Oidc { sealing_keys: None, ..sealed(issuer) }, "sealingKeys: is missing"),
        (Oidc { session: SessionKind::Stored, ..sealed(issuer) }, "sealingKeys: has no effect"),
        (Oidc { sealing_keys: Some(Secret::new(encode(b"short"))), ..sealed(issuer) }, "sealingKeys: line 1"),
        (
            Oidc {
                redirect_url: Some("https://login.example.com/cb".into()),
                hosts: vec!["*.example.com".into()],
                ..sealed(issuer)
            },
            "hosts: cannot be with",
        ),
        (Oidc { back_channel_logout_path: "/end".into(), ..sealed(issuer) }, "backChannelLogoutPath: cannot be with"),
        (Oidc { sealing_keys_file: Some("keys".into()), ..sealed(issuer) }, "sealingKeysFile: is only known"),
    ] {
        let error = refusal(oidc);
        assert!(error.contains(problem), "{error}");
        assert!(!error.contains(FIRST));
    }
    assert!(!format!("{:?}", sealed(issuer)).contains(FIRST));
}

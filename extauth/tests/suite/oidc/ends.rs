//! How sessions end before their time: by their user, by the provider, and by whoever runs this.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use proto::extauth::{Oidc, OidcProvider, SessionCookie};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::forger::{Forger, Started, now};
use super::{Browser, Gate, PATIENCE, SHARED, SHOP, client, known_as, oidc, policy};
use crate::support::{Issuer, encode};
use logins::Provider;

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

async fn logged_in(forger: &Forger, gate: &Gate, more: Value) -> Browser {
    let mut browser = Browser::new(gate, "ada").await;
    let tokens = |nonce: &str| {
        let mut claims = forger.claims(nonce);
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Forger::tokens(&forger.sign(&claims))
    };
    assert_eq!(forger.login(&mut browser, tokens).await.status, 302);
    browser
}

async fn alive(browser: &mut Browser) -> bool {
    browser.headers.insert("sec-fetch-mode".into(), "cors".into());
    let page = browser.ask("GET", SHOP, b"").await;
    browser.headers.clear();
    match page.status {
        200 => true,
        401 => false,
        _ => panic!("{page:?}"),
    }
}

#[tokio::test]
async fn a_logout_returns_where_the_policy_says_and_takes_secure_cookies_away() {
    let after = Oidc { post_logout_redirect_url: Some("/bye".into()), ..oidc(&SHARED.issuer) };
    let gate = Gate::open(policy(after));
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.open(SHOP).await.status, 200);
    let page = browser.go(&format!("{SHOP}/logout")).await;
    assert_eq!(page.status, 302);
    let deletion = page.header("set-cookie").unwrap();
    for part in ["__Host-session-", "=; ", "Path=/", "Max-Age=0", "Secure", "HttpOnly"] {
        assert!(deletion.contains(part), "CVE-2025-55162: {part} is not in {deletion}");
    }
    let to = page.location();
    let sent = |name: &str| to.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    assert_eq!(
        (to.path(), sent("post_logout_redirect_uri").as_str()),
        ("/session/end", "https://shop.example.com/bye")
    );
    assert_eq!(sent("client_id"), "shop");
}

#[tokio::test]
async fn o11_another_site_logs_nobody_out() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut browser = logged_in(&forger, &gate, json!({})).await;
    let logout = format!("{SHOP}/logout");
    browser.headers.insert("sec-fetch-site".into(), "cross-site".into());
    let page = browser.ask("GET", &logout, b"").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("<form method=\"post\" action=\"/logout\">"), "{}", page.body);
    assert_eq!(browser.ask("POST", &logout, b"").await.status, 403);
    browser.headers.insert("sec-fetch-site".into(), String::new());
    browser.headers.insert("origin".into(), "https://evil.com".into());
    assert_eq!(browser.ask("POST", &logout, b"").await.status, 403);
    assert_eq!(browser.ask("DELETE", &logout, b"").await.status, 403);
    browser.headers.clear();
    assert!(alive(&mut browser).await);

    browser.headers.insert("sec-fetch-site".into(), "same-origin".into());
    let page = browser.ask("POST", &logout, b"").await;
    assert_eq!(page.status, 200, "this provider has no place to log out: {page:?}");
    assert!(page.body.contains("Logged out") && browser.session().is_none());
    let again = browser.ask("GET", &logout, b"").await;
    assert_eq!(again.status, 200, "whoever is logged out may log out");
}

#[tokio::test]
async fn a_provider_ends_a_session_behind_the_browser_s_back() {
    let (told, mut posted) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/logout", listener.local_addr().unwrap());
    let router = Router::new().route("/logout", post(move |body: String| async move { told.send(body).unwrap() }));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let backchannel = json!({"backchannel_logout_uri": uri, "backchannel_logout_session_required": true});
    let provider = Provider::start(&json!({"clients": [client(&backchannel)]}));
    let gate = Gate::open(policy(oidc(&provider.issuer)));
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.open(SHOP).await.status, 200);
    let mut elsewhere = Browser::new(&gate, "ada").await;
    assert_eq!(elsewhere.open(SHOP).await.status, 200);

    // The user logs out at the provider, and this shop is told of it.
    let page = browser.open(&format!("{}/session/end", provider.issuer)).await;
    let secret = page.body.split("name=\"xsrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    browser
        .post_outside(&format!("{}/session/end/confirm", provider.issuer), format!("xsrf={secret}&logout=yes"))
        .await;
    let body = tokio::time::timeout(PATIENCE, posted.recv()).await.unwrap().unwrap();
    assert!(alive(&mut browser).await);
    let mut machine = Browser::new(&gate, "").await;
    let path = format!("{SHOP}/oauth2/backchannel-logout");
    let answer = machine.ask("POST", &path, body.as_bytes()).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{answer:?}");
    assert!(!alive(&mut browser).await && alive(&mut elsewhere).await, "one session of two");
    assert_eq!(machine.ask("POST", &path, body.as_bytes()).await.status, 400, "the same token again");
}

#[tokio::test]
async fn c2_49_a_logout_token_that_is_none_ends_nothing() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut browser = logged_in(&forger, &gate, json!({"sid": "s1"})).await;
    let mut machine = Browser::new(&gate, "").await;
    let path = format!("{SHOP}/oauth2/backchannel-logout");
    let good = |id: &str| {
        json!({"iss": forger.issuer, "aud": "shop", "iat": now(), "exp": now() + 60, "jti": id, "sub": "ada", "sid": "s1",
            "events": {EVENT: {}}})
    };
    let header = json!({"alg": "RS256", "kid": "key-1", "typ": "logout+jwt"}).to_string();
    let with = |name: &str, value: Value| {
        let mut claims = good("bad");
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        forger.key.sign(&header, &claims.to_string())
    };
    let stranger = Issuer::new("RS256");
    let typed = |typ: &str| {
        forger.key.sign(&json!({"alg": "RS256", "kid": "key-1", "typ": typ}).to_string(), &good("bad").to_string())
    };
    let bad = [
        ("no events", with("events", Value::Null)),
        ("other events", with("events", json!({"http://schemas.openid.net/event/other": {}}))),
        ("events as a list", with("events", json!([EVENT]))),
        ("a nonce: this is an ID token", with("nonce", json!("x"))),
        ("another audience", with("aud", json!("bank"))),
        ("no audience", with("aud", Value::Null)),
        ("another issuer", with("iss", json!("https://evil.example.com"))),
        ("no jti", with("jti", Value::Null)),
        ("no time", with("iat", Value::Null)),
        ("old", with("iat", json!(now() - 1000))),
        ("expired", with("exp", json!(now() - 100))),
        ("from the future", with("iat", json!(now() + 1000))),
        ("nobody", {
            let mut claims = good("x");
            claims.as_object_mut().unwrap().retain(|name, _| name != "sub" && name != "sid");
            forger.key.sign(&header, &claims.to_string())
        }),
        ("an access token", typed("at+jwt")),
        ("alg none", format!("{}.{}.", encode(br#"{"alg":"none"}"#), encode(good("bad").to_string().as_bytes()))),
        ("a stranger's", stranger.sign(&header, &good("bad").to_string())),
        ("nothing", String::new()),
    ];
    for (what, token) in bad {
        let answer = machine.ask("POST", &path, format!("logout_token={token}").as_bytes()).await;
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        assert!(alive(&mut browser).await, "{what}");
    }
    let token = forger.key.sign(&header, &good("good").to_string());
    for (method, body) in [
        ("GET", format!("logout_token={token}")),
        ("POST", format!("logout_token={token}&logout_token={token}")),
        ("POST", "x".into()),
    ] {
        assert_eq!(machine.ask(method, &path, body.as_bytes()).await.status, 400);
    }
    assert!(alive(&mut browser).await);
    assert_eq!(machine.ask("POST", &path, format!("logout_token={token}").as_bytes()).await.status, 200);
    assert!(!alive(&mut browser).await);

    let mut one = logged_in(&forger, &gate, json!({})).await;
    let mut two = logged_in(&forger, &gate, json!({"sid": "s2"})).await;
    let mut claims = good("all");
    claims.as_object_mut().unwrap().remove("sid");
    let token = forger.key.sign(&header, &claims.to_string());
    assert_eq!(machine.ask("POST", &path, format!("logout_token={token}").as_bytes()).await.status, 200);
    assert!(!alive(&mut one).await && !alive(&mut two).await, "without a session's name, all of the user's end");
}

#[tokio::test]
async fn whoever_runs_this_lists_and_ends_a_user_s_sessions() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut laptop = logged_in(&forger, &gate, json!({})).await;
    let mut phone = logged_in(&forger, &gate, json!({})).await;
    let mut other = logged_in(&forger, &gate, json!({"sub": "eve"})).await;
    let sessions = &gate.resources.sessions;
    let listed = sessions.list(&forger.issuer, "ada").await.unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(
        listed.iter().all(|one| one.provider == "main" && one.session != laptop.session().unwrap().value),
        "{listed:?}"
    );
    assert!(alive(&mut laptop).await && alive(&mut phone).await);
    let second = super::sessions::replica(&gate, oidc(&forger.issuer));
    let mut on_second = Browser::new(&second, "ada").await;
    on_second.cookies.clone_from(&laptop.cookies);
    assert!(alive(&mut on_second).await, "the other replica knows it now");
    assert_eq!(sessions.revoke(&forger.issuer, "ada").await.unwrap(), 2);
    let begun = Instant::now();
    while alive(&mut on_second).await {
        assert!(begun.elapsed() < Duration::from_secs(20), "the other replica does not notice");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!alive(&mut laptop).await && !alive(&mut phone).await && alive(&mut other).await);
    assert_eq!(sessions.list(&forger.issuer, "ada").await.unwrap(), []);
}

#[tokio::test]
async fn another_policy_s_session_is_none() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let browser = logged_in(&forger, &gate, json!({})).await;
    let named = |name: &str| SessionCookie { name: Some(name.into()), ..SessionCookie::default() };
    let cookie = browser.session().unwrap().clone();
    for (other, expected) in [
        (OidcProvider { ..known_as(&forger.issuer) }, true),
        (OidcProvider { client_id: "bank".into(), ..known_as(&forger.issuer) }, false),
        (OidcProvider { name: "second".into(), ..known_as(&forger.issuer) }, false),
        (OidcProvider { issuer: "https://issuer.example.com".into(), ..known_as(&forger.issuer) }, false),
    ] {
        let gate = super::sessions::replica(
            &gate,
            Oidc { providers: vec![other.clone()], cookie: named(&cookie.name), ..oidc(&forger.issuer) },
        );
        let mut browser = Browser::new(&gate, "ada").await;
        browser.cookies.push(cookie.clone());
        assert_eq!(alive(&mut browser).await, expected, "{other:?}");
    }
}

#[tokio::test]
async fn the_hint_to_a_provider_is_never_too_long_for_a_url() {
    let forger = Forger::with(json!({})).await;
    let usual = known_as(&forger.issuer);
    let providers = vec![OidcProvider { end_session_endpoint: Some(format!("{}/end", forger.issuer)), ..usual }];
    let gate = Gate::open(policy(Oidc { providers, ..oidc(&forger.issuer) }));
    for (size, hinted) in [(10, true), (5000, false)] {
        let mut browser = logged_in(&forger, &gate, json!({"groups": "g".repeat(size)})).await;
        assert!(alive(&mut browser).await, "a large token costs the browser nothing");
        let to = browser.ask("GET", &format!("{SHOP}/logout"), b"").await.location();
        assert_eq!(to.query_pairs().any(|(name, _)| name == "id_token_hint"), hinted, "{to}");
        assert!(to.as_str().len() < 5000 && to.path() == "/end");
    }
    let mut browser = Browser::new(&gate, "ada").await;
    Started::by(&mut browser, SHOP).await;
}

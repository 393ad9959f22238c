//! Opaque tokens of a certified provider.

use std::time::{Duration, Instant};

use logins::Provider;
use proto::extauth::{Introspection, Method, Policy, Secret};
use serde_json::{Value, json};

use super::{Browser, Gate, PATIENCE, SHOP, client};

/// One that a program gets for itself.
async fn token(browser: &mut Browser, provider: &Provider) -> String {
    let form = "grant_type=client_credentials&client_id=job&client_secret=job-secret&scope=email".to_owned();
    let page = browser.post_outside(&format!("{}/token", provider.issuer), form).await;
    assert_eq!(page.status, 200, "{page:?}");
    serde_json::from_str::<Value>(&page.body).unwrap()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_revoked_token_is_denied_when_what_was_said_of_it_is_forgotten() {
    let job = json!({
        "client_id": "job", "client_secret": "job-secret", "redirect_uris": [], "response_types": [],
        "grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_post", "scope": "email",
    });
    let provider = Provider::start(&json!({"clients": [client(&json!({})), job]}));
    let introspection = Introspection {
        name: "opaque".into(),
        endpoint: format!("{}/token/introspection", provider.issuer),
        client_id: "shop".into(),
        client_secret: Some(Secret::new("shop's secret")),
        issuer: Some(provider.issuer.clone()),
        cache_seconds: 3,
        negative_cache_seconds: 1,
        ..Introspection::default()
    };
    let gate = Gate::open(Policy {
        name: "guard".into(),
        methods: vec![Method::Introspection(introspection)],
        ..Policy::default()
    });
    let mut browser = Browser::new(&gate, "job").await;
    let token = token(&mut browser, &provider).await;
    assert!(!token.contains('.'), "opaque");
    browser.headers.insert("authorization".into(), format!("Bearer {token}"));
    let page = browser.ask("GET", SHOP, b"").await;
    assert_eq!(page.status, 200, "{page:?}");
    let metadata = page.upstream.unwrap().metadata;
    assert_eq!((&metadata["opaque"]["client_id"], &metadata["scopes"]), (&json!("job"), &json!(["email"])));
    browser.headers.insert("authorization".into(), format!("Bearer {token}x"));
    assert_eq!(browser.ask("GET", SHOP, b"").await.status, 401, "a token that the provider never gave");

    browser.headers.insert("authorization".into(), format!("Bearer {token}"));
    let form = format!("token={token}&client_id=job&client_secret=job-secret");
    let page = browser.post_outside(&format!("{}/token/revocation", provider.issuer), form).await;
    assert_eq!(page.status, 200, "{page:?}");
    let begun = Instant::now();
    while browser.ask("GET", SHOP, b"").await.status == 200 {
        assert!(begun.elapsed() < PATIENCE, "a revoked token lives on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(browser.ask("GET", SHOP, b"").await.status, 401);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

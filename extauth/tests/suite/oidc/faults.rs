//! Providers and stores that are down, slow or wrong: what is still valid goes on, nothing is let in by accident, and nobody
//! is sent in circles.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use proto::extauth::Method;
use serde_json::json;

use super::forger::{Forger, Started};
use super::{Browser, Gate, PATIENCE, SHARED, SHOP, client, known_as, oidc, policy, refusal};
use crate::support::{api_keys, key};
use logins::Provider;
use proto::extauth::{Allow, Backends, ClientAuth, ForwardIdToken, Oidc, OidcProvider, Secret, SessionCookie};

#[tokio::test]
async fn i6_a_provider_that_is_down_denies_its_own_logins_only() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut guarded = policy(oidc(&issuer));
    guarded.methods.push(Method::ApiKey(api_keys(vec![key("a-key", "acme")])));
    let gate = Gate::open(guarded);
    let mut browser = Browser::new(&gate, "ada").await;
    let page = browser.open(SHOP).await;
    assert_eq!((page.status, page.header("retry-after")), (503, Some("5")), "{page:?}");
    assert_eq!(browser.visited.len(), 1, "no redirect at all");
    browser.headers.insert("x-api-key".into(), "a-key".into());
    assert_eq!(browser.open(SHOP).await.status, 200, "other methods do not need it");
}

#[tokio::test]
async fn i4_i6_a_provider_that_talks_nonsense_is_asked_again_and_the_last_good_is_kept() {
    let forger = Forger::start().await;
    let nonsense = [
        (500, String::new()),
        (200, "<html>".to_owned()),
        (200, "{}".to_owned()),
        (200, " ".repeat(2 << 20)),
        (200, json!({"issuer": "https://evil.example.com"}).to_string()),
        (302, String::new()),
    ];
    for answer in nonsense {
        forger.discovery(Some(answer.clone()));
        let gate = forger.gate();
        let mut browser = Browser::new(&gate, "ada").await;
        assert_eq!(browser.go(SHOP).await.status, 503, "{} {}", answer.0, &answer.1[..answer.1.len().min(40)]);
    }
    forger.discovery(None);
    forger.jwks(Some((200, json!({"keys": []}).to_string())));
    let gate = forger.gate();
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.go(SHOP).await.status, 503, "nobody could be believed");

    forger.jwks(None);
    let begun = Instant::now();
    while browser.go(SHOP).await.status != 302 {
        assert!(begun.elapsed() < PATIENCE, "the provider is back, and nobody notices");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    forger.discovery(Some((500, String::new())));
    for _ in 0..3 {
        let page = forger.login(&mut browser, |nonce| Forger::tokens(&forger.sign(&forger.claims(nonce)))).await;
        assert_eq!(page.status, 302, "what it said before still holds");
        browser.cookies.clear();
    }
}

#[tokio::test]
async fn i2_many_who_come_first_ask_a_provider_once() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut browsers = Vec::new();
    for _ in 0..20 {
        browsers.push(Browser::new(&gate, "ada").await);
    }
    let pages = futures::future::join_all(browsers.iter_mut().map(|browser| browser.go(SHOP))).await;
    assert!(pages.iter().all(|page| page.status == 302));
    assert_eq!((forger.asked("discovery"), forger.asked("jwks")), (1, 1));
}

#[tokio::test]
async fn a_provider_is_reached_where_its_address_says() {
    let public = "https://login.example.com";
    let mut forger = Forger::with(json!({
        "issuer": public,
        "authorization_endpoint": format!("{public}/authorize"),
        "token_endpoint": format!("{public}/token"),
        "jwks_uri": format!("{public}/jwks"),
    }))
    .await;
    let address = forger.issuer.strip_prefix("http://").unwrap().to_owned();
    forger.issuer = public.to_owned();
    // One who is gone makes no difference, whose turn it is.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let backends = Some(Backends { addresses: vec![gone, address], plaintext: true, ..Backends::default() });
    let known = OidcProvider { backends, ..known_as(public) };
    let gate = Gate::open(policy(Oidc { providers: vec![known], ..oidc(public) }));
    let mut browser = Browser::new(&gate, "ada").await;
    let page = browser.go(SHOP).await;
    assert!(page.location().as_str().starts_with("https://login.example.com/authorize?"), "{page:?}");
    let page = forger.login(&mut browser, |nonce| Forger::tokens(&forger.sign(&forger.claims(nonce)))).await;
    assert_eq!(page.status, 302, "{page:?}");
    let backends =
        Some(Backends { addresses: vec!["login.example.com".into()], plaintext: true, ..Backends::default() });
    let nowhere = OidcProvider { backends, ..known_as(public) };
    assert!(refusal(Oidc { providers: vec![nowhere], ..oidc(public) }).contains("providers[0].backends.addresses"));
}

#[tokio::test]
async fn endpoints_without_tls_are_only_believed_on_this_machine() {
    for (name, more) in [
        ("authorization", json!({"authorization_endpoint": "http://login.example.com/a"})),
        ("token", json!({"token_endpoint": "http://169.254.169.254/latest"})),
        ("keys", json!({"jwks_uri": "http://keys.example.com/"})),
        ("end of session", json!({"end_session_endpoint": "http://user@127.0.0.1/"})),
    ] {
        let forger = Forger::with(more).await;
        let gate = forger.gate();
        let mut browser = Browser::new(&gate, "ada").await;
        assert_eq!(browser.go(SHOP).await.status, 503, "{name}");
        assert_eq!(forger.asked("token"), 0);
    }
}

#[tokio::test]
async fn a_session_that_is_lost_at_once_starts_no_loop() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut browser = Browser::new(&gate, "ada").await;
    let page = forger.login(&mut browser, |nonce| Forger::tokens(&forger.sign(&forger.claims(nonce)))).await;
    assert_eq!(page.status, 302);
    let id = browser.session().unwrap().value.clone();
    gate.resources.sessions.end(&extauth::session::Id::parse(&id).unwrap()).await.unwrap();
    let page = browser.go(SHOP).await;
    assert_eq!((page.status, page.header("retry-after")), (503, Some("5")), "{page:?}");
    // Whoever comes later, or forgets the session's cookie, logs in again.
    browser.cookies.retain(|cookie| cookie.name.ends_with("-login"));
    assert_eq!(Started::by(&mut browser, SHOP).await.nonce.len(), 43);
}

#[tokio::test]
async fn o17_nothing_secret_is_in_any_debug_form() {
    let gate = Gate::open(policy(oidc(&SHARED.issuer)));
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(browser.open(SHOP).await.status, 200);
    let debug = format!("{:?} {:?}", gate.authorizer, gate.resources);
    let session = &browser.session().unwrap().value;
    assert!(debug.contains("Oidc") && !debug.contains("shop's secret") && !debug.contains(session.as_str()), "{debug}");
}

#[tokio::test]
async fn clients_prove_who_they_are_by_secret_in_the_body_or_by_key() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let point = key.public_key_raw();
    let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig",
        "x": crate::support::encode(&point[1..33]), "y": crate::support::encode(&point[33..])});
    let clients = json!({"clients": [
        client(&json!({"client_id": "post", "token_endpoint_auth_method": "client_secret_post"})),
        client(&json!({"client_id": "key", "client_secret": null, "token_endpoint_auth_method": "private_key_jwt",
            "jwks": {"keys": [jwk]}})),
        client(&json!({"client_id": "public", "client_secret": null, "token_endpoint_auth_method": "none"})),
    ]});
    let provider = Provider::start(&clients);
    let usual = known_as(&provider.issuer);
    let by_key = OidcProvider {
        client_id: "key".into(),
        client_secret: None,
        client_auth: ClientAuth::PrivateKeyJwt,
        client_key: Some(Secret::new(key.serialize_pem())),
        client_key_id: Some("k1".into()),
        client_key_algorithm: Some("ES256".into()),
        ..usual.clone()
    };
    let none = OidcProvider {
        client_secret: None,
        client_auth: ClientAuth::None,
        client_id: "public".into(),
        ..usual.clone()
    };
    let post = OidcProvider { client_id: "post".into(), client_auth: ClientAuth::SecretPost, ..usual.clone() };
    for known in [post, by_key, none] {
        let gate = Gate::open(policy(Oidc { providers: vec![known.clone()], ..oidc(&provider.issuer) }));
        let page = Browser::new(&gate, "ada").await.open(SHOP).await;
        assert_eq!(page.status, 200, "{}: {page:?}", known.client_id);
    }
    let wrong = OidcProvider {
        client_secret: Some(Secret::new("wrong")),
        client_id: "post".into(),
        client_auth: ClientAuth::SecretPost,
        ..usual
    };
    let gate = Gate::open(policy(Oidc { providers: vec![wrong], ..oidc(&provider.issuer) }));
    assert_eq!(Browser::new(&gate, "ada").await.open(SHOP).await.status, 403);
}

type Change = fn(&mut Oidc);

#[test]
fn a_configuration_without_effect_or_sense_is_refused() {
    let usual = || oidc("https://issuer.example.com");
    let with = |change: Change| {
        let mut oidc = usual();
        change(&mut oidc);
        refusal(oidc)
    };
    let cases: [(Change, &str); 22] = [
        (|oidc| oidc.providers.clear(), "providers: is empty"),
        (|oidc| oidc.providers[0].name = "labels".into(), "providers[0].name"),
        (|oidc| oidc.providers.push(oidc.providers[0].clone()), "providers[1].name"),
        (|oidc| oidc.providers[0].issuer = "http://issuer.example.com".into(), "providers[0].issuer: is not https"),
        (|oidc| oidc.providers[0].issuer = "issuer".into(), "providers[0].issuer: is no URL"),
        (|oidc| oidc.providers[0].issuer = "https://issuer.example.com/?x".into(), "providers[0].issuer"),
        (|oidc| oidc.providers[0].token_endpoint = Some("http://10.0.0.1/".into()), "providers[0].tokenEndpoint"),
        (|oidc| oidc.providers[0].client_id.clear(), "providers[0].clientID"),
        (|oidc| oidc.providers[0].client_secret = None, "providers[0].clientSecret: is missing"),
        (|oidc| oidc.providers[0].client_auth = ClientAuth::None, "providers[0].clientSecret: is not used"),
        (|oidc| oidc.providers[0].client_key = Some(Secret::new("x")), "providers[0].clientKey: is not used"),
        (
            |oidc| _ = oidc.providers[0].authorization_params.insert("state".into(), "x".into()),
            "authorizationParams.state",
        ),
        (|oidc| oidc.redirect_url = Some("https://shop.example.com/".into()), "redirectURL"),
        (|oidc| oidc.hosts = vec!["a.example.com".into()], "hosts: has no effect"),
        (|oidc| oidc.logout_path = "logout".into(), "logoutPath"),
        (|oidc| oidc.logout_path = "/oauth2/callback".into(), "logoutPath: is the same"),
        (|oidc| oidc.post_logout_redirect_url = Some("//evil.com".into()), "postLogoutRedirectURL"),
        (
            |oidc| {
                oidc.cookie = SessionCookie {
                    name: Some("__Host-s".into()),
                    domain: Some("example.com".into()),
                    ..SessionCookie::default()
                }
            },
            "cookie.name",
        ),
        (|oidc| oidc.cookie.domain = Some("*.example.com".into()), "cookie.domain"),
        (
            |oidc| {
                oidc.forward_access_token = true;
                oidc.forward_id_token = Some(ForwardIdToken { header: "Authorization".into() });
            },
            "forwardIDToken.header",
        ),
        (|oidc| oidc.forward_id_token = Some(ForwardIdToken { header: "Host".into() }), "forwardIDToken.header"),
        (|oidc| oidc.allow = Allow { groups: Some(vec![String::new()]), ..Allow::default() }, "allow.groups"),
    ];
    for (change, expected) in cases {
        let said = with(change);
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!said.contains("shop's secret"), "{said}");
    }
}

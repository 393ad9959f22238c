//! Which answers of a provider are believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::forger::{Forger, Started, now};
use super::{Browser, SHOP};
use crate::support::{Issuer, encode};

fn with(mut claims: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

#[tokio::test]
async fn o2_an_id_token_is_believed_when_everything_in_it_is_right() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let mut browser = Browser::new(&gate, "ada").await;
    let page = forger.login(&mut browser, |nonce| Forger::tokens(&forger.sign(&forger.claims(nonce)))).await;
    assert_eq!(page.status, 302, "{page:?}");
    assert_eq!(browser.open(SHOP).await.upstream.unwrap().set["x-user"], "ada");

    let bad = [
        ("nonce of another flow", json!({"nonce": "another"})),
        ("no nonce", json!({"nonce": null})),
        ("other audience", json!({"aud": "bank"})),
        ("two audiences", json!({"aud": ["shop", "bank"]})),
        ("no audience", json!({"aud": null})),
        ("other issuer", json!({"iss": "https://evil.example.com"})),
        ("issuer with a slash", json!({"iss": format!("{}/", forger.issuer)})),
        ("no issuer", json!({"iss": null})),
        ("expired", json!({"exp": now() - 120})),
        ("no expiry", json!({"exp": null})),
        ("from the future", json!({"iat": now() + 600})),
        ("no subject", json!({"sub": null})),
        ("empty subject", json!({"sub": ""})),
        ("hash of another access token", json!({"at_hash": URL_SAFE_NO_PAD.encode([7; 16])})),
    ];
    for (what, more) in bad {
        let mut browser = Browser::new(&gate, "ada").await;
        let tokens = |nonce: &str| Forger::tokens(&forger.sign(&with(forger.claims(nonce), &more)));
        let page = forger.login(&mut browser, tokens).await;
        // What cannot even be read is the provider's fault.
        assert!(page.status == 403 || page.status == 503, "{what}: {page:?}");
        assert!(browser.session().is_none(), "{what}");
    }
    for (what, more) in
        [("a clock that is behind", json!({"exp": now() - 30})), ("one ahead", json!({"iat": now() + 30}))]
    {
        let mut browser = Browser::new(&gate, "ada").await;
        let tokens = |nonce: &str| Forger::tokens(&forger.sign(&with(forger.claims(nonce), &more)));
        assert_eq!(forger.login(&mut browser, tokens).await.status, 302, "{what} is forgiven");
    }
}

#[tokio::test]
async fn j1_j2_only_the_provider_s_own_keys_sign() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let stranger = Issuer::new("RS256");
    let forge = |kind: &str, nonce: &str| {
        let claims = forger.claims(nonce).to_string();
        match kind {
            "none" => format!("{}.{}.", encode(br#"{"alg":"none"}"#), encode(claims.as_bytes())),
            "stranger" => stranger.sign(&forger.key.header().to_string(), &claims),
            "hmac with our secret" => {
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"shop's secret");
                let text = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.as_bytes()));
                format!("{text}.{}", encode(aws_lc_rs::hmac::sign(&key, text.as_bytes()).as_ref()))
            }
            _ => {
                let mut token = forger.sign(&forger.claims(nonce));
                token.truncate(token.len() - 8);
                token + "AAAAAAAA"
            }
        }
    };
    for kind in ["none", "stranger", "hmac with our secret", "a broken signature"] {
        let mut browser = Browser::new(&gate, "ada").await;
        let page = forger.login(&mut browser, |nonce| Forger::tokens(&forge(kind, nonce))).await;
        // What cannot even be read is the provider's fault.
        assert!(page.status == 403 || page.status == 503, "{kind}: {page:?}");
        assert!(browser.session().is_none(), "{kind}");
    }
}

#[tokio::test]
async fn i7_a_token_endpoint_that_talks_nonsense_lets_nobody_in() {
    let forger = Forger::start().await;
    let gate = forger.gate();
    let huge = format!("{{\"access_token\":\"{}\"}}", "a".repeat(2 << 20));
    let no_id = json!({"access_token": "a", "token_type": "Bearer", "expires_in": 600}).to_string();
    let no_lifetime = json!({"access_token": "a", "token_type": "Bearer", "id_token": "x.y.z"}).to_string();
    for (status, body, expected) in [
        (500, String::new(), 503),
        (502, "<html>bad gateway</html>".to_owned(), 503),
        (200, "<html>maintenance</html>".to_owned(), 503),
        (200, "{}".to_owned(), 503),
        (200, "[]".to_owned(), 503),
        (200, huge, 503),
        (200, no_id, 403),
        (200, no_lifetime, 503),
        (400, json!({"error": "invalid_grant"}).to_string(), 403),
        (400, "nonsense".to_owned(), 503),
    ] {
        let mut browser = Browser::new(&gate, "ada").await;
        let started = Started::by(&mut browser, SHOP).await;
        forger.token(status, &body);
        let page = browser.go(&started.callback("code=a-code")).await;
        let body: String = body.chars().take(60).collect();
        assert_eq!(page.status, expected, "{status} {body}: {page:?}");
        assert!(
            browser.session().is_none() && !page.body.contains("invalid_grant") && !page.body.contains("bad gateway")
        );
    }
}

#[tokio::test]
async fn a_rotated_key_is_fetched_once_it_is_needed() {
    let mut forger = Forger::start().await;
    let gate = forger.gate();
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(
        forger.login(&mut browser, |nonce| Forger::tokens(&forger.sign(&forger.claims(nonce)))).await.status,
        302
    );
    // The first question was just asked: the next one has to wait for its turn, however many ask.
    forger.key = Issuer::new("RS256");
    forger.key.kid = Some("key-2");
    forger.jwks(Some((200, forger.key.jwks())));
    for _ in 0..5 {
        let mut browser = Browser::new(&gate, "ada").await;
        let tokens = |nonce: &str| Forger::tokens(&forger.sign(&forger.claims(nonce)));
        assert_eq!(forger.login(&mut browser, tokens).await.status, 403);
    }
    assert_eq!(forger.asked("jwks"), 1, "a key that nobody knows makes no storm");
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let mut browser = Browser::new(&gate, "ada").await;
    assert_eq!(
        forger.login(&mut browser, |nonce| Forger::tokens(&forger.sign(&forger.claims(nonce)))).await.status,
        302
    );
    assert_eq!(forger.asked("jwks"), 2);
}

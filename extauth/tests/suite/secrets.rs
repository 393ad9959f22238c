//! A whole day of a program with every kind of credential: nothing that reaches an operator's eyes has any of them.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use proto::extauth::{ApiKey, Basic, Introspection, Kubernetes, Method, Oidc, Policy, Secret};
use serde_json::json;

use crate::oidc::forger::{Forger, Started};
use crate::oidc::{Browser, Page, SHOP, known_as, oidc};
use crate::redis::Single;
use crate::running::{PATIENCE, Running, ask};
use crate::support::{Issuer, api_keys, header, key, request, talk};
use crate::web::{Reply, Web};

// Letters and digits only, so that no encoding changes them.
const PASSWORD: &str = "hunter2ofada";
const REDIS: &str = "redispasswordofours";
const PEPPER: &str = "pepperofmorethansixteenbytes";
const OWN: &str = "tokenofourownaccount";
const FILE_KEY: &str = "keyinafileofacme";

fn policies(forger: &Forger, issuer: &Issuer, web: &Web) -> Vec<Policy> {
    let named = |name: &str, methods| Policy { name: name.into(), methods, ..Policy::default() };
    let sha = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, PASSWORD.as_bytes());
    let users = format!("ada:{{SHA}}{}", STANDARD.encode(sha.as_ref()));
    let opaque = Introspection {
        name: "opaque".into(),
        endpoint: web.url("/introspect"),
        client_id: "tollgate".into(),
        client_secret: Some(Secret::new("secretforintrospection")),
        from: vec![header("x-token", "")],
        ..Introspection::default()
    };
    let pods = Kubernetes { name: "cluster".into(), audiences: vec!["api".into()], ..Kubernetes::default() };
    let mut own = known_as(&forger.issuer);
    own.client_secret = Some(Secret::new("secretoftheshop"));
    let login = Oidc { providers: vec![own], forward_access_token: true, ..oidc(&forger.issuer) };
    let stored = ApiKey { key_set: Some("shop".into()), ..api_keys(Vec::new()) };
    vec![
        named(
            "guard",
            vec![
                Method::ApiKey(api_keys(vec![key(FILE_KEY, "acme")])),
                Method::Introspection(opaque),
                Method::Oidc(Box::new(login)),
            ],
        ),
        named("stored", vec![Method::ApiKey(stored)]),
        named("tokens", vec![Method::Jwt(issuer.provider())]),
        named("users", vec![Method::Basic(Basic { htpasswd: Some(Secret::new(users)), ..Basic::default() })]),
        named("pods", vec![Method::Kubernetes(pods)]),
    ]
}

/// Introspection and the reviews of tokens, which both repeat in errors what they were asked.
fn authority() -> Web {
    let review = json!({"status": {"authenticated": true, "audiences": ["api"], "user": {"username": "system:serviceaccount:shop:web"}}});
    Web::new(move |asked| match asked.body.as_str() {
        body if body.contains("wrong") => Reply::Body(StatusCode::BAD_REQUEST, body.to_owned()),
        body if body.contains("token_type_hint") => Reply::ok(r#"{"active": true, "sub": "ada"}"#),
        _ => Reply::Body(StatusCode::CREATED, review.to_string()),
    })
}

fn asked(policy: &str, name: &str, value: &str) -> CheckRequest {
    let mut asked = request(&[(name, value)]);
    asked.attributes.as_mut().unwrap().context_extensions.insert("policy".into(), policy.into());
    asked
}

/// A key that the program mints.
fn mint(running: &Running, url: &str) -> String {
    let added = Command::new(env!("CARGO_BIN_EXE_extauth"))
        .args(["keys", "--set", "shop", "--redis-url", url, "add", "--client", "zeta"])
        .env("EXTAUTH_KEY_PEPPER_FILE", running.path("pepper"))
        .env("EXTAUTH_REDIS_AUTH_FILE", running.path("redis"))
        .output()
        .unwrap();
    let minted = String::from_utf8(added.stdout).unwrap().trim().to_owned();
    assert!(added.status.success() && minted.len() > 20, "{}", String::from_utf8_lossy(&added.stderr));
    minted
}

/// Policy, header, credential and what becomes of it: what is good, and the same gone wrong.
type Credential = (&'static str, &'static str, String, u16);

fn credentials(issuer: &Issuer, minted: &str) -> Vec<Credential> {
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("ada:{password}")));
    let claims = json!({"exp": crate::oidc::forger::now() + 600});
    vec![
        ("guard", "x-api-key", FILE_KEY.to_owned(), 200),
        ("guard", "x-api-key", "wrongkeyofnobody".to_owned(), 401),
        ("stored", "x-api-key", minted.to_owned(), 200),
        ("stored", "x-api-key", format!("{}wrong", &minted[..minted.len() - 5]), 401),
        ("tokens", "authorization", format!("Bearer {}", issuer.token(claims.clone())), 200),
        ("tokens", "authorization", format!("Bearer {}", Issuer::new("ES256").token(claims)), 401),
        ("users", "authorization", basic(PASSWORD), 200),
        ("users", "authorization", basic("wrongpasswordofada"), 401),
        ("guard", "x-token", "opaquetokenofada".to_owned(), 200),
        ("guard", "x-token", "opaquewrongtoken".to_owned(), 503),
        ("pods", "authorization", "Bearer tokenofapod".to_owned(), 200),
        ("pods", "authorization", "Bearer wrongtokenofapod".to_owned(), 503),
    ]
}

/// Uses a credential and has it explained; yields all that was said.
async fn show(running: &Running, (policy, name, value, expected): &Credential) -> String {
    let mut client = running.client().await;
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        let answer = ask(&mut client, asked(policy, name, value)).await;
        // A key that was just added is heard of in a moment.
        if answer.status == *expected || *policy != "stored" || Instant::now() > deadline {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(answer.status, *expected, "{policy} {name}");
    let question = json!({"policy": policy, "headers": [format!("{name}: {value}")]}).to_string();
    let head = format!(
        "POST /explain HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{question}",
        question.len()
    );
    let explained = talk(UnixStream::connect(running.path("debug.sock")).unwrap(), &head).unwrap();
    assert_eq!(explained.status, 200, "{}", explained.body);
    format!("{:?} {} {}", answer.headers, answer.body, explained.body)
}

/// A login, a request, a refresh, one that fails and repeats what it was asked, and a login that fails; yields its secrets.
async fn log_in(running: &Running, forger: &Forger) -> Vec<(String, String)> {
    let mut browser = Browser::at(running.client().await, "ada");
    let started = Started::by(&mut browser, SHOP).await;
    let id_token = forger.sign(&forger.claims(&started.nonce));
    let tokens = |access: &str, refresh: &str| json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 1, "id_token": id_token});
    forger.token(200, &tokens("accesstokenone", "refreshtokenone"));
    let cookies = browser.cookies.clone();
    assert_eq!(browser.go(&started.callback("code=codeofthelogin")).await.status, 302);
    forger.token(200, &tokens("accesstokentwo", "refreshtokentwo"));
    let renewed = |page: &Page| {
        let upstream = page.upstream.as_ref().expect("a session");
        upstream.set["authorization"] == "Bearer accesstokentwo"
    };
    come_to(&mut browser, renewed).await;
    let session = browser.session().unwrap().value.clone();
    forger.token(400, &json!({"error": "invalid_grant", "error_description": "refreshtokentwo is used up"}));
    // A new login.
    come_to(&mut browser, |page| page.status == 302).await;
    forger.token(400, &json!({"error": "invalid_grant", "error_description": "what of codeofanotherlogin"}));
    let again = Started::by(&mut browser, SHOP).await;
    assert_ne!(browser.go(&again.callback("code=codeofanotherlogin")).await.status, 302);
    let named = [
        ("session", session.as_str()),
        ("state", &started.state),
        ("nonce", &started.nonce),
        ("code", "codeofthelogin"),
        ("another code", "codeofanotherlogin"),
        ("access", "accesstoken"),
        ("refresh", "refreshtoken"),
        ("ID token", id_token.rsplit('.').next().unwrap()),
    ]
    .map(|(name, secret)| (name.to_owned(), secret.to_owned()));
    named.into_iter().chain(cookies.into_iter().map(|cookie| (cookie.name, cookie.value))).collect()
}

/// What everything in Redis looks like there.
fn dump(redis: &Single) -> String {
    assert!(redis.node.cli(&["-a", REDIS, "SAVE"]).contains("OK"));
    let file = redis.dir().join(redis.node.port.to_string()).join("dump.rdb");
    let text = fs::read(file).unwrap().escape_ascii().to_string();
    assert!(text.contains("zeta"), "the store is empty: {text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn c23_s3_o17_no_secret_is_in_the_log_the_metrics_an_explanation_or_the_store() {
    let redis = Single::with(&["--requirepass", REDIS, "--rdbcompression", "no"]);
    let url = format!("redis://{}", redis.node.address());
    let (forger, issuer, web) = (Forger::start().await, Issuer::new("ES256"), authority());
    let running = Running::with(policies(&forger, &issuer, &web), |dir, command| {
        for (name, text) in [("redis", REDIS), ("pepper", PEPPER), ("own", OWN)] {
            fs::write(dir.join(name), text).unwrap();
        }
        command
            .env("EXTAUTH_REDIS_URL", &url)
            .env("EXTAUTH_REDIS_AUTH_FILE", dir.join("redis"))
            .env("EXTAUTH_KEY_PEPPER_FILE", dir.join("pepper"))
            .env("EXTAUTH_KUBERNETES_API", web.url(""))
            .env("EXTAUTH_KUBERNETES_TOKEN_FILE", dir.join("own"))
            .env("EXTAUTH_LOG_LEVEL", "trace");
    });
    let credentials = credentials(&issuer, &mint(&running, &url));
    let mut shown = String::new();
    for credential in &credentials {
        shown += &show(&running, credential).await;
    }
    let mut secrets = log_in(&running, &forger).await;
    let own = [
        ("password", PASSWORD),
        ("wrong password", "wrongpasswordofada"),
        ("Redis", REDIS),
        ("pepper", PEPPER),
        ("account", OWN),
        ("introspection", "secretforintrospection"),
        ("provider", "secretoftheshop"),
        ("encoded introspection", &STANDARD.encode("tollgate:secretforintrospection")),
        ("encoded provider", &STANDARD.encode("shop:secretoftheshop")),
    ];
    secrets.extend(own.map(|(name, secret)| (name.to_owned(), secret.to_owned())));
    // Of a token the signature, of a header what stands behind the scheme.
    let last = |value: &str| value.rsplit([' ', '.']).next().unwrap_or_default().to_owned();
    secrets.extend(credentials.iter().map(|(policy, name, value, _)| (format!("{policy} {name}"), last(value))));
    assert!(secrets.iter().all(|(_, secret)| secret.len() > 10), "{secrets:?}");

    let log = running.log_with("decision");
    assert!(log.contains("TRACE") && log.lines().count() > 50, "{log}");
    for (place, text) in [("log", log), ("metrics", running.metrics()), ("answers", shown), ("store", dump(&redis))] {
        for (name, secret) in &secrets {
            assert!(!text.contains(secret.as_str()), "{name} is in the {place}: {}", around(&text, secret));
        }
    }
}

/// Asks until the answer is the one.
async fn come_to(browser: &mut Browser, there: impl Fn(&Page) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !there(&browser.go(SHOP).await) {
        assert!(Instant::now() < deadline, "it never comes to that");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The line with it.
fn around<'a>(text: &'a str, secret: &str) -> &'a str {
    text.lines().find(|line| line.contains(secret)).map_or(text, |line| &line[..line.len().min(2000)])
}

//! Tokens that their issuer is asked about, by a server that follows RFC 7662 and by one that does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use proto::extauth::{Introspection, Method, RequiredClaim, Secret, SecretAuth};
use serde_json::{Value, json};

use crate::support::{Issuer, NOW, Service, bearer, request, resources, to_header};
use crate::web::{Asked, Reply, Web};

const NOT_NOW: &str = "the token cannot be verified now";
const INVALID: &str = "the token is not valid";

fn provider(web: &Web) -> Introspection {
    Introspection {
        name: "main".into(),
        endpoint: web.url("/introspect"),
        client_id: "tollgate".into(),
        client_secret: Some(Secret::new("s3:cret&=%")),
        ..Introspection::default()
    }
}

fn service(provider: Introspection) -> Service {
    Service::new(vec![Method::Introspection(provider)])
}

/// The token `good` is ada's, and no other is known.
fn server() -> Web {
    Web::new(|asked: &Asked| {
        let good = asked.body.starts_with("token=good&");
        let active = json!({
            "active": true, "sub": "ada", "scope": "read write", "client_id": "app", "iss": "https://idp.example.com",
            "aud": ["api", "other"], "exp": NOW + 3600, "groups": ["a", "b"],
        });
        Reply::ok(if good { active } else { json!({"active": false}) }.to_string())
    })
}

#[test]
fn an_opaque_token_becomes_claims_scopes_and_headers() {
    let web = server();
    let claims_to_headers = vec![to_header("sub", "x-sub"), to_header("groups", "x-groups")];
    let service = service(Introspection { claims_to_headers, remove: true, ..provider(&web) });
    let answer = service.ask(&bearer("good"));
    assert_eq!((answer.status, answer.set["x-sub"].as_str(), answer.set["x-groups"].as_str()), (200, "ada", "a,b"));
    assert_eq!(answer.metadata["method"], "introspection");
    assert_eq!(answer.metadata["scopes"], json!(["read", "write"]));
    assert_eq!(answer.metadata["main"]["client_id"], "app");
    assert!(answer.removes("authorization"));
    let asked = &web.asked()[0];
    // RFC 6749, section 2.3.1: both are form-encoded before they are joined.
    assert_eq!(asked.authorization.as_deref(), Some("Basic dG9sbGdhdGU6czMlM0FjcmV0JTI2JTNEJTI1"));
    assert_eq!(asked.body, "token=good&token_type_hint=access_token");
    let missing = service.ask(&request(&[]));
    assert_eq!((missing.status, missing.body.as_str()), (401, "a token is missing"));
    assert_eq!(missing.challenge.as_deref(), Some("Bearer realm=\"http://shop.example.com/orders\""));
}

#[test]
fn the_secret_goes_into_the_form_where_asked_for() {
    let web = server();
    let service = service(Introspection { client_auth: SecretAuth::SecretPost, ..provider(&web) });
    assert_eq!(service.ask(&bearer("good")).status, 200);
    let asked = &web.asked()[0];
    assert_eq!(asked.authorization, None);
    let form = "token=good&token_type_hint=access_token&client_id=tollgate&client_secret=s3%3Acret%26%3D%25";
    assert_eq!(asked.body, form);
}

#[test]
fn what_was_said_is_remembered_and_no_longer_than_the_token_lives() {
    let web = server();
    let mut service = service(Introspection { cache_seconds: 7200, ..provider(&web) });
    let ask = |service: &Service, token: &str| service.ask(&bearer(token)).status;
    assert_eq!((ask(&service, "good"), ask(&service, "good")), (200, 200));
    assert_eq!((ask(&service, "bad"), ask(&service, "bad")), (401, 401));
    assert_eq!(web.asked().len(), 2, "one question for each token");
    service.now = NOW + 11;
    assert_eq!((ask(&service, "good"), ask(&service, "bad")), (200, 401));
    assert_eq!(web.asked().len(), 3, "a bad token may have become good");
    service.now = NOW + 3599;
    assert_eq!(ask(&service, "good"), 200);
    assert_eq!(web.asked().len(), 3);
    service.now = NOW + 3600;
    assert_eq!(ask(&service, "good"), 401, "it has expired, whatever the issuer says");
    assert_eq!(web.asked().len(), 4);
}

#[test]
fn a_policy_that_changes_forgets_and_one_that_does_not_remembers() {
    let web = server();
    let resources = resources();
    let compile = |provider: Introspection| Service::sharing(&resources, vec![Method::Introspection(provider)]);
    let first = compile(provider(&web));
    assert_eq!(first.ask(&bearer("good")).status, 200);
    let reloaded = compile(provider(&web));
    drop(first);
    assert_eq!((reloaded.ask(&bearer("good")).status, web.asked().len()), (200, 1));
    let audience = compile(Introspection { audiences: vec!["nobody".into()], ..provider(&web) });
    assert_eq!((audience.ask(&bearer("good")).status, web.asked().len()), (403, 2));
    let secret = compile(Introspection { client_secret: Some(Secret::new("new")), ..provider(&web) });
    assert_eq!((secret.ask(&bearer("good")).status, web.asked().len()), (200, 3));
}

#[test]
fn many_requests_ask_once() {
    let body = json!({"active": true}).to_string();
    let web = Web::replying(Reply::Slow(Duration::from_millis(300), body));
    let service = service(provider(&web));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(service.ask(&bearer("good")).status, 200));
        }
    });
    assert_eq!(web.asked().len(), 1);
}

#[test]
fn open_questions_are_bounded() {
    let web = Web::replying(Reply::Slow(Duration::from_millis(500), json!({"active": true}).to_string()));
    let service = service(Introspection { max_concurrent: 2, ..provider(&web) });
    let refused = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..8 {
            let (service, refused) = (&service, Arc::clone(&refused));
            scope.spawn(move || {
                let answer = service.ask(&bearer(&format!("token-{number}")));
                if answer.status == 503 {
                    assert_eq!(answer.body, NOT_NOW);
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(refused.load(Ordering::SeqCst) >= 1 && web.asked().len() < 8);
    // What was refused may ask again later.
    assert_eq!(service.ask(&bearer("token-later")).status, 200);
}

/// #652 of Authorino, and rows I4 and I7: whatever comes is an error and a denial, and nothing of it reaches the client.
#[test]
fn a17_answers_that_are_none_deny() {
    let secret = "internal-secret";
    let huge = format!("{{\"active\":true,\"a\":\"{}\"}}", "x".repeat(1 << 20));
    let status = |status, body: &str| Reply::Body(status, body.to_owned());
    let active = json!({"active": true, "sub": secret}).to_string();
    let elsewhere = Web::replying(Reply::ok(active.clone()));
    let replies = [
        Reply::error(),
        status(StatusCode::UNAUTHORIZED, &active),
        status(StatusCode::CREATED, &active),
        status(StatusCode::NO_CONTENT, ""),
        Reply::ok(format!("<html>{secret}</html>")),
        Reply::ok(""),
        Reply::ok("{}"),
        Reply::ok("[]"),
        Reply::ok("true"),
        Reply::ok("{\"active\":\"true\"}"),
        Reply::ok("{\"active\":1}"),
        Reply::ok("{\"active\":null}"),
        Reply::ok("{\"active\":[true]}"),
        Reply::ok("{\"active\":false,\"active\":true}"),
        Reply::ok("{\"active\":true,\"exp\":\"never\"}"),
        Reply::ok("{\"active\":true} {}"),
        Reply::ok(format!("{{\"active\":true,\"deep\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000))),
        Reply::ok(huge),
        Reply::Redirect(elsewhere.url("/introspect")),
    ];
    for reply in replies {
        let web = Web::replying(reply.clone());
        let answer = service(provider(&web)).ask(&bearer("good"));
        let told = (answer.status, answer.body.as_str(), answer.challenge);
        assert_eq!(told, (503, NOT_NOW, None), "{:.100}", format!("{reply:?}"));
    }
    assert_eq!(elsewhere.asked().len(), 0, "no redirect gets a token");
}

#[test]
fn an_error_is_not_remembered() {
    let web = Web::replying(Reply::error());
    let service = service(provider(&web));
    assert_eq!(service.ask(&bearer("good")).status, 503);
    web.reply(Reply::ok("{\"active\":true}"));
    assert_eq!(service.ask(&bearer("good")).status, 200);
}

#[test]
fn a16_an_issuer_that_is_down_or_never_answers_denies_and_takes_no_known_token_along() {
    let web = server();
    let service = service(provider(&web));
    assert_eq!(service.ask(&bearer("good")).status, 200);
    web.reply(Reply::Hang);
    let started = Instant::now();
    assert_eq!(service.ask(&bearer("other")).status, 503);
    assert!(started.elapsed() >= Duration::from_secs(5), "the bound of a request");
    assert_eq!(service.ask(&bearer("good")).status, 200);
    drop(web);
    assert_eq!(service.ask(&bearer("another")).status, 503);
    assert_eq!(service.ask(&bearer("good")).status, 200);
}

#[test]
fn a16_who_never_answers_is_left_alone_and_asked_again_by_one() {
    let web = server();
    let service = service(provider(&web));
    let ask = |token: &str| service.ask(&bearer(token)).status;
    assert_eq!((ask("good"), ask("unknown")), (200, 401));
    web.reply(Reply::error());
    for number in 0..5 {
        assert_eq!(ask(&format!("token-{number}")), 503);
    }
    let asked = web.asked().len();
    let started = Instant::now();
    for number in 0..50 {
        assert_eq!(ask(&format!("later-{number}")), 503);
    }
    assert_eq!(web.asked().len(), asked, "nobody is asked, nor waits: {:?}", started.elapsed());
    assert_eq!((ask("good"), ask("unknown")), (200, 401), "what was said stays true until its end");

    // Whoever comes first after the respite asks, and the others wait for what comes of it.
    thread::sleep(Duration::from_millis(5100));
    let probes: usize = (0..10).filter(|number| ask(&format!("probe-{number}")) == 503).count();
    assert_eq!((probes, web.asked().len()), (10, asked + 1));
    web.reply(Reply::ok("{\"active\":true}"));
    thread::sleep(Duration::from_millis(5100));
    for number in 0..10 {
        assert_eq!(ask(&format!("back-{number}")), 200);
    }
}

#[test]
fn an_active_token_may_still_be_none_for_this_place() {
    let status = |answer: Value, change: &dyn Fn(Introspection) -> Introspection| {
        let web = Web::replying(Reply::ok(answer.to_string()));
        service(change(provider(&web))).ask(&bearer("good")).status
    };
    let ours =
        |provider| Introspection { issuer: Some("https://idp".into()), audiences: vec!["api".into()], ..provider };
    assert_eq!(status(json!({"active": true}), &ours), 200, "both may be left out");
    assert_eq!(status(json!({"active": true, "iss": "https://idp", "aud": ["x", "api"]}), &ours), 200);
    for (name, wrong) in [
        ("iss", json!("https://evil")),
        ("iss", json!(["https://idp"])),
        ("aud", json!("apis")),
        ("aud", json!([])),
        ("aud", json!({"api": 1})),
    ] {
        assert_eq!(status(json!({"active": true, name: wrong}), &ours), 403, "{name} {wrong}");
    }
    let strict = |provider| {
        let required = RequiredClaim { claim: "aud".into(), values: Vec::new() };
        Introspection { required_claims: vec![required], ..provider }
    };
    assert_eq!(status(json!({"active": true}), &strict), 403);
    assert_eq!(status(json!({"active": true, "exp": NOW}), &|provider| provider), 401);
    let bound = json!({"active": true, "cnf": {"jkt": "x"}});
    assert_eq!(status(bound, &|provider| provider), 403, "a bound token is none that anybody may carry");
    assert_eq!(status(json!({"active": true, "token_type": "DPoP"}), &|provider| provider), 403);
    let header = |provider| Introspection { claims_to_headers: vec![to_header("sub", "x-sub")], ..provider };
    assert_eq!(status(json!({"active": true, "sub": "a\r\nx-admin: 1"}), &header), 403);
}

#[test]
fn c24_tokens_are_read_strictly_and_never_injected() {
    let web = server();
    let service = service(provider(&web));
    for bad in ["", "good good", "good,good", "good\t", "gööd"] {
        let answer = service.ask(&bearer(bad));
        assert_eq!(answer.status, 401, "{bad}");
    }
    assert_eq!(web.asked().len(), 0);
    assert_eq!(service.ask(&bearer("good&token=x&")).body, INVALID);
    assert_eq!(web.asked()[0].body, "token=good%26token%3Dx%26&token_type_hint=access_token");
    assert_eq!(service.ask(&bearer(&"x".repeat(9000))).status, 401);
    assert_eq!(web.asked().len(), 1);
}

#[test]
fn signed_and_opaque_tokens_share_a_place() {
    let web = server();
    let issuer = Issuer::new("EdDSA");
    let opaque = Introspection { name: "opaque".into(), ..provider(&web) };
    let service = Service::optional(vec![Method::Jwt(issuer.provider()), Method::Introspection(opaque)]);
    assert_eq!(service.ask(&bearer("good")).metadata["opaque"]["sub"], "ada");
    assert_eq!(service.ask(&bearer(&issuer.token(json!({})))).metadata["main"]["sub"], "ada");
    assert_eq!(web.asked().len(), 1, "a signed token is nobody else's business");
    assert_eq!(service.ask(&bearer("bad")).status, 401);
    let forged = Issuer::new("EdDSA").token(json!({}));
    assert_eq!(service.ask(&bearer(&forged)).body, "Jwt verification fails");
}

#[test]
fn a_provider_that_cannot_ask_is_refused() {
    let web = server();
    let good = || provider(&web);
    let cases = [
        (Introspection { endpoint: "file:///etc/passwd".into(), ..good() }, "endpoint: is no https or http URI"),
        (Introspection { client_secret: None, ..good() }, "clientSecret: is missing"),
        (Introspection { client_secret: Some(Secret::new("")), ..good() }, "clientSecret: is missing"),
        (Introspection { client_id: String::new(), ..good() }, "clientId: is empty"),
        (Introspection { name: "client".into(), ..good() }, "name: must be set"),
        (Introspection { max_concurrent: 0, ..good() }, "maxConcurrent: must be at least 1"),
    ];
    for (provider, expected) in cases {
        let error = crate::support::refused(Method::Introspection(provider));
        assert!(error.contains("methods[0].introspection.") && error.contains(expected), "{error}");
    }
}

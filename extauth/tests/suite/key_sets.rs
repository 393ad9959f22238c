//! Key sets that issuers publish, while they are well and while they are not.

use std::thread;
use std::time::{Duration, Instant};

use extauth::resources::Resources;
use proto::extauth::{Backends, Jwt, Method};
use serde_json::json;

use crate::support::{ISSUER, Issuer, NOW, Service, bearer, claims, encode, refused, resources, to_header};
use crate::web::{Reply, Web};

const NO_KEY: &str = "Jwks doesn't have key to match kid or alg from Jwt";
const FAILED: &str = "Jwks remote fetch is failed";

fn remote(issuer: &Issuer, web: &Web) -> Jwt {
    Jwt { jwks: None, jwks_uri: Some(web.url("/keys")), ..issuer.provider() }
}

fn service(resources: &Resources, provider: Jwt) -> Service {
    Service::sharing(resources, vec![Method::Jwt(provider)])
}

fn named(kid: &'static str) -> Issuer {
    Issuer::new("EdDSA").named(kid)
}

/// Asks until the answer is what it should become.
fn becomes(service: &Service, token: &str, status: u16) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = service.ask(&bearer(token));
        if answer.status == status {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_first_request_waits_for_the_keys() {
    let issuer = Issuer::new("EdDSA");
    let web = Web::replying(Reply::Slow(Duration::from_millis(300), issuer.jwks()));
    let service = service(&resources(), remote(&issuer, &web));
    assert_eq!(service.ask(&bearer(&issuer.token(json!({})))).status, 200);
    assert_eq!(web.asked().len(), 1);
}

#[test]
fn keys_are_fetched_from_backends() {
    let issuer = Issuer::new("EdDSA");
    let web = Web::replying(Reply::ok(issuer.jwks()));
    let there = web.address.to_string();
    let provider = |addresses: &[&str]| Jwt {
        jwks: None,
        jwks_uri: Some("https://issuer.example.com/keys".into()),
        backends: Some(Backends {
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            plaintext: true,
            ..Backends::default()
        }),
        ..issuer.provider()
    };
    let resources = resources();
    let token = issuer.token(json!({}));
    becomes(&service(&resources, provider(&["127.0.0.1:1", &there])), &token, 200);
    assert_eq!(web.asked()[0].path, "/keys");
    // Nobody answers: the same key set elsewhere is another one.
    assert_eq!(service(&resources, provider(&[])).ask(&bearer(&token)).status, 503);
    assert!(refused(Method::Jwt(provider(&["issuer.example.com"]))).contains("addresses"));
}

#[test]
fn i1_without_keys_only_this_provider_denies_and_it_comes_back() {
    let (down, up) = (named("down"), named("up"));
    let web = Web::replying(Reply::error());
    let resources = resources();
    let other = Jwt { name: "other".into(), issuer: "https://two.example.com".into(), ..up.provider() };
    let methods = vec![Method::Jwt(remote(&down, &web)), Method::Jwt(other)];
    let service = Service::sharing(&resources, methods);
    let token = down.token(json!({}));
    let denied = service.ask(&bearer(&token));
    assert_eq!((denied.status, denied.body.as_str(), denied.challenge), (503, FAILED, None));
    assert_eq!(service.ask(&bearer(&up.token(json!({"iss": "https://two.example.com"})))).status, 200);
    web.reply(Reply::ok(down.jwks()));
    becomes(&service, &token, 200);
}

#[test]
fn i1_i4_the_last_good_keys_stay_whatever_the_issuer_answers_later() {
    let issuer = Issuer::new("EdDSA");
    let keys = |count| vec![issuer.jwk(); count];
    let elsewhere = Web::replying(Reply::ok(issuer.jwks()));
    let bad = [
        Reply::error(),
        Reply::ok("<html>"),
        Reply::ok("{}"),
        Reply::ok("{\"keys\":[]}"),
        Reply::ok(json!({"keys": keys(101)}).to_string()),
        Reply::ok(format!("{}{}", issuer.jwks(), " ".repeat(1 << 20))),
        Reply::ok("[".repeat(100_000)),
        Reply::Redirect(elsewhere.url("/keys")),
        Reply::Hang,
    ];
    for reply in bad {
        let web = Web::replying(Reply::ok(issuer.jwks()));
        let provider = Jwt { cache_duration_seconds: 1, ..remote(&issuer, &web) };
        let service = service(&resources(), provider);
        assert_eq!(service.ask(&bearer(&issuer.token(json!({})))).status, 200);
        web.reply(reply.clone());
        let before = web.asked().len();
        web.asked_times(before + 1);
        // Never seen before, so that it has to be verified.
        let fresh = issuer.token(json!({"jti": "fresh"}));
        let started = Instant::now();
        assert_eq!(service.ask(&bearer(&fresh)).status, 200, "{reply:?}");
        assert!(started.elapsed() < Duration::from_secs(4), "a known key waits for nobody");
    }
    assert_eq!(elsewhere.asked().len(), 0, "redirects are not followed");
}

#[test]
fn i2_an_issuer_that_never_answers_holds_a_request_up_for_two_seconds() {
    let issuer = Issuer::new("EdDSA");
    let web = Web::replying(Reply::Hang);
    let service = service(&resources(), remote(&issuer, &web));
    let started = Instant::now();
    let answer = service.ask(&bearer(&issuer.token(json!({}))));
    assert_eq!((answer.status, answer.body.as_str()), (503, FAILED));
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    assert_eq!(web.asked().len(), 1);
}

#[test]
fn i2_many_first_requests_make_one_fetch() {
    let issuer = Issuer::new("EdDSA");
    let web = Web::replying(Reply::Slow(Duration::from_millis(300), issuer.jwks()));
    let resources = resources();
    let service = service(&resources, remote(&issuer, &web));
    // Another policy with the same key set.
    let second = self::service(&resources, Jwt { audiences: vec!["api".into(), "b".into()], ..remote(&issuer, &web) });
    let (services, token) = ([&service, &second], issuer.token(json!({})));
    thread::scope(|scope| {
        let ask = |service: &Service| assert_eq!(service.ask(&bearer(&token)).status, 200);
        for service in services.into_iter().cycle().take(16) {
            scope.spawn(move || ask(service));
        }
    });
    assert_eq!(web.asked().len(), 1);
}

#[test]
fn i3_a_key_that_was_just_published_is_fetched_at_once() {
    let (old, new) = (named("old"), named("new"));
    let web = Web::replying(Reply::ok(old.jwks()));
    let service = service(&resources(), remote(&old, &web));
    assert_eq!(service.ask(&bearer(&old.token(json!({})))).status, 200);
    web.reply(Reply::ok(json!({"keys": [old.jwk(), new.jwk()]}).to_string()));
    let statuses: Vec<u16> = thread::scope(|scope| {
        let ask = || service.ask(&bearer(&new.token(json!({})))).status;
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 8]);
    assert_eq!(web.asked().len(), 2, "one fetch for all of them");
}

#[test]
fn i3_key_ids_that_nobody_has_do_not_hammer_the_issuer() {
    let issuer = Issuer::new("EdDSA");
    let web = Web::replying(Reply::ok(issuer.jwks()));
    let service = service(&resources(), remote(&issuer, &web));
    let started = Instant::now();
    for number in 0..500 {
        let header = json!({"alg": "EdDSA", "kid": format!("random-{number}")}).to_string();
        let answer = service.ask(&bearer(&issuer.sign(&header, &claims().to_string())));
        assert_eq!((answer.status, answer.body.as_str()), (401, NO_KEY));
    }
    let allowed = 2 + usize::try_from(started.elapsed().as_secs() / 10).unwrap();
    assert!(web.asked().len() <= allowed, "{} fetches", web.asked().len());
}

#[test]
fn strangers_cause_no_fetch() {
    let issuer = Issuer::new("EdDSA");
    let web = Web::replying(Reply::ok(issuer.jwks()));
    let service = service(&resources(), remote(&issuer, &web));
    assert_eq!(service.ask(&bearer(&issuer.token(json!({})))).status, 200);
    let foreign = named("other").token(json!({"iss": "https://evil.example.com"}));
    let expired = named("other").token(json!({"exp": NOW - 3600}));
    let algorithm = issuer.sign(&json!({"alg": "HS256", "kid": "other"}).to_string(), &claims().to_string());
    for token in [foreign, expired, algorithm, "garbage".to_owned(), encode(b"a.b.c")] {
        assert_eq!(service.ask(&bearer(&token)).status, 401);
    }
    assert_eq!(web.asked().len(), 1);
}

#[test]
fn a_key_that_was_withdrawn_takes_its_cached_tokens_along() {
    let (old, new) = (named("old"), named("new"));
    let web = Web::replying(Reply::ok(old.jwks()));
    let service = service(&resources(), Jwt { cache_duration_seconds: 1, ..remote(&old, &web) });
    let token = old.token(json!({}));
    assert_eq!((service.ask(&bearer(&token)).status, service.ask(&bearer(&token)).status), (200, 200));
    web.reply(Reply::ok(new.jwks()));
    becomes(&service, &token, 401);
    assert_eq!(service.ask(&bearer(&new.token(json!({})))).status, 200);
}

#[test]
fn the_key_sets_address_is_discovered_from_the_issuer() {
    let issuer = Issuer::new("EdDSA");
    let web = Web::new(|_| Reply::error());
    let (name, keys) = (web.url(""), issuer.jwks());
    let document = json!({"issuer": name, "jwks_uri": web.url("/published")}).to_string();
    let answers = move |path: &str| match path {
        "/.well-known/openid-configuration" => Reply::ok(document.clone()),
        "/published" => Reply::ok(keys.clone()),
        _ => Reply::error(),
    };
    web.answer_by_path(answers);
    let provider = Jwt { jwks: None, issuer: name.clone(), ..issuer.provider() };
    let service = service(&resources(), provider);
    let token = issuer.token(json!({"iss": name}));
    becomes(&service, &token, 200);
    let asked = web.asked();
    assert!(asked.iter().all(|asked| asked.authorization.is_none() && asked.body.is_empty()));
    let paths: Vec<String> = asked.into_iter().map(|asked| asked.path).collect();
    assert!(paths.ends_with(&["/.well-known/openid-configuration".to_owned(), "/published".to_owned()]), "{paths:?}");
}

#[test]
fn a_discovery_document_of_another_issuer_is_not_believed() {
    let issuer = Issuer::new("EdDSA");
    let keys = Web::replying(Reply::ok(issuer.jwks()));
    let documents = [
        json!({"issuer": "https://evil.example.com", "jwks_uri": keys.url("/")}),
        json!({"issuer": ISSUER}),
        json!({"jwks_uri": keys.url("/")}),
        json!([]),
    ];
    for document in documents {
        let web = Web::replying(Reply::ok(document.to_string()));
        let provider = Jwt { jwks: None, issuer: web.url(""), ..issuer.provider() };
        let answer = service(&resources(), provider).ask(&bearer(&issuer.token(json!({"iss": web.url("")}))));
        assert_eq!((answer.status, answer.body.as_str()), (503, FAILED), "{document}");
    }
    assert_eq!(keys.asked().len(), 0);
}

#[test]
fn i5_keys_that_anybody_could_sign_with_are_not_used() {
    let (good, other) = (Issuer::new("ES256"), Issuer::new("ES256").named("other"));
    let with = |name: &str, value: serde_json::Value| {
        let mut jwk = other.jwk();
        jwk[name] = value;
        jwk
    };
    let symmetric = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "other", "alg": "HS256"});
    let bad = [with("d", "AAAA".into()), with("use", "enc".into()), with("alg", "ES384".into()), symmetric];
    for key in bad {
        let web = Web::replying(Reply::ok(json!({"keys": [good.jwk(), key]}).to_string()));
        let service = service(&resources(), remote(&good, &web));
        assert_eq!(service.ask(&bearer(&good.token(json!({})))).status, 200);
        assert_eq!(service.ask(&bearer(&other.token(json!({})))).body, NO_KEY, "{key}");
    }
}

#[test]
fn nobody_fetches_for_a_policy_that_is_gone() {
    let issuer = Issuer::new("EdDSA");
    let web = Web::replying(Reply::ok(issuer.jwks()));
    let resources = resources();
    let provider = Jwt { cache_duration_seconds: 1, ..remote(&issuer, &web) };
    let first = service(&resources, provider.clone());
    web.asked_times(2);
    // A policy that changes goes on with the keys that are there.
    let changed = service(&resources, Jwt { claims_to_headers: vec![to_header("sub", "x-sub")], ..provider });
    drop(first);
    assert_eq!(changed.ask(&bearer(&issuer.token(json!({})))).set["x-sub"], "ada");
    let before = web.asked().len();
    web.asked_times(before + 1);
    drop(changed);
    let ended = web.asked().len();
    thread::sleep(Duration::from_millis(1500));
    assert!(web.asked().len() <= ended + 1, "one may have been under way");
}

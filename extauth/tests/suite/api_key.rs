//! API keys.

use std::time::{Duration, Instant, UNIX_EPOCH};

use extauth::check::Check;
use extauth::method::api_key::{Hash, Pepper};
use extauth::policy::Policies;
use extauth::resources::{Options, Resources};
use extauth::verdict::Verdict;
use proto::extauth::{ApiKey, Key, Method, Policy, Source};
use serde_json::json;

use crate::redis::until;
use crate::support::{
    NOW, Service, alone, api_keys, ask_at, hash, header, key, request, request_to, resident, resources, wait,
};

const KEY: &str = "s3cret-key-of-acme";

fn service(method: ApiKey) -> Service {
    Service::new(vec![Method::ApiKey(method)])
}

fn acme() -> Service {
    service(api_keys(vec![key(KEY, "acme")]))
}

fn everywhere() -> ApiKey {
    let query = Source::Query { name: "api_key".into() };
    let cookie = Source::Cookie { name: "key".into() };
    let from = vec![header("x-api-key", ""), header("authorization", "ApiKey "), query, cookie];
    ApiKey { from, ..api_keys(vec![key(KEY, "acme")]) }
}

#[test]
fn a_known_key_says_who_its_client_is() {
    let gold = Key { tier: Some("gold".into()), labels: [("team".into(), "blue".into())].into(), ..key(KEY, "acme") };
    let method = ApiKey {
        tier_header: Some("x-tier".into()),
        label_headers: [("team".into(), "x-team".into()), ("region".into(), "x-region".into())].into(),
        ..api_keys(vec![gold, key("another", "zeta")])
    };
    let answer = service(method).ask(&request(&[("x-api-key", KEY)]));
    assert_eq!(answer.status, 200);
    let expected = [("x-client", "acme"), ("x-team", "blue"), ("x-tier", "gold")];
    assert_eq!(answer.set, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let metadata = json!({"method": "api_key", "client": "acme", "tier": "gold", "labels": {"team": "blue"}});
    assert_eq!(answer.metadata, metadata);
    assert!(answer.removes("x-region"), "a label that the key lacks is no business of the client's either");
}

#[test]
fn every_place_is_looked_in() {
    let service = service(everywhere());
    let found = [
        request(&[("x-api-key", KEY)]),
        request(&[("authorization", &format!("apikey {KEY}"))]),
        request_to(&format!("/?a=1&api_key={KEY}"), &[]),
        request_to("/?api_key=s3cret%2Dkey-of-acme#api_key=other", &[]),
        request(&[("cookie", &format!("theme=dark; key={KEY}"))]),
    ];
    for request in &found {
        assert_eq!(service.ask(request).status, 200, "{request:?}");
    }
    let elsewhere = [
        request(&[("x-key", KEY)]),
        request(&[("authorization", KEY)]),
        request(&[("authorization", &format!("Basic {KEY}"))]),
        request_to(&format!("/?API_KEY={KEY}"), &[]),
        request_to(&format!("/api_key={KEY}"), &[]),
        request_to(&format!("/#?api_key={KEY}"), &[]),
        request(&[("cookie", &format!("KEY={KEY}"))]),
    ];
    for request in &elsewhere {
        assert_eq!(service.ask(request).status, 401, "{request:?}");
    }
}

#[test]
fn k1_a_hundred_thousand_keys_are_found_by_hash() {
    let keys = (0..100_000).map(|number| Key {
        hash: format!("sha256:{number:016x}{:048x}", 0),
        client: format!("client-{number}"),
        ..Key::default()
    });
    let service = service(api_keys(keys.chain([key(KEY, "acme")]).collect()));
    assert_eq!(service.ask(&request(&[("x-api-key", KEY)])).set["x-client"], "acme");
    assert_eq!(service.ask(&request(&[("x-api-key", "nobody")])).status, 401);
}

fn keys_with_details(count: u32) -> Vec<Key> {
    let keys = (0..count).map(|number| Key {
        id: format!("tg_{number:012x}"),
        tier: Some("gold".into()),
        scopes: vec!["read".into()],
        labels: [("team".into(), "blue".into())].into(),
        expires: Some("2100-01-01T00:00:00Z".into()),
        ..key(&format!("key-{number}"), &format!("client-{number}"))
    });
    keys.collect()
}

#[test]
fn k1_a_hundred_thousand_keys_cost_no_more_than_a_thousand() {
    let (small, large) = (service(api_keys(keys_with_details(1_000))), service(api_keys(keys_with_details(100_000))));
    let time = |service: &Service, number: u32| {
        let request = request(&[("x-api-key", &format!("key-{number}"))]);
        let check = Check::new(&request, UNIX_EPOCH + Duration::from_secs(service.now)).unwrap();
        wait(async {
            let start = Instant::now();
            for _ in 0..20 {
                assert!(matches!(service.check(&check).await, Verdict::Allow(_)));
            }
            start.elapsed()
        })
    };
    let rounds = (0..2_000).map(|round| (time(&small, round % 1_000), time(&large, round * 49)));
    let (mut few, mut many): (Vec<_>, Vec<_>) = rounds.unzip();
    few.sort();
    many.sort();
    let (few, many) = (few[few.len() / 2], many[many.len() / 2]);
    println!("20 checks take {few:?} with a thousand keys, {many:?} with a hundred thousand");
    assert!(many < few * 3 / 2, "{many:?} with many keys, {few:?} with few");
}

#[test]
fn k1_a_key_takes_200_bytes_at_most() {
    alone("api_key::memory_of_a_hundred_thousand_keys");
}

#[test]
#[ignore = "another test runs it, alone in its process"]
fn memory_of_a_hundred_thousand_keys() {
    let many = api_keys(keys_with_details(100_000));
    let resources = resources();
    let before = resident();
    let method = extauth::method::api_key::ApiKey::compile(&many, &resources).unwrap();
    let bytes = resident().saturating_sub(before) / 100_000;
    println!("{bytes} bytes a key, {method:?}");
    assert!((50..=200).contains(&bytes), "{bytes} bytes a key");
}

#[test]
fn k8_a_key_expires_on_the_clock_of_the_request_and_may_be_disabled() {
    let expiring = Key { expires: Some("2030-03-17T17:46:40Z".into()), ..key(KEY, "acme") };
    let mut service = service(api_keys(vec![expiring, Key { disabled: true, ..key("disabled", "zeta") }]));
    service.now = NOW - 1;
    assert_eq!(service.ask(&request(&[("x-api-key", KEY)])).status, 200);
    service.now = NOW;
    let expired = service.ask(&request(&[("x-api-key", KEY)]));
    let disabled = service.ask(&request(&[("x-api-key", "disabled")]));
    let unknown = service.ask(&request(&[("x-api-key", "unknown")]));
    for other in [expired, disabled] {
        assert_eq!((other.status, other.body, other.headers), (401, unknown.body.clone(), unknown.headers.clone()));
    }
}

#[test]
fn a_key_says_what_it_is_good_for() {
    let whole = Key {
        id: "tg_1".into(),
        tenant: Some("t1".into()),
        tier: Some("gold".into()),
        scopes: vec!["read".into(), "write".into()],
        ..key(KEY, "acme")
    };
    let method = ApiKey {
        tenant_header: Some("x-tenant".into()),
        tier_header: Some("x-tier".into()),
        scopes_header: Some("x-scopes".into()),
        ..api_keys(vec![whole, key("bare", "zeta")])
    };
    let service = service(method);
    let answer = service.ask(&request(&[("x-api-key", KEY)]));
    let metadata = json!({
        "method": "api_key", "client": "acme", "key_id": "tg_1", "tenant": "t1", "tier": "gold",
        "scopes": ["read", "write"]
    });
    assert_eq!(answer.metadata, metadata);
    let headers = ["x-client", "x-tenant", "x-tier", "x-scopes"].map(|name| answer.set[name].as_str());
    assert_eq!(headers, ["acme", "t1", "gold", "read write"]);
    let bare = service.ask(&request(&[("x-api-key", "bare"), ("x-scopes", "admin"), ("X_Tenant", "t2")]));
    assert!(bare.removes("x-scopes") && bare.removes("X_Tenant") && bare.removes("x-tenant"), "{bare:?}");
}

#[test]
fn keyed_hashes_need_the_pepper() {
    let text = Hash::of(KEY, Some(&Pepper::new(b"a-pepper-of-some-length").unwrap())).unwrap().to_string();
    assert!(text.starts_with("hmac-sha256:"));
    let keyed = Key { hash: text, client: "acme".into(), ..Key::default() };
    let policy =
        Policy { name: "guard".into(), methods: vec![Method::ApiKey(api_keys(vec![keyed]))], ..Policy::default() };
    let error = Policies::compile(std::slice::from_ref(&policy), &resources()).unwrap_err().to_string();
    assert!(error.contains("keys[0].hash") && error.contains("EXTAUTH_KEY_PEPPER_FILE"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pepper");
    std::fs::write(&path, "a-pepper-of-some-length\n").unwrap();
    let keys = extauth::resources::Keys { pepper: Some(path), ..extauth::resources::Keys::default() };
    let options = Options { keys, ..Options::default() };
    let policies = Policies::compile(&[policy], &Resources::new(&options).unwrap()).unwrap();
    assert_eq!(ask_at(&policies, &request(&[("x-api-key", KEY)]), NOW).status, 200);
    assert!(!format!("{policies:?}").contains("a-pepper"));
}

#[test]
fn a_new_pepper_hashes_while_keys_of_the_old_one_stay_good() {
    let (old, new) = ("the-old-pepper-of-keys", "the-new-pepper-of-keys");
    let hash = |key: &str, peppers: &str| {
        let pepper = Pepper::new(peppers.as_bytes()).unwrap();
        Hash::of(key, Some(&pepper)).unwrap().to_string()
    };
    let both = format!("{new}\n\n{old}\r\n");
    assert_eq!(hash(KEY, &both), hash(KEY, new), "the first line hashes");
    let keys = [("of-the-old", old), ("of-the-new", new)].map(|(key, pepper)| Key {
        hash: hash(key, pepper),
        client: key.into(),
        ..Key::default()
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pepper");
    std::fs::write(&path, old).unwrap();
    let options = extauth::resources::Keys { pepper: Some(path.clone()), ..extauth::resources::Keys::default() };
    let resources = Resources::new(&Options { keys: options, ..Options::default() }).unwrap();
    let service = Service::sharing(&resources, vec![Method::ApiKey(api_keys(keys.to_vec()))]);
    let status = |key: &str| service.ask(&request(&[("x-api-key", key)])).status;
    assert_eq!((status("of-the-old"), status("of-the-new")), (200, 401));
    std::fs::write(&path, &both).unwrap();
    until("the new pepper is read", || status("of-the-new") == 200);
    assert_eq!(status("of-the-old"), 200);
    std::fs::write(&path, new).unwrap();
    until("the old pepper is forgotten", || status("of-the-old") == 401);
    std::fs::write(&path, "short").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(status("of-the-new"), 200, "what makes no sense changes nothing");

    for (text, problem) in [("", "0 lines"), ("a-pepper-of-some-length\nshort", "line 2")] {
        assert!(Pepper::new(text.as_bytes()).err().unwrap().to_string().contains(problem), "{text}");
    }
    let many = (0..5).map(|number| format!("{number}-pepper-of-some-length")).collect::<Vec<_>>().join("\n");
    assert!(Pepper::new(many.as_bytes()).err().unwrap().to_string().contains("5 lines"));
}

#[test]
fn k2_no_spelling_is_folded_into_another() {
    let service = acme();
    let upper = KEY.to_uppercase();
    let others = [
        upper.as_str(),
        "ｓ3cret-key-of-acme",
        "\u{feff}s3cret-key-of-acme",
        "s3cret-key-of-acme\u{301}",
        "s3cret%2Dkey-of-acme",
    ];
    for other in others {
        assert_eq!(service.ask(&request(&[("x-api-key", other)])).status, 401, "{other}");
    }
}

#[test]
fn k3_two_keys_are_no_key() {
    let service = Service::optional(vec![Method::ApiKey(everywhere())]);
    let api_key = format!("ApiKey {KEY}");
    let ambiguous = [
        request(&[("x-api-key", &format!("{KEY},{KEY}"))]),
        request(&[("x-api-key", &format!("{KEY}, other"))]),
        request(&[("x-api-key", KEY), ("authorization", &api_key)]),
        request(&[("authorization", &format!("Basic abc,{api_key}"))]),
        request(&[("cookie", &format!("key={KEY}; key={KEY}"))]),
        request(&[("cookie", &format!("theme=dark, key={KEY}"))]),
        request(&[("cookie", &format!("key={KEY}")), ("x-api-key", KEY)]),
        request_to(&format!("/?api_key={KEY}&api_key=x"), &[]),
        request_to(&format!("/?api_key={KEY}"), &[("x-api-key", KEY)]),
        request_to(&format!("/?api_key={KEY}%2Cx"), &[]),
    ];
    for request in &ambiguous {
        assert_eq!(service.ask(request).status, 401, "{request:?}");
    }
}

#[test]
fn k3_a_repeated_raw_header_is_no_key() {
    use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
    let raw = |key: &str| HeaderValue { key: "x-api-key".into(), raw_value: key.into(), ..HeaderValue::default() };
    let with = |headers: Vec<HeaderValue>| {
        let mut request = request(&[]);
        let http = request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
        http.header_map = Some(HeaderMap { headers });
        request
    };
    assert_eq!(acme().ask(&with(vec![raw(KEY)])).status, 200);
    assert_eq!(acme().ask(&with(vec![raw(KEY), raw(KEY)])).status, 401);
}

#[test]
fn k4_nothing_is_no_key() {
    let service = Service::optional(vec![Method::ApiKey(everywhere())]);
    for empty in ["", " ", "\t", "\0", " s3cret-key-of-acme", "s3cret-key-of-acme\0", "s3cret key"] {
        assert_eq!(service.ask(&request(&[("x-api-key", empty)])).status, 401, "{empty:?}");
    }
    for empty in ["ApiKey", "ApiKey ", "apikey  x", "ApiKey \tx"] {
        assert_eq!(service.ask(&request(&[("authorization", empty)])).status, 401, "{empty:?}");
    }
    assert_eq!(service.ask(&request_to("/?api_key", &[])).status, 401);
    assert_eq!(service.ask(&request_to("/?api_key=", &[])).status, 401);
    assert_eq!(service.ask(&request_to("/?api_key=%FF", &[])).status, 401);
    assert_eq!(service.ask(&request(&[("cookie", "key=")])).status, 401);
    assert_eq!(service.ask(&request(&[])).status, 200, "only a request without any credential is anonymous");
}

#[test]
fn k5_one_key_for_two_clients_is_refused() {
    let policy =
        |keys| Policy { name: "guard".into(), methods: vec![Method::ApiKey(api_keys(keys))], ..Policy::default() };
    let twice = policy(vec![key("first", "zeta"), key(KEY, "acme"), key(KEY, "evil")]);
    let error = Policies::compile(&[twice], &resources()).unwrap_err().to_string();
    assert_eq!(
        error,
        "policy `guard`: methods[0].apiKey.keys[2].hash: is also the key of client `acme`; give `evil` a key of its own"
    );
}

#[test]
fn k6_failures_look_alike() {
    let service = acme();
    let unknown = service.ask(&request(&[("x-api-key", "unknown")]));
    let malformed = service.ask(&request(&[("x-api-key", "a b")]));
    let missing = service.ask(&request(&[]));
    assert_eq!(unknown.challenge.as_deref(), Some("ApiKey"));
    assert_eq!(unknown.body, "Client authentication failed.");
    for other in [malformed, missing] {
        assert_eq!((other.status, other.body, other.challenge), (401, unknown.body.clone(), unknown.challenge.clone()));
    }
}

#[test]
fn k7_the_key_does_not_reach_the_upstream() {
    let service = service(everywhere());
    assert!(service.ask(&request(&[("x-api-key", KEY)])).removes("x-api-key"));
    assert!(service.ask(&request(&[("authorization", &format!("ApiKey {KEY}"))])).removes("authorization"));
    assert_eq!(service.ask(&request_to(&format!("/?api_key={KEY}&a=1"), &[])).query_removed, ["api_key"]);
    let alone = service.ask(&request(&[("cookie", &format!("key={KEY}"))]));
    assert!(alone.removes("cookie"));
    let answer = service.ask(&request(&[("cookie", &format!("theme=dark; key={KEY};lang=en"))]));
    assert_eq!(answer.set["cookie"], "theme=dark; lang=en");
    assert!(!answer.removes("cookie"));
    let basic = service.ask(&request(&[("authorization", "Basic YTpi"), ("x-api-key", KEY)]));
    assert!(!basic.removes("authorization"), "somebody else's credential stays");
}

#[test]
fn k7_a_key_is_forwarded_when_asked_for() {
    let answer = service(ApiKey { forward: true, ..everywhere() }).ask(&request(&[("x-api-key", KEY)]));
    assert_eq!(answer.status, 200);
    assert!(!answer.removes("x-api-key"));
}

#[test]
fn k8_a_client_may_have_two_keys_while_it_changes_them() {
    let service = service(api_keys(vec![key(KEY, "acme"), key("the-new-one", "acme")]));
    for key in [KEY, "the-new-one"] {
        assert_eq!(service.ask(&request(&[("x-api-key", key)])).set["x-client"], "acme");
    }
}

#[test]
fn k9_the_client_header_cannot_be_forged() {
    let service = acme();
    let answer = service.ask(&request(&[("x-api-key", KEY), ("x-client", "root"), ("x_client", "root")]));
    assert_eq!(answer.set["x-client"], "acme");
    assert!(answer.removes("x_client"));
    assert!(!answer.removes("x-client"), "Envoy removes last: it would remove what was set");
    assert_eq!(service.ask(&request(&[("x-client", "acme")])).status, 401);
}

#[test]
fn keys_that_no_request_can_carry_are_not_hashed() {
    assert!(Hash::of("", None).is_none());
    assert!(Hash::of("a b", None).is_none());
    assert!(Hash::of("a,b", None).is_none());
    assert!(Hash::of(&"a".repeat(513), None).is_none());
    assert_eq!(hash("abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn a_key_in_place_of_its_hash_is_refused_and_not_repeated() {
    let plain = Key { hash: "plain-text-secret".into(), client: "acme".into(), ..Key::default() };
    let policy =
        Policy { name: "guard".into(), methods: vec![Method::ApiKey(api_keys(vec![plain]))], ..Policy::default() };
    let error = Policies::compile(&[policy], &resources()).unwrap_err().to_string();
    assert!(error.contains("keys[0].hash") && !error.contains("plain-text-secret"), "{error}");
}

//! Questions over plain HTTP, with the real router; with a real Envoy in `envoy.rs`.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use extauth::http_service::{Options, router};
use extauth::service::Authorizer;
use http::{Request, Response, StatusCode, Version};
use proptest::prelude::*;
use proto::extauth::{ApiKey, Method, Policy, Source};
use serde_json::json;
use tower::ServiceExt as _;

use crate::support::{api_keys, header, key, resources, wait};

fn policies() -> Vec<Policy> {
    let from = vec![header("x-api-key", ""), Source::Query { name: "key".into() }];
    let keys = || vec![Method::ApiKey(ApiKey { from: from.clone(), ..api_keys(vec![key("a-key", "acme")]) })];
    let policy = json!({
        "name": "shop", "methods": [], "match": [{"hosts": ["shop.example.com"]}],
        "rules": [{"name": "no-admin", "action": "deny", "when": {"paths": [{"prefix": "/admin"}]}},
                  {"name": "get", "action": "allow", "when": {"methods": ["GET"]}}],
        "results": {"responseHeaders": [{"name": "set-cookie", "value": "seen=1"}, {"name": "set-cookie", "value": "by={client}"}]},
        "denied": {"unauthorized": {"status": 302, "headers": [{"name": "location", "value": "/sorry"}]}},
    });
    let shop = Policy { methods: keys(), ..serde_json::from_value(policy).unwrap() };
    let open = Policy { name: "open".into(), optional: true, methods: keys(), ..Policy::default() };
    let body = json!({"name": "body", "methods": [], "optional": true, "rules": [{"name": "no-drop", "action": "allow", "unless": {"cel": "body.contains('drop')"}}]});
    let body = Policy { methods: keys(), ..serde_json::from_value(body).unwrap() };
    vec![shop, open, body, Policy { name: "broken".into(), ..Policy::default() }]
}

fn service(options: Options) -> Router {
    let authorizer = Authorizer::new(resources());
    authorizer.replace_each(&policies());
    router(authorizer, options)
}

fn named() -> Options {
    Options { policy_header: Some("x-policy".parse().unwrap()), ..Options::default() }
}

fn ask(service: &Router, method: &str, target: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    wait(service.clone().oneshot(request.body(Body::empty()).unwrap())).unwrap()
}

const HOST: (&str, &str) = ("host", "shop.example.com");
const KEY: (&str, &str) = ("x-api-key", "a-key");

fn all<'a>(response: &'a Response<Body>, name: &str) -> Vec<&'a str> {
    response.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn exactly_200_allows_and_carries_what_envoy_needs() {
    let service = service(Options::default());
    let allowed = ask(&service, "GET", "/orders", &[HOST, KEY, ("x_client", "root")]);
    assert_eq!((allowed.status(), all(&allowed, "x-client")), (StatusCode::OK, vec!["acme"]));
    assert_eq!(all(&allowed, "set-cookie"), ["seen=1", "by=acme"]);
    let removed = all(&allowed, "x-envoy-auth-headers-to-remove").join(",");
    assert!(removed.split(',').any(|name| name == "x-api-key") && removed.contains("x_client"), "{removed}");

    let unknown = ask(&service, "GET", "/orders", &[HOST]);
    assert_eq!((unknown.status(), all(&unknown, "www-authenticate")), (StatusCode::UNAUTHORIZED, vec!["ApiKey"]));
    let denied = ask(&service, "GET", "/admin", &[HOST, KEY]);
    assert_eq!((denied.status(), all(&denied, "location")), (StatusCode::FOUND, vec!["/sorry"]));
    assert_eq!(ask(&service, "POST", "/orders", &[HOST, KEY]).status(), StatusCode::FOUND);
    let elsewhere = [("host", "other.example.com"), KEY];
    assert_eq!(ask(&service, "GET", "/orders", &elsewhere).status(), StatusCode::FORBIDDEN, "no policy");
}

#[test]
fn cve_2026_40575_headers_that_name_another_request_count_only_where_they_are_trusted() {
    let elsewhere = [
        ("x-forwarded-uri", "/orders"),
        ("x-original-uri", "/orders"),
        ("x-original-url", "/orders"),
        ("x-envoy-original-path", "/orders"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-host", "shop.example.com"),
    ];
    let plain = service(Options::default());
    let headers = [&elsewhere[..], &[HOST, KEY]].concat();
    assert_eq!(ask(&plain, "GET", "/admin", &headers).status(), StatusCode::FOUND);
    assert_eq!(ask(&plain, "DELETE", "/orders", &headers).status(), StatusCode::FOUND);

    let trusting = service(Options { trust_forwarded: true, ..Options::default() });
    assert_eq!(ask(&trusting, "GET", "/admin", &headers).status(), StatusCode::OK);
    for missing in ["x-forwarded-uri", "x-forwarded-method", "x-forwarded-host"] {
        let rest: Vec<_> = headers.iter().copied().filter(|(name, _)| *name != missing).collect();
        assert_eq!(ask(&trusting, "GET", "/orders", &rest).status(), StatusCode::FORBIDDEN, "{missing}");
        let twice = [&headers[..], &[(missing, "/orders")]].concat();
        assert_eq!(ask(&trusting, "GET", "/orders", &twice).status(), StatusCode::FORBIDDEN, "{missing} twice");
    }
}

#[test]
fn a6_only_the_request_line_and_one_host_say_what_is_asked() {
    let service = service(Options { path_prefix: "/auth/".into(), ..Options::default() });
    assert_eq!(ask(&service, "GET", "/auth/orders", &[HOST, KEY]).status(), StatusCode::OK);
    assert_eq!(ask(&service, "GET", "/auth/admin", &[HOST, KEY]).status(), StatusCode::FOUND);
    for target in [
        "/orders",
        "/author",
        "/auth",
        "*",
        "http://shop.example.com/auth/orders",
        "/auth//admin",
        "/auth/%2e%2e/admin",
    ] {
        assert_ne!(ask(&service, "GET", target, &[HOST, KEY]).status(), StatusCode::OK, "{target}");
    }
    assert_eq!(ask(&service, "GET", "/auth/orders", &[HOST, HOST, KEY]).status(), StatusCode::FORBIDDEN);
    assert_eq!(ask(&service, "GET", "/auth/orders", &[KEY]).status(), StatusCode::FORBIDDEN);
    let two = Request::builder()
        .version(Version::HTTP_2)
        .uri("http://shop.example.com/auth/orders")
        .header("x-api-key", "a-key");
    assert_eq!(wait(service.clone().oneshot(two.body(Body::empty()).unwrap())).unwrap().status(), StatusCode::OK);
}

#[test]
fn a_policy_is_named_by_a_trusted_header_once() {
    let service = service(named());
    assert_eq!(ask(&service, "GET", "/", &[HOST, ("x-policy", "open")]).status(), StatusCode::OK);
    for headers in [&[HOST][..], &[HOST, ("x-policy", "open"), ("x-policy", "open")], &[HOST, ("x-policy", "other")]] {
        assert_eq!(ask(&service, "GET", "/", headers).status(), StatusCode::FORBIDDEN);
    }
}

#[test]
fn e1_no_denial_looks_like_a_failure_that_envoy_may_let_pass() {
    let service = service(named());
    assert_eq!(ask(&service, "GET", "/", &[HOST, ("x-policy", "broken")]).status(), StatusCode::FORBIDDEN);
}

#[test]
fn k7_a_key_that_cannot_be_stripped_does_not_pass() {
    let plain = service(Options::default());
    assert_eq!(ask(&plain, "GET", "/orders?key=a-key", &[HOST]).status(), StatusCode::FORBIDDEN);
}

#[test]
fn c46_a_body_that_envoy_does_not_send_is_not_empty() {
    let service = service(named());
    let ask = |body: &'static str, partial: Option<&str>| {
        let mut request = Request::builder().method("POST").uri("/").header("host", "a").header("x-policy", "body");
        request = request.header("content-length", body.len());
        if let Some(partial) = partial {
            request = request.header("x-envoy-auth-partial-body", partial);
        }
        wait(service.clone().oneshot(request.body(Body::from(body)).unwrap())).unwrap().status()
    };
    assert_eq!(ask("select", Some("false")), StatusCode::OK);
    assert_ne!(ask("drop", Some("false")), StatusCode::OK);
    assert_ne!(ask("", None), StatusCode::OK);
    assert_ne!(ask("select", Some("true")), StatusCode::OK);
}

static PLAIN: LazyLock<Router> = LazyLock::new(|| service(Options::default()));

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_passes_without_a_key_whatever_is_asked(
        path in "/[ -~&&[^\"<>`{}#^|\\\\]]{0,30}",
        headers in prop::collection::vec(("[a-z][a-z-]{0,14}", "[ -~\u{80}-\u{ff}]{0,20}"), 0..6),
    ) {
        let Ok(uri) = path.parse::<http::Uri>() else { return Ok(()) };
        let mut request = Request::builder().uri(uri).header("host", "shop.example.com");
        for (name, value) in &headers {
            request = request.header(name, value.as_bytes());
        }
        let plain = PLAIN.clone();
        let Ok(request) = request.body(Body::empty()) else { return Ok(()) };
        prop_assert_ne!(wait(plain.oneshot(request)).unwrap().status(), StatusCode::OK);
    }
}

//! Headers that tell who a client is come from us or from nobody.

use proto::extauth::{ApiKey, Jwt, Method, Source};
use serde_json::json;

use crate::support::{Issuer, Service, api_keys, bearer, key, request, to_header};

const SPELLINGS: [(&str, &str); 5] =
    [("x-sub", "root"), ("x_sub", "root"), ("x.sub", "root"), ("x_client", "root"), ("x-tier", "gold")];

fn methods(issuer: &Issuer) -> Vec<Method> {
    let claims_to_headers = vec![to_header("sub", "X-Sub")];
    let keys = ApiKey { tier_header: Some("x-tier".into()), ..api_keys(vec![key("a-key", "acme")]) };
    vec![Method::Jwt(Jwt { claims_to_headers, ..issuer.provider() }), Method::ApiKey(keys)]
}

#[test]
fn h1_anonymous_requests_carry_no_identity() {
    let answer = Service::optional(methods(&Issuer::new("EdDSA"))).ask(&request(&SPELLINGS));
    assert_eq!(answer.status, 200);
    assert!(answer.set.is_empty());
    assert_eq!(answer.metadata, json!({"method": "anonymous"}));
    for (name, _) in SPELLINGS.iter().chain(&[("x-client", "")]) {
        assert!(answer.removes(name), "{name}");
    }
}

#[test]
fn h1_one_methods_identity_does_not_come_with_anothers() {
    let issuer = Issuer::new("EdDSA");
    let service = Service::new(methods(&issuer));
    let mut headers = SPELLINGS.to_vec();
    headers.push(("x-api-key", "a-key"));
    let by_key = service.ask(&request(&headers));
    assert_eq!(by_key.set, [("x-client".to_owned(), "acme".to_owned())].into());
    for name in ["x-sub", "x_sub", "x.sub", "x_client", "x-tier", "x-api-key"] {
        assert!(by_key.removes(name), "{name}");
    }
    let by_token = service.ask(&bearer(&issuer.token(json!({}))));
    assert_eq!(by_token.set, [("x-sub".to_owned(), "ada".to_owned())].into());
    assert!(by_token.removes("x-client") && by_token.removes("x-tier") && !by_token.removes("x-sub"));
}

#[test]
fn h2_cve_2025_64484_other_spellings_of_a_header_are_removed() {
    let issuer = Issuer::new("EdDSA");
    let token = format!("Bearer {}", issuer.token(json!({})));
    let spellings = ["x_sub", "x.sub", "X-Sub", "X_SUB"];
    let mut headers: Vec<_> = spellings.iter().map(|name| (*name, "root")).collect();
    headers.push(("authorization", &token));
    headers.push(("x-subject", "kept"));
    let answer = Service::new(methods(&issuer)).ask(&request(&headers));
    assert_eq!(answer.set["x-sub"], "ada");
    for name in ["x_sub", "x.sub", "X_SUB"] {
        assert!(answer.removes(name), "{name}");
    }
    assert!(!answer.removes("x-subject") && !answer.removes("authorization"));
}

#[test]
fn k7_a_cookie_that_cannot_be_cut_out_takes_all_cookies_along() {
    let issuer = Issuer::new("EdDSA");
    let keys = ApiKey { from: vec![Source::Cookie { name: "key".into() }], ..api_keys(vec![key("a-key", "acme")]) };
    let service = Service::new(vec![Method::Jwt(issuer.provider()), Method::ApiKey(keys)]);
    let token = format!("Bearer {}", issuer.token(json!({})));
    let cookies = |cookies| service.ask(&request(&[("authorization", &token), ("cookie", cookies)]));
    assert!(cookies("theme=dark,key=a-key; lang=en").removes("cookie"));
    assert_eq!(cookies("theme=a,b; key=a-key").set["cookie"], "theme=a,b");
    assert!(!cookies("theme=a,b; lang=en").removes("cookie"));
}

#[test]
fn the_client_may_take_the_place_of_its_key() {
    let keys = ApiKey { client_header: Some("x-api-key".into()), ..api_keys(vec![key("a-key", "acme")]) };
    let answer = Service::new(vec![Method::ApiKey(keys)]).ask(&request(&[("x-api-key", "a-key")]));
    assert_eq!(answer.set["x-api-key"], "acme");
    assert!(!answer.removes("x-api-key"), "Envoy removes last: it would remove what was set");
}

#[test]
fn k7_a_key_is_stripped_even_when_a_token_decides() {
    let issuer = Issuer::new("EdDSA");
    let token = format!("Bearer {}", issuer.token(json!({})));
    let answer = Service::new(methods(&issuer)).ask(&request(&[("authorization", &token), ("x-api-key", "a-key")]));
    assert_eq!(answer.metadata["method"], "jwt");
    assert!(answer.removes("x-api-key"));
}

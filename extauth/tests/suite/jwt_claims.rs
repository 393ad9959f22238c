//! Claims that say what they must not.

use proto::extauth::{ClaimToHeader, Jwt, Method};
use serde_json::{Value, json};

use crate::support::{ISSUER, Issuer, NOW, Service, bearer, body};

#[test]
fn j7_the_audience_is_one_of_ours_exactly() {
    let issuer = Issuer::new("EdDSA");
    let service = issuer.service();
    for good in [json!("api"), json!(["other", "api"])] {
        assert_eq!(service.ask(&bearer(&issuer.token(json!({"aud": good})))).status, 200);
    }
    let bad = [
        json!(null),
        json!("apis"),
        json!("ap"),
        json!("API"),
        json!("api "),
        json!(["apis"]),
        json!([]),
        json!(""),
        json!([["api"]]),
        json!(["api", 1]),
        json!({"api": "api"}),
        json!("other,api"),
    ];
    for aud in bad {
        let answer = service.ask(&bearer(&issuer.token(json!({"aud": aud}))));
        assert_eq!((answer.status, answer.body.as_str()), (403, "Audiences in Jwt are not allowed"), "{aud}");
    }
}

#[test]
fn j8_the_issuer_is_ours_exactly() {
    let issuer = Issuer::new("EdDSA");
    let bad = [
        json!(null),
        json!(format!("{ISSUER}/")),
        json!("https://ISSUER.example.com"),
        json!("https://ıssuer.example.com"),
        json!([ISSUER]),
        json!(""),
        json!(format!("{ISSUER}\0")),
        json!("http://issuer.example.com"),
    ];
    for iss in bad {
        let answer = issuer.service().ask(&bearer(&issuer.token(json!({"iss": iss}))));
        assert_eq!(body(&answer), "Jwt issuer is not configured", "{iss}");
    }
}

#[test]
fn j9_times_are_numbers_and_exact_to_the_second() {
    let issuer = Issuer::new("EdDSA");
    let provider = Jwt { leeway_seconds: 10, ..issuer.provider() };
    let service = Service::new(vec![Method::Jwt(provider)]);
    let status = |claims: Value| service.ask(&bearer(&issuer.token(claims))).status;
    assert_eq!(status(json!({"exp": NOW - 9})), 200);
    assert_eq!(status(json!({"exp": NOW - 10})), 401);
    assert_eq!(status(json!({"nbf": NOW + 10})), 200);
    assert_eq!(status(json!({"nbf": NOW + 11})), 401);
    assert_eq!(status(json!({"exp": 1_900_000_000.5})), 200);
    for exp in [json!("1900003600"), json!(-1), json!(1e300), json!(9.1e15), json!(true), json!([NOW]), json!({})] {
        let answer = service.ask(&bearer(&issuer.token(json!({"exp": exp}))));
        assert_eq!(body(&answer), "Jwt has no valid expiration time", "{exp}");
    }
    for nbf in [json!("0"), json!(-1), json!([0])] {
        let answer = service.ask(&bearer(&issuer.token(json!({"nbf": nbf}))));
        assert_eq!(body(&answer), "Jwt not yet valid", "{nbf}");
    }
}

#[test]
fn cve_2026_25537_a_time_of_the_wrong_type_is_not_skipped() {
    let issuer = Issuer::new("EdDSA");
    for claims in [json!({"exp": "1"}), json!({"nbf": format!("{}", NOW + 9999)})] {
        assert_eq!(issuer.service().ask(&bearer(&issuer.token(claims))).status, 401);
    }
}

#[test]
fn j10_a_token_without_an_end_is_refused() {
    let issuer = Issuer::new("EdDSA");
    let answer = issuer.service().ask(&bearer(&issuer.token(json!({"exp": null}))));
    assert_eq!(body(&answer), "Jwt has no valid expiration time");
}

#[test]
fn j23_a_claim_that_was_not_verified_goes_nowhere() {
    let (issuer, attacker) = (Issuer::new("EdDSA"), Issuer::new("EdDSA"));
    let claims_to_headers = vec![ClaimToHeader { claim: "sub".into(), header: "x-sub".into() }];
    let service = Service::optional(vec![Method::Jwt(Jwt { claims_to_headers, ..issuer.provider() })]);
    let answer = service.ask(&bearer(&attacker.token(json!({"sub": "root"}))));
    assert_eq!((answer.status, answer.set.len(), answer.metadata), (401, 0, Value::Null));
}

#[test]
fn h6_claims_that_break_out_of_a_header_deny_the_request() {
    let issuer = Issuer::new("EdDSA");
    let claims_to_headers = vec![ClaimToHeader { claim: "name".into(), header: "x-name".into() }];
    let service = Service::new(vec![Method::Jwt(Jwt { claims_to_headers, ..issuer.provider() })]);
    let bad = [
        json!("a\r\nx-admin: 1"),
        json!("a\nb"),
        json!("a\0"),
        json!("\u{7f}"),
        json!(" root"),
        json!(["user", "x,admin"]),
        json!(["a\n"]),
        json!("x".repeat(4097)),
    ];
    for name in bad {
        let answer = service.ask(&bearer(&issuer.token(json!({"name": name}))));
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (403, "Jwt has a claim that cannot be sent as a header"),
            "{name}"
        );
    }
    let empty = service.ask(&bearer(&issuer.token(json!({"name": ""}))));
    assert!(empty.status == 200 && empty.removes("x-name") && empty.set.is_empty());
}

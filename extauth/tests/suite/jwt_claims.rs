//! Claims that say what they must not.

use proto::extauth::{Jwt, Method, RequiredClaim};
use serde_json::{Value, json};

use crate::support::{ISSUER, Issuer, NOW, Service, bearer, body, to_header};

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
    let claims_to_headers = vec![to_header("sub", "x-sub")];
    let service = Service::optional(vec![Method::Jwt(Jwt { claims_to_headers, ..issuer.provider() })]);
    let answer = service.ask(&bearer(&attacker.token(json!({"sub": "root"}))));
    assert_eq!((answer.status, answer.set.len(), answer.metadata), (401, 0, Value::Null));
}

#[test]
fn h6_claims_that_break_out_of_a_header_deny_the_request() {
    let issuer = Issuer::new("EdDSA");
    let claims_to_headers = vec![to_header("name", "x-name")];
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

#[test]
fn a_token_without_an_end_is_good_where_the_provider_says_so() {
    let issuer = Issuer::new("EdDSA");
    let provider = Jwt { require_expiration: false, ..issuer.provider() };
    let mut service = Service::new(vec![Method::Jwt(provider.clone())]);
    let endless = bearer(&issuer.token(json!({"exp": null})));
    assert_eq!(service.ask(&endless).status, 200);
    service.now = 100 * NOW;
    assert_eq!(service.ask(&endless).status, 200);
    let wrong = service.ask(&bearer(&issuer.token(json!({"exp": "never"}))));
    assert_eq!(body(&wrong), "Jwt has no valid expiration time", "an end that is there counts");
    let bounded = Service::new(vec![Method::Jwt(Jwt { max_lifetime_seconds: Some(60), ..provider })]);
    assert_eq!(body(&bounded.ask(&endless)), "Jwt has no valid expiration time");
}

#[test]
fn a_token_has_no_more_time_left_than_it_may() {
    let issuer = Issuer::new("EdDSA");
    let provider = Jwt { max_lifetime_seconds: Some(600), leeway_seconds: 10, ..issuer.provider() };
    let mut service = Service::new(vec![Method::Jwt(provider)]);
    let (short, long) = (issuer.token(json!({"exp": NOW + 610})), issuer.token(json!({"exp": NOW + 611})));
    assert_eq!(service.ask(&bearer(&short)).status, 200);
    assert_eq!(body(&service.ask(&bearer(&long))), "Jwt lifetime exceeds the maximum allowed lifetime");
    // A clock that was set back counts for a cached token as well.
    service.now = NOW - 1;
    assert_eq!(service.ask(&bearer(&short)).status, 401);
}

#[test]
fn j39_a_token_for_another_purpose_is_none() {
    let issuer = Issuer::new("EdDSA");
    let with = |types: &[&str]| {
        let types = types.iter().map(|typ| (*typ).to_owned()).collect();
        Service::new(vec![Method::Jwt(Jwt { types, ..issuer.provider() })])
    };
    let status =
        |service: &Service, typ: Value| service.ask(&bearer(&issuer.token_with_header(json!({"typ": typ})))).status;
    let usual = with(&[]);
    for good in [json!("JWT"), json!("jwt"), json!("at+jwt"), json!("application/at+JWT"), json!("JOSE"), Value::Null] {
        assert_eq!(status(&usual, good.clone()), 200, "{good}");
    }
    let others = ["logout+jwt", "secevent+jwt", "dpop+jwt", "oauth-authz-req+jwt", "token-introspection+jwt", ""];
    for other in others.map(Value::from).into_iter().chain([json!(1), json!(["JWT"])]) {
        let answer = usual.ask(&bearer(&issuer.token_with_header(json!({"typ": other}))));
        assert_eq!(body(&answer), "Jwt header [typ] is not allowed", "{other}");
    }
    // An ID token says nothing or `JWT`, an access token of RFC 9068 what it is.
    let access = with(&["at+jwt"]);
    assert_eq!(status(&access, json!("application/at+jwt")), 200);
    for id_token in [json!("JWT"), Value::Null] {
        assert_eq!(status(&access, id_token), 401);
    }
}

#[test]
fn subjects_are_compared_whole_or_by_their_start() {
    let issuer = Issuer::new("EdDSA");
    let subjects = ["ada", "spiffe://example.org/ns/shop/*"].map(str::to_owned).into();
    let service = Service::new(vec![Method::Jwt(Jwt { subjects, ..issuer.provider() })]);
    for good in ["ada", "spiffe://example.org/ns/shop/sa/web", "spiffe://example.org/ns/shop/"] {
        assert_eq!(service.ask(&bearer(&issuer.token(json!({"sub": good})))).status, 200, "{good}");
    }
    for bad in
        [json!("adam"), json!("Ada"), json!("spiffe://example.org/ns/shopping"), json!(""), json!(null), json!(["ada"])]
    {
        let answer = service.ask(&bearer(&issuer.token(json!({"sub": bad}))));
        assert_eq!((answer.status, answer.body.as_str()), (403, "Jwt subject is not allowed"), "{bad}");
    }
}

#[test]
fn required_claims_are_there_and_say_what_they_must() {
    let issuer = Issuer::new("EdDSA");
    let required = |claim: &str, values: Vec<Value>| RequiredClaim { claim: claim.into(), values };
    let required_claims = vec![
        required("email", Vec::new()),
        required("realm.roles", vec![json!("admin"), json!("editor")]),
        required("level", vec![json!(1)]),
    ];
    let service = Service::new(vec![Method::Jwt(Jwt { required_claims, ..issuer.provider() })]);
    let ask = |email: Value, roles: Value, level: Value| {
        let claims = json!({"email": email, "realm": {"roles": roles}, "level": level});
        service.ask(&bearer(&issuer.token(claims)))
    };
    assert_eq!(ask(json!("a@b"), json!(["user", "admin"]), json!(1)).status, 200);
    assert_eq!(ask(json!(""), json!("editor"), json!([0, 1])).status, 200);
    let bad = [
        ask(json!(null), json!("admin"), json!(1)),
        ask(json!("a@b"), json!(["user"]), json!(1)),
        ask(json!("a@b"), json!([]), json!(1)),
        ask(json!("a@b"), json!("admins"), json!(1)),
        ask(json!("a@b"), json!([["admin"]]), json!(1)),
        ask(json!("a@b"), json!("admin"), json!("1")),
        ask(json!("a@b"), json!("admin"), json!(true)),
    ];
    for answer in bad {
        assert_eq!((answer.status, answer.body.as_str()), (403, "Jwt lacks a required claim"));
    }
}

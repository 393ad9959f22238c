//! JSON Web Tokens that are what they should be, and what comes of them.

use proto::extauth::{ApiKey, ClaimToHeader, Format, Jwt, Method, RequiredClaim, Source};
use serde_json::{Value, json};

use crate::support::{AUDIENCE, Issuer, NOW, Service, bearer, header, key, request, request_to, to_header};

#[test]
fn every_asymmetric_algorithm_verifies() {
    // It also shows that the JOSE library finds its one cryptography by itself: with two, or none, it would panic.
    for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"] {
        let issuer = Issuer::new(alg);
        let service = issuer.service();
        let token = issuer.token(json!({}));
        assert_eq!(service.ask(&bearer(&token)).status, 200, "{alg}");
        let other = Issuer::new(alg).token(json!({}));
        let answer = service.ask(&bearer(&other));
        assert_eq!((answer.status, answer.body.as_str()), (401, "Jwt verification fails"), "{alg}");
    }
}

#[test]
fn answers_read_like_envoys() {
    let issuer = Issuer::new("EdDSA");
    let service = issuer.service();
    let realm = "Bearer realm=\"http://shop.example.com/orders\"";
    let missing = service.ask(&request_to("/orders?secret=1", &[]));
    assert_eq!((missing.status, missing.body.as_str()), (401, "Jwt is missing"));
    assert_eq!(missing.challenge.as_deref(), Some(realm));
    let expired = service.ask(&bearer(&issuer.token(json!({"exp": NOW - 3600}))));
    assert_eq!((expired.status, expired.body.as_str()), (401, "Jwt is expired"));
    assert_eq!(expired.challenge, Some(format!("{realm}, error=\"invalid_token\"")));
    let audience = service.ask(&bearer(&issuer.token(json!({"aud": "other"}))));
    assert_eq!((audience.status, audience.body.as_str()), (403, "Audiences in Jwt are not allowed"));
    let form = service.ask(&bearer("garbage"));
    assert_eq!(form.body, "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections");
}

#[test]
fn a_realm_that_would_break_its_quotes_is_left_out() {
    let answer = Issuer::new("EdDSA").service().ask(&request_to("/a\"b", &[]));
    assert_eq!(answer.challenge.as_deref(), Some("Bearer"));
}

fn with_headers(claims: &[(&str, &str)]) -> (Issuer, Service) {
    let issuer = Issuer::new("EdDSA");
    let claims = claims.iter().map(|(claim, header)| to_header(claim, header));
    let provider = Jwt { claims_to_headers: claims.collect(), ..issuer.provider() };
    let service = Service::new(vec![Method::Jwt(provider)]);
    (issuer, service)
}

#[test]
fn claims_become_headers_and_metadata() {
    let (issuer, service) = with_headers(&[
        ("sub", "x-sub"),
        ("realm.tenant", "x-tenant"),
        ("https://example.com/role", "x-role"),
        ("groups", "x-groups"),
        ("level", "x-level"),
        ("admin", "x-admin"),
        ("realm", "x-realm"),
        ("nothing", "x-nothing"),
        ("absent", "x-absent"),
        ("a.b.c", "x-abc"),
    ]);
    let claims = json!({
        "realm": {"tenant": "acme"}, "https://example.com/role": "reader", "groups": ["a", "b", 3], "level": 7,
        "admin": true, "nothing": null, "a.b": {"c": "inner"}, "a": {"b.c": "other"},
    });
    let token = issuer.sign(&issuer.header().to_string(), &{
        let mut all = crate::support::claims();
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        all.to_string()
    });
    let answer = service.ask(&bearer(&token));
    let expected = [
        ("x-abc", "other"),
        ("x-admin", "true"),
        ("x-groups", "a,b,3"),
        ("x-level", "7"),
        ("x-role", "reader"),
        ("x-sub", "ada"),
        ("x-tenant", "acme"),
    ];
    assert_eq!(answer.set, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    for unset in ["x-realm", "x-nothing", "x-absent"] {
        assert!(answer.removes(unset), "{unset} must not come from the client");
    }
    assert_eq!(answer.metadata["method"], "jwt");
    assert_eq!(answer.metadata["main"]["realm"]["tenant"], "acme");
    assert_eq!(answer.metadata["main"]["level"], 7.0);
    assert_eq!(answer.metadata["main"]["nothing"], Value::Null);
}

#[test]
fn a_name_with_dots_goes_before_the_path() {
    let (issuer, service) = with_headers(&[("a.b", "x-ab")]);
    let answer = service.ask(&bearer(&issuer.token(json!({"a.b": "exact", "a": {"b": "nested"}}))));
    assert_eq!(answer.set["x-ab"], "exact");
}

#[test]
fn lists_and_objects_become_headers_as_json_where_asked_for() {
    let issuer = Issuer::new("EdDSA");
    let claims_to_headers = ["groups", "realm", "sub", "nothing", "absent"]
        .map(|claim| ClaimToHeader { format: Format::Json, ..to_header(claim, &format!("x-{claim}")) });
    let provider = Jwt { claims_to_headers: claims_to_headers.into(), ..issuer.provider() };
    let service = Service::new(vec![Method::Jwt(provider)]);
    let claims = json!({"groups": ["a,b", "c\n\"", 1], "realm": {"tenant": "acme"}});
    let answer = service.ask(&bearer(&issuer.token(claims)));
    let expected = [("x-groups", r#"["a,b","c\n\"",1]"#), ("x-realm", r#"{"tenant":"acme"}"#), ("x-sub", r#""ada""#)];
    assert_eq!(answer.set, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn scopes_become_metadata_however_they_are_written() {
    let issuer = Issuer::new("EdDSA");
    let service = issuer.service();
    let scopes = |claims: Value| service.ask(&bearer(&issuer.token(claims))).metadata["scopes"].clone();
    assert_eq!(scopes(json!({"scope": "read  write"})), json!(["read", "write"]));
    assert_eq!(scopes(json!({"scp": ["read", "write"]})), json!(["read", "write"]));
    assert_eq!(scopes(json!({"scp": "read"})), json!(["read"]));
    assert_eq!(scopes(json!({})), Value::Null);
}

#[test]
fn an_opaque_token_is_left_to_another_method_but_never_anonymous() {
    let issuer = Issuer::new("EdDSA");
    let keys = ApiKey {
        from: vec![header("authorization", "Bearer ")],
        keys: vec![key("opaque", "acme")],
        ..ApiKey::default()
    };
    let service = Service::optional(vec![Method::Jwt(issuer.provider()), Method::ApiKey(keys)]);
    assert_eq!(service.ask(&bearer("opaque")).metadata["client"], "acme");
    let service = Service::optional(vec![Method::Jwt(issuer.provider())]);
    assert_eq!(service.ask(&bearer("opaque")).status, 401);
}

#[test]
fn the_token_is_removed_when_asked_for() {
    let issuer = Issuer::new("EdDSA");
    let from = vec![
        header("authorization", "Bearer "),
        Source::Query { name: "access_token".into() },
        Source::Cookie { name: "session".into() },
    ];
    let service = Service::new(vec![Method::Jwt(Jwt { remove: true, from, ..issuer.provider() })]);
    let token = issuer.token(json!({}));
    assert!(service.ask(&bearer(&token)).removes("authorization"));
    assert_eq!(service.ask(&request_to(&format!("/?access_token={token}"), &[])).query_removed, ["access_token"]);
    assert_eq!(service.ask(&request(&[("cookie", &format!("a=b; session={token}"))])).set["cookie"], "a=b");
    assert!(!issuer.service().ask(&bearer(&token)).removes("authorization"), "it is forwarded by default");
}

#[test]
fn keys_of_other_uses_are_passed_over() {
    let issuer = Issuer::new("ES256");
    let other = Issuer::new("ES256");
    let mut encryption = other.jwk();
    encryption["use"] = "enc".into();
    let mut wrapping = other.jwk();
    wrapping["key_ops"] = json!(["wrapKey"]);
    let keys = json!({"keys": [encryption, wrapping, {"kty": "oct", "k": "c2VjcmV0"}, {"kty": "new"}, issuer.jwk()]});
    let service = Service::new(vec![Method::Jwt(Jwt { jwks: Some(keys.to_string()), ..issuer.provider() })]);
    assert_eq!(service.ask(&bearer(&issuer.token(json!({})))).status, 200);
    assert_eq!(service.ask(&bearer(&other.token(json!({})))).status, 401);
}

#[test]
fn a_key_that_cannot_be_used_does_not_spoil_the_others() {
    let issuer = Issuer::new("ES256");
    let weak = json!({"kty": "RSA", "n": crate::support::encode(&[0xC5; 128]), "e": "AQAB"});
    let mut off_curve = Issuer::new("ES256").jwk();
    off_curve["y"] = off_curve["x"].clone();
    for unusable in [weak, off_curve, json!({"kty": "EC", "crv": "P-256", "x": "AA"}), json!({"kid": 1}), json!("key")]
    {
        let keys = json!({"keys": [unusable, issuer.jwk()]}).to_string();
        let service = Service::new(vec![Method::Jwt(Jwt { jwks: Some(keys), ..issuer.provider() })]);
        assert_eq!(service.ask(&bearer(&issuer.token(json!({})))).status, 200, "{unusable}");
    }
}

#[test]
fn keys_that_share_an_id_are_all_tried() {
    let (old, new) = (Issuer::new("EdDSA"), Issuer::new("EdDSA"));
    let keys = json!({"keys": [old.jwk(), new.jwk()]}).to_string();
    let service = Service::new(vec![Method::Jwt(Jwt { jwks: Some(keys), ..new.provider() })]);
    for issuer in [&old, &new] {
        assert_eq!(service.ask(&bearer(&issuer.token(json!({})))).status, 200);
    }
}

#[test]
fn two_providers_share_a_place() {
    let (one, two) = (Issuer::new("EdDSA"), Issuer::new("ES256"));
    let second = Jwt { name: "second".into(), issuer: "https://two.example.com".into(), ..two.provider() };
    let service = Service::optional(vec![Method::Jwt(one.provider()), Method::Jwt(second)]);
    let token = two.token(json!({"iss": "https://two.example.com"}));
    assert_eq!(service.ask(&bearer(&token)).metadata["second"]["sub"], "ada");
    assert_eq!(service.ask(&bearer(&one.token(json!({})))).metadata["main"]["sub"], "ada");
    let nobody = service.ask(&bearer(&one.token(json!({"iss": "https://three.example.com"}))));
    assert_eq!((nobody.status, nobody.body.as_str()), (401, "Jwt issuer is not configured"));
}

fn refused(provider: Jwt) -> String {
    crate::support::refused(Method::Jwt(provider))
}

#[test]
fn a_provider_that_could_not_protect_is_refused() {
    let issuer = Issuer::new("EdDSA");
    let good = || issuer.provider();
    let with_keys = |keys: Value| Jwt { jwks: Some(json!({ "keys": keys }).to_string()), ..good() };
    let mut off_curve = Issuer::new("ES256").jwk();
    off_curve["y"] = off_curve["x"].clone();
    let weak = json!({"kty": "RSA", "n": crate::support::encode(&[0xC5; 128]), "e": "AQAB"});
    let cases = [
        (Jwt { jwks: Some("no key set".into()), ..good() }, "jwt.jwks: is no JSON Web Key Set"),
        (Jwt { jwks: Some("{}".into()), ..good() }, "jwt.jwks: is no JSON Web Key Set"),
        (Jwt { jwks: None, issuer: "issuer".into(), ..good() }, "jwt.jwks: is missing, and cannot be discovered"),
        (Jwt { jwks_uri: Some("https://issuer/keys".into()), ..good() }, "jwt.jwksUri: `jwks` is set as well"),
        (Jwt { jwks: None, jwks_uri: Some("gopher://a".into()), ..good() }, "jwt.jwksUri: is no https or http URI"),
        (Jwt { jwks: None, jwks_uri: Some("https://a:b@c/".into()), ..good() }, "jwt.jwksUri: must not hold a user"),
        (Jwt { jwks: None, cache_duration_seconds: 0, ..good() }, "jwt.cacheDurationSeconds: must be at least 1"),
        (Jwt { subjects: vec![String::new()], ..good() }, "jwt.subjects[0]: is empty"),
        (Jwt { required_claims: vec![RequiredClaim::default()], ..good() }, "jwt.requiredClaims[0].claim: is empty"),
        (with_keys(json!([])), "holds no key that verifies"),
        (with_keys(json!([{"kty": "oct", "k": "c2VjcmV0"}])), "holds no key that verifies"),
        (with_keys(json!([weak])), "keys[0]: the key is too weak"),
        (with_keys(json!([off_curve])), "keys[0] (kid `key-1`): the key is too weak or not valid"),
        (with_keys(json!([{"kty": "EC", "crv": "P-256", "x": "AA"}])), "keys[0]: `y` is missing"),
        (with_keys(json!([{"kty": "OKP", "crv": "Ed25519", "x": "=="}])), "keys[0]: `x` is not base64url"),
        (Jwt { algorithms: vec!["HS256".into()], ..good() }, "jwt.algorithms[0]: `HS256` is none of RS256"),
        (Jwt { algorithms: vec!["ES512".into()], ..good() }, "jwt.algorithms[0]: `ES512` is none of RS256"),
        (Jwt { algorithms: vec!["none".into()], ..good() }, "jwt.algorithms[0]: `none` is none of RS256"),
        (Jwt { algorithms: vec!["RS256".into()], ..good() }, "holds no key that verifies"),
        (Jwt { issuer: String::new(), ..good() }, "jwt.issuer: is empty"),
        (Jwt { audiences: Vec::new(), ..good() }, "jwt.audiences: must name at least one"),
        (Jwt { audiences: vec![AUDIENCE.into(), String::new()], ..good() }, "jwt.audiences"),
        (Jwt { name: "client".into(), ..good() }, "jwt.name: must be set"),
    ];
    for (provider, expected) in cases {
        let error = refused(provider);
        assert!(error.starts_with("policy `guard`: methods[0].jwt.") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_header_that_cannot_be_set_is_refused() {
    let issuer = Issuer::new("EdDSA");
    for header in ["", "x y", ":path", "host", "Content-Length", "Connection"] {
        let claims_to_headers = vec![to_header("sub", header)];
        let error = refused(Jwt { claims_to_headers, ..issuer.provider() });
        assert!(error.contains("claimsToHeaders[0].header"), "{error}");
    }
    let twice = ["sub", "email"].map(|claim| to_header(claim, "X-Sub"));
    let error = refused(Jwt { claims_to_headers: twice.into(), ..issuer.provider() });
    assert!(error.contains("claimsToHeaders[1].header: `x-sub` is already set from another claim"), "{error}");
}

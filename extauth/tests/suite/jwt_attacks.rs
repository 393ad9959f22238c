//! Tokens that are not what they should be.

use extauth::jwks::KeySet;
use jsonwebtoken::Algorithm;
use proto::extauth::{Jwt, Method, Policy};
use serde_json::json;

use crate::support::{
    Answer, ISSUER, Issuer, NOW, Service, bearer, body, claims, encode, request, request_to, resources, to_header, wait,
};

const UNSUPPORTED: &str = "Jwt header [alg] is not supported";
const FAILS: &str = "Jwt verification fails";
const NO_KEY: &str = "Jwks doesn't have key to match kid or alg from Jwt";
const EXTENSION: &str = "Jwt header has an extension that is not supported";

#[test]
fn j1_none_is_no_algorithm() {
    let issuer = Issuer::new("RS256");
    let service = issuer.service();
    for alg in ["none", "None", "nOnE", "NONE", ""] {
        let header = encode(json!({"alg": alg, "kid": "key-1"}).to_string().as_bytes());
        let payload = encode(claims().to_string().as_bytes());
        assert_eq!(body(&service.ask(&bearer(&format!("{header}.{payload}.")))), UNSUPPORTED, "{alg}");
        assert_eq!(body(&service.ask(&bearer(&issuer.token_with_header(json!({"alg": alg}))))), UNSUPPORTED, "{alg}");
    }
    for alg in [json!(null), json!(256), json!(["RS256"]), json!({"RS256": 1})] {
        let header = json!({"alg": alg, "kid": "key-1"}).to_string();
        assert_eq!(body(&service.ask(&bearer(&issuer.sign(&header, &claims().to_string())))), UNSUPPORTED, "{alg}");
    }
}

#[test]
fn j2_a_public_key_is_no_hmac_secret() {
    let issuer = Issuer::new("RS256");
    let header = json!({"alg": "HS256", "kid": "key-1"}).to_string();
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims().to_string().as_bytes()));
    for secret in [issuer.jwks(), issuer.jwk().to_string(), issuer.jwk()["n"].as_str().unwrap().to_owned()] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
        let token = format!("{message}.{}", encode(signature.as_ref()));
        assert_eq!(body(&issuer.service().ask(&bearer(&token))), UNSUPPORTED);
    }
}

#[test]
fn j3_the_algorithm_is_the_keys_and_the_providers() {
    let issuer = Issuer::new("RS256");
    let token = issuer.token(json!({}));
    let narrow = |algorithms: &[&str], alg: Option<&str>| {
        let mut jwk = issuer.jwk();
        if let Some(alg) = alg {
            jwk["alg"] = alg.into();
        }
        let jwks = Some(json!({ "keys": [jwk] }).to_string());
        let algorithms = algorithms.iter().map(|name| (*name).to_owned()).collect();
        Service::new(vec![Method::Jwt(Jwt { jwks, algorithms, ..issuer.provider() })])
    };
    assert_eq!(narrow(&["RS256"], Some("RS256")).ask(&bearer(&token)).status, 200);
    assert_eq!(body(&narrow(&["RS512"], None).ask(&bearer(&token))), NO_KEY);
    assert_eq!(body(&narrow(&[], Some("PS256")).ask(&bearer(&token))), NO_KEY);
    // The same key and hash with the other padding.
    assert_eq!(body(&issuer.service().ask(&bearer(&issuer.token_with_header(json!({"alg": "PS256"}))))), FAILS);
    assert_eq!(body(&issuer.service().ask(&bearer(&issuer.token_with_header(json!({"alg": "ES256"}))))), NO_KEY);
}

#[test]
fn j4_a_key_id_only_names_a_key() {
    let issuer = Issuer::new("EdDSA");
    let service = issuer.service();
    for kid in ["../../dev/null", "' OR 1=1 --", "/etc/passwd", "key-1 ", "KEY-1", ""] {
        assert_eq!(body(&service.ask(&bearer(&issuer.token_with_header(json!({"kid": kid}))))), NO_KEY, "{kid}");
    }
    for kid in [json!("key-1\0"), json!("a\nb"), json!("k".repeat(300)), json!(1), json!(["key-1"]), json!({})] {
        let token = issuer.token_with_header(json!({"kid": kid}));
        assert_eq!(body(&service.ask(&bearer(&token))), "Jwt header [kid] field is not a string", "{kid}");
    }
    let without = issuer.token_with_header(json!({"kid": null}));
    assert_eq!(body(&service.ask(&bearer(&without))), NO_KEY, "a key with an id is only used by that id");
}

#[test]
fn j5_keys_in_the_header_are_not_read() {
    let (issuer, attacker) = (Issuer::new("EdDSA"), Issuer::new("EdDSA"));
    let headers = json!({
        "jwk": attacker.jwk(), "jku": "http://127.0.0.1:9/jwks", "x5u": "http://127.0.0.1:9/cert", "x5c": ["AAAA"],
    });
    assert_eq!(body(&issuer.service().ask(&bearer(&attacker.token_with_header(headers.clone())))), FAILS);
    assert_eq!(issuer.service().ask(&bearer(&issuer.token_with_header(headers))).status, 200);
}

#[test]
fn j6_sizes_are_bounded() {
    let issuer = Issuer::new("EdDSA");
    let service = issuer.service();
    let large = issuer.token(json!({"data": "x".repeat(8 * 1024)}));
    assert_eq!(body(&service.ask(&bearer(&large))), "Jwt is too long");
    let header = issuer.token_with_header(json!({"data": "x".repeat(2 * 1024)}));
    assert_eq!(body(&service.ask(&bearer(&header))), "Jwt header is an invalid Base64url encoded");
    let deep = format!("{}1{}", "[".repeat(2500), "]".repeat(2500));
    let payload = format!("{{\"iss\":\"{ISSUER}\",\"deep\":{deep}}}");
    let token = issuer.sign(&issuer.header().to_string(), &payload);
    assert_eq!(body(&service.ask(&bearer(&token))), "Jwt payload is an invalid JSON");
}

#[test]
fn j11_members_that_stand_twice_are_refused() {
    let issuer = Issuer::new("EdDSA");
    let service = issuer.service();
    let header = issuer.header().to_string();
    let payload = claims().to_string().replacen('{', "{\"sub\":\"root\",", 1);
    assert_eq!(body(&service.ask(&bearer(&issuer.sign(&header, &payload)))), "Jwt payload is an invalid JSON");
    let nested = claims().to_string().replacen('{', "{\"realm\":{\"a\":1,\"a\":2},", 1);
    assert_eq!(body(&service.ask(&bearer(&issuer.sign(&header, &nested)))), "Jwt payload is an invalid JSON");
    let header = header.replacen('{', "{\"alg\":\"none\",", 1);
    let answer = service.ask(&bearer(&issuer.sign(&header, &claims().to_string())));
    assert_eq!(body(&answer), "Jwt header is an invalid JSON");
}

#[test]
fn j12_a_token_has_one_spelling() {
    let issuer = Issuer::new("ES256");
    let service = issuer.service();
    let token = issuer.token(json!({}));
    assert_eq!(service.ask(&bearer(&token)).status, 200);
    let parts: Vec<&str> = token.split('.').collect();
    let flip = |text: &str| {
        // The last character of 64 bytes carries four bits that mean nothing.
        let last = text.chars().last().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = alphabet.chars().nth(alphabet.find(last).unwrap() ^ 1).unwrap();
        format!("{}{next}", &text[..text.len() - 1])
    };
    let spellings = [
        format!("{token}="),
        format!("{token}=="),
        format!("{}.{}.{}", parts[0], parts[1], flip(parts[2])),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}.{}%3D", parts[0], parts[1], parts[2]),
        format!("{} .{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}\t.{}", parts[0], parts[1], parts[2]),
        format!("{}+/.{}.{}", parts[0], parts[1], parts[2]),
        format!(".{token}"),
        format!("{token}."),
        format!("{token}.{}", parts[2]),
        format!("{}.{}", parts[0], parts[1]),
    ];
    for spelling in spellings {
        assert_eq!(service.ask(&bearer(&spelling)).status, 401, "{spelling}");
    }
    for scheme in [format!("Bearer  {token}"), format!("Bearer {token} "), format!("Bearer \t{token}")] {
        assert_eq!(service.ask(&request(&[("authorization", &scheme)])).status, 401);
    }
    assert_eq!(service.ask(&request(&[("authorization", &format!("bEARER {token}"))])).status, 200);
}

#[test]
fn j13_j17_extensions_that_nobody_understands_are_refused() {
    let issuer = Issuer::new("EdDSA");
    for header in
        [json!({"crit": ["exp"]}), json!({"crit": []}), json!({"b64": false, "crit": ["b64"]}), json!({"b64": false})]
    {
        let answer = issuer.service().ask(&bearer(&issuer.token_with_header(header.clone())));
        assert_eq!(body(&answer), EXTENSION, "{header}");
    }
}

#[test]
fn j14_encrypted_nested_and_packed_tokens_are_refused() {
    let issuer = Issuer::new("EdDSA");
    for header in [json!({"zip": "DEF"}), json!({"enc": "A256GCM"}), json!({"cty": "JWT"}), json!({"cty": "jwt"})] {
        let answer = issuer.service().ask(&bearer(&issuer.token_with_header(header.clone())));
        assert_eq!(body(&answer), EXTENSION, "{header}");
    }
    let jwe = format!("{}.a.b.c.d", encode(br#"{"alg":"dir","enc":"A256GCM"}"#));
    assert_eq!(issuer.service().ask(&bearer(&jwe)).status, 401);
}

#[test]
fn j15_ecdsa_signatures_are_two_numbers_of_the_curve() {
    let issuer = Issuer::new("ES256");
    let token = issuer.token(json!({}));
    let (message, _) = token.rsplit_once('.').unwrap();
    let raw = issuer.signature(message.as_bytes());
    let der = [&[0x30, 0x44, 0x02, 0x20], &raw[..32], &[0x02, 0x20], &raw[32..]].concat();
    let tampered = [vec![0; 64], vec![0; 96], raw[..63].to_vec(), [raw.as_slice(), &[0]].concat(), der, Vec::new()];
    for signature in tampered {
        let answer = issuer.service().ask(&bearer(&format!("{message}.{}", encode(&signature))));
        assert_eq!(body(&answer), FAILS, "{} bytes", signature.len());
    }
    let answer = issuer.service().ask(&bearer(&issuer.token_with_header(json!({"alg": "ES384"}))));
    assert_eq!(body(&answer), NO_KEY);
}

#[test]
fn j16_keys_of_small_order_are_refused() {
    // The y coordinates of orders 1, 2, 4 and 8, little endian, and two that are only equal to the first ones modulo p.
    let points = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let mut unusable = 0;
    for point in points {
        let byte = |index: usize| u8::from_str_radix(&point[index..index + 2], 16).unwrap();
        let positive: Vec<u8> = (0..64).step_by(2).map(byte).collect();
        let mut negative = positive.clone();
        negative[31] |= 0x80;
        for x in [positive, negative] {
            let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": encode(&x)}]}).to_string();
            match KeySet::parse(&jwks, &[Algorithm::EdDSA]) {
                Err(error) => assert!(error.to_string().contains("too weak"), "{point}: {error}"),
                // Such as x = 0 with the sign of a negative: no encoding at all, so that nothing verifies.
                Ok(keys) => {
                    let forged = [[1].as_slice(), &[0; 63]].concat();
                    let verifies =
                        |message: u16| keys.verify(Algorithm::EdDSA, None, &message.to_be_bytes(), &forged).unwrap();
                    assert!(!(0..1000).any(verifies), "{point}");
                    unusable += 1;
                }
            }
        }
    }
    assert!(unusable <= 6, "most of them are usable keys");
}

#[test]
fn j18_providers_that_share_a_key_id_do_not_vouch_for_each_other() {
    let (one, two) = (Issuer::new("EdDSA"), Issuer::new("EdDSA"));
    let second = Jwt { name: "second".into(), issuer: "https://two.example.com".into(), ..two.provider() };
    for methods in [vec![one.provider(), second.clone()], vec![second, one.provider()]] {
        let service = Service::new(methods.into_iter().map(Method::Jwt).collect());
        let forged = one.token(json!({"iss": "https://two.example.com"}));
        assert_eq!(body(&service.ask(&bearer(&forged))), FAILS);
    }
}

#[test]
fn j19_a_cached_token_is_good_for_its_own_provider_only() {
    let issuer = Issuer::new("EdDSA");
    let resources = resources();
    let compile = |provider: Jwt| {
        let policy = Policy { name: "guard".into(), methods: vec![Method::Jwt(provider)], ..Policy::default() };
        extauth::policy::Policies::compile(&[policy], &resources).unwrap()
    };
    let request = bearer(&issuer.token(json!({"role": "user"})));
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(NOW);
    let ask = |policies: &extauth::policy::Policies| {
        Answer::of(wait(policies.check(&extauth::check::Check::new(&request, now).unwrap())).into())
    };
    let first = compile(issuer.provider());
    assert_eq!((ask(&first).status, ask(&first).status), (200, 200));
    let other = Jwt { audiences: vec!["other".into()], ..issuer.provider() };
    assert_eq!(ask(&compile(other)).status, 403);
    // J20: the key was rotated, and whatever it signed is worth nothing.
    let rotated = Jwt { jwks: Some(Issuer::new("EdDSA").jwks()), ..issuer.provider() };
    assert_eq!(ask(&compile(rotated)).status, 401);
    let role = vec![to_header("role", "x-role")];
    assert_eq!(ask(&compile(Jwt { claims_to_headers: role, ..issuer.provider() })).set["x-role"], "user");
}

#[test]
fn j19_a_cached_token_is_every_byte_of_itself() {
    let issuer = Issuer::new("EdDSA");
    let service = issuer.service();
    let token = issuer.token(json!({"sub": "ada"}));
    assert_eq!(service.ask(&bearer(&token)).status, 200);
    for index in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(bytes).unwrap();
        assert_ne!(service.ask(&bearer(&other)).status, 200, "byte {index}");
    }
}

#[test]
fn j20_a_cached_token_ends_on_time() {
    let issuer = Issuer::new("EdDSA");
    let mut service = Service::new(vec![Method::Jwt(Jwt { leeway_seconds: 0, ..issuer.provider() })]);
    let request = bearer(&issuer.token(json!({"exp": NOW + 100, "nbf": NOW})));
    assert_eq!(service.ask(&request).status, 200);
    service.now = NOW + 99;
    assert_eq!(service.ask(&request).status, 200);
    service.now = NOW + 100;
    assert_eq!(body(&service.ask(&request)), "Jwt is expired");
    service.now = NOW - 1;
    assert_eq!(body(&service.ask(&request)), "Jwt not yet valid", "a clock that was set back counts as well");
}

#[test]
fn j21_tokens_are_looked_for_where_configured_and_only_one_may_be_there() {
    let issuer = Issuer::new("EdDSA");
    let token = issuer.token(json!({}));
    let elsewhere = [
        request_to(&format!("/?access_token={token}"), &[]),
        request(&[("cookie", &format!("access_token={token}"))]),
        request(&[("x-authorization", &format!("Bearer {token}"))]),
    ];
    for request in &elsewhere {
        assert_eq!(body(&issuer.service().ask(request)), "Jwt is missing");
    }
    let twice = request(&[("authorization", &format!("Bearer {token},Bearer {token}"))]);
    assert_eq!(issuer.service().ask(&twice).status, 401);
    let beside = request(&[("authorization", &format!("Basic YTpi, Bearer {token}"))]);
    assert_eq!(issuer.service().ask(&beside).status, 401);
}

#[test]
fn cve_2022_29226_garbage_in_a_tokens_place_is_not_anonymous() {
    let issuer = Issuer::new("EdDSA");
    let service = Service::optional(vec![Method::Jwt(issuer.provider())]);
    for garbage in ["Bearer x", "Bearer ", "Bearer", "Bearer a.b.c", "bearer null"] {
        assert_eq!(service.ask(&request(&[("authorization", garbage)])).status, 401, "{garbage}");
    }
    assert_eq!(service.ask(&request(&[])).status, 200);
}

#[test]
fn cve_2025_64527_two_authorization_headers_are_refused() {
    let issuer = Issuer::new("EdDSA");
    let service = Service::optional(vec![Method::Jwt(issuer.provider())]);
    let token = issuer.token(json!({}));
    let both = request(&[("authorization", &format!("Bearer {token},Bearer garbage"))]);
    assert_eq!(service.ask(&both).status, 401);
}

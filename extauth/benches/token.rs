//! What a check takes from the question's bytes to the answer's: of a token that was never seen, beside the library's own
//! verification of signature and claims as the floor; of one that was; of an API key; and of a session.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Bencher, Criterion, criterion_group, criterion_main};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use extauth::check::Check;
use extauth::method::api_key::Hash;
use extauth::policy::Policies;
use extauth::resources::{Options, Resources};
use extauth::session::Record;
use extauth::verdict::Verdict;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use prost::Message as _;
use proto::extauth::{ApiKey, ClaimToHeader, Jwt, Key, Method, Policy, Source};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

const NOW: u64 = 1_900_000_000;

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of about 1 kB, with the key that verifies it.
fn signed(algorithm: Algorithm) -> (String, Value) {
    let random = SystemRandom::new();
    let header = json!({"alg": format!("{algorithm:?}"), "typ": "JWT", "kid": "key-1"});
    let claims = json!({
        "iss": "https://issuer.example.com", "aud": "api", "sub": "ada", "exp": NOW + 3600, "iat": NOW, "jti": "f3c1",
        "email": "ada@example.com", "tenant": "acme", "scope": "openid profile email orders:read orders:write",
        "realm_access": {"roles": ["user", "editor", "offline_access", "uma_authorization"]},
        "groups": (0..12).map(|number| format!("/teams/team-{number}")).collect::<Vec<_>>(),
    });
    let message = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let (signature, mut jwk) = if algorithm == Algorithm::RS256 {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
        let der = pair.public_key().as_ref();
        (signature, json!({"kty": "RSA", "n": encode(&der[9..265]), "e": encode(&der[267..])}))
    } else {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let signature = pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec();
        let point = &pair.public_key().as_ref()[1..];
        (signature, json!({"kty": "EC", "crv": "P-256", "x": encode(&point[..32]), "y": encode(&point[32..])}))
    };
    jwk["kid"] = "key-1".into();
    (format!("{message}.{}", encode(&signature)), jwk)
}

fn policies(jwk: &Value, resources: &Resources) -> Policies {
    let to_header = |claim: &str, header: &str| ClaimToHeader {
        claim: claim.into(),
        header: header.into(),
        ..ClaimToHeader::default()
    };
    let jwt = Jwt {
        name: "main".into(),
        issuer: "https://issuer.example.com".into(),
        audiences: vec!["api".into()],
        jwks: Some(json!({ "keys": [jwk] }).to_string()),
        claims_to_headers: vec![to_header("sub", "x-sub"), to_header("tenant", "x-tenant")],
        ..Jwt::default()
    };
    let policy = Policy { name: "guard".into(), methods: vec![Method::Jwt(jwt)], ..Policy::default() };
    Policies::compile(&[policy], resources).unwrap()
}

fn question(header: &str, value: &str) -> Vec<u8> {
    let mut headers: HashMap<_, _> =
        (0..14).map(|number| (format!("x-header-{number}"), format!("what a browser says, {number}"))).collect();
    headers.insert(header.to_owned(), value.to_owned());
    let http =
        HttpRequest { host: "shop.example.com".into(), path: "/orders".into(), headers, ..HttpRequest::default() };
    let attributes = AttributeContext {
        request: Some(Request { http: Some(http), ..Request::default() }),
        context_extensions: [("policy".to_owned(), "guard".to_owned())].into(),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }.encode_to_vec()
}

/// Asks until the clock has seen enough.
fn ask(bencher: &mut Bencher<'_>, runtime: &Runtime, policies: &Policies, question: &[u8]) {
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    bencher.iter(|| {
        let check = Check::decode(black_box(question), now).unwrap();
        let verdict = runtime.block_on(policies.check(&check));
        assert!(matches!(verdict, Verdict::Allow(_)));
        let mut answer = Vec::with_capacity(4096);
        verdict.encode(&mut answer).unwrap();
        answer
    });
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn token(criterion: &mut Criterion) {
    let runtime = runtime();
    let resources = |bytes| Resources::new(&Options { token_cache_bytes: bytes, ..Options::default() }).unwrap();
    for algorithm in [Algorithm::RS256, Algorithm::ES256] {
        let (token, jwk) = signed(algorithm);
        let question = question("authorization", &format!("Bearer {token}"));
        let mut group = criterion.benchmark_group(format!("{algorithm:?}"));

        let key = DecodingKey::from_jwk(&serde_json::from_value::<Jwk>(jwk.clone()).unwrap()).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&["api"]);
        validation.set_issuer(&["https://issuer.example.com"]);
        group.bench_function("floor", |bencher| {
            bencher.iter(|| jsonwebtoken::decode::<Value>(black_box(&token), &key, &validation).unwrap());
        });

        for (name, bytes) in [("never seen", 0), ("seen", 1 << 20)] {
            let resources = resources(bytes);
            let policies = policies(&jwk, &resources);
            group.bench_function(name, |bencher| ask(bencher, &runtime, &policies, &question));
        }
        group.finish();
    }
}

fn api_key(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("API key");
    for count in [1_000, 100_000] {
        let keys = (0..count).map(|number| Key {
            hash: Hash::of(&format!("key-{number}"), None).unwrap().to_string(),
            client: format!("client-{number:06}"),
            tier: Some("gold".into()),
            ..Key::default()
        });
        let from = vec![Source::Header { name: "x-api-key".into(), prefix: String::new() }];
        let client_header = Some("x-client".into());
        let method = Method::ApiKey(ApiKey { from, keys: keys.collect(), client_header, ..ApiKey::default() });
        let policy = Policy { name: "guard".into(), methods: vec![method], ..Policy::default() };
        let policies = Policies::compile(&[policy], &Resources::new(&Options::default()).unwrap()).unwrap();
        let question = question("x-api-key", "key-700");
        group.bench_function(format!("of {count}"), |bencher| ask(bencher, &runtime, &policies, &question));
    }
    group.finish();
}

/// In use, so that the store is asked once a second.
fn session(criterion: &mut Criterion) {
    let runtime = runtime();
    let resources = Resources::new(&Options::default()).unwrap();
    let oidc = json!({
        "providers": [{"name": "main", "issuer": "http://127.0.0.1:9", "clientID": "shop", "clientAuth": "none"}],
        "cookie": {"name": "session"}, "claimsToHeaders": [{"claim": "sub", "header": "x-sub"}],
    });
    let method = Method::Oidc(serde_json::from_value(oidc).unwrap());
    let policy = Policy { name: "guard".into(), methods: vec![method], ..Policy::default() };
    let policies = Policies::compile(&[policy], &resources).unwrap();
    let (token, _) = signed(Algorithm::ES256);
    let record = json!({
        "provider": "main", "issuer": "http://127.0.0.1:9", "client_id": "shop", "subject": "ada", "sid": null, "id_token": token,
        "user_info": {}, "access_token": token, "access_expires": NOW + 3600, "refresh_token": null, "created": NOW,
        "renewed": NOW, "expires": NOW + 3600, "latest": null,
    });
    let record: Record = serde_json::from_value(record).unwrap();
    let id = runtime.block_on(resources.sessions.begin(record, NOW)).unwrap();
    let question = question("cookie", &format!("theme=dark; session={}", id.expose()));
    criterion.bench_function("session", |bencher| ask(bencher, &runtime, &policies, &question));
}

criterion_group!(benches, token, api_key, session);
criterion_main!(benches);

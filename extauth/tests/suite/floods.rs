//! Floods of credentials, messages and bytes: what they may cost in memory, and that nobody else notices.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use extauth::config::{Config, Files};
use extauth::policy::Policies;
use extauth::resources::Resources;
use extauth::service::Authorizer;
use extauth::source::dir::Dir;
use proptest::prelude::*;
use proto::extauth::{Basic, Introspection, Method, Policies as File, Policy, Secret};
use serde_json::json;

use crate::running::{Running, ask};
use crate::support::{Answer, Issuer, Service, alone, api_keys, bearer, key, request, resident, resources, wait};
use crate::web::{Reply, Web};

const MEBIBYTE: usize = 1 << 20;

fn guard() -> Vec<Policy> {
    let methods = vec![Method::ApiKey(api_keys(vec![key("a-key", "acme")]))];
    vec![Policy { name: "guard".into(), methods, ..Policy::default() }]
}

#[test]
fn p06_no_flood_of_credentials_takes_memory_that_grows() {
    alone("floods::memory_under_floods");
}

/// What a flood of `number` costs beyond one of a fifth of that, which fills what is bounded.
fn growth(number: usize, mut ask: impl FnMut(usize)) -> usize {
    (0..number / 5).for_each(&mut ask);
    let before = resident();
    (number / 5..number).for_each(ask);
    resident().saturating_sub(before)
}

#[test]
#[ignore = "another test runs it, alone in its process"]
fn memory_under_floods() {
    let resources = resources();
    let issuer = Issuer::new("EdDSA");
    let stranger = Issuer::new("EdDSA");
    let web = Web::replying(Reply::ok(r#"{"active": false}"#));
    let basic = |token: &str| {
        let credentials = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, token);
        request(&[("authorization", &format!("Basic {credentials}"))])
    };
    let keys = Service::sharing(&resources, vec![Method::ApiKey(api_keys(vec![key("a-key", "acme")]))]);
    let tokens = Service::sharing(&resources, vec![Method::Jwt(issuer.provider())]);
    let opaque = Introspection {
        name: "opaque".into(),
        endpoint: web.url("/introspect"),
        client_id: "tollgate".into(),
        client_secret: Some(Secret::new("secret")),
        ..Introspection::default()
    };
    let opaque = Service::sharing(&resources, vec![Method::Introspection(opaque)]);
    let users = Basic { htpasswd: Some(Secret::new("ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=")), ..Basic::default() };
    let users = Service::sharing(&resources, vec![Method::Basic(users)]);
    let long = "x".repeat(2000);
    let ask =
        |service: &Service, request: CheckRequest, expected: u16| assert_eq!(service.ask(&request).status, expected);
    let grown = [
        growth(10_000, |n| ask(&keys, request(&[("x-api-key", &format!("key-{n}-{long}"))]), 401)),
        growth(5_000, |n| ask(&tokens, bearer(&stranger.token(json!({"jti": n, "long": long}))), 401)),
        growth(5_000, |n| ask(&tokens, bearer(&issuer.token(json!({"jti": n, "long": long}))), 200)),
        growth(5_000, |n| ask(&tokens, bearer(&stranger.token_with_header(json!({"kid": format!("key-{n}")}))), 401)),
        growth(1_500, |n| ask(&opaque, bearer(&format!("opaque-{n}-{long}")), 401)),
        growth(10_000, |n| ask(&users, basic(&format!("ada:password-{n}")), 401)),
    ];
    println!("grown by {grown:?} bytes");
    // The web server of the test remembers what it was asked: 2 KiB each.
    let most = [4, 4, 4, 4, 12, 4].map(|mebibytes| mebibytes * MEBIBYTE);
    assert!(grown.iter().zip(most).all(|(grown, most)| *grown < most), "{grown:?} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn c47_e5_messages_of_8_mib_are_refused_and_take_no_memory() {
    let running = Running::start(guard());
    let mut innocent = running.client().await;
    let known = || request(&[("x-api-key", "a-key")]);
    assert_eq!(ask(&mut innocent, known()).await.status, 200);
    let before = running.resident();
    let large = "x".repeat(8 * MEBIBYTE);
    for _ in 0..3 {
        let mut flood = Vec::new();
        for _ in 0..8 {
            let (mut client, asked) = (running.client().await, request(&[("x-api-key", "a-key"), ("x-large", &large)]));
            flood.push(tokio::spawn(async move { client.check(asked).await.is_err() }));
        }
        for _ in 0..20 {
            assert_eq!(ask(&mut innocent, known()).await.status, 200);
        }
        for refused in flood {
            assert!(refused.await.unwrap(), "8 MiB are too much");
        }
    }
    let grown = running.resident().saturating_sub(before);
    assert!(grown < 32 * MEBIBYTE, "{grown} bytes");
}

#[tokio::test]
async fn c47_headers_of_64_kib_are_refused_on_either_port() {
    let running = Running::start(guard());
    let mut client = running.client().await;
    let mut asked = tonic::Request::new(request(&[("x-api-key", "a-key")]));
    asked.metadata_mut().insert("x-large", "x".repeat(64 * 1024).parse().unwrap());
    assert!(client.check(asked).await.is_err(), "no gRPC call of Envoy's has such headers");
    assert_eq!(ask(&mut client, request(&[("x-api-key", "a-key")])).await.status, 200, "on the same connection");

    let over_http = |lines: &str, body: usize| {
        let mut stream = UnixStream::connect(running.path("service.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let head = format!("POST /auth/x HTTP/1.1\r\nhost: a\r\nx-policy: guard\r\nconnection: close\r\n{lines}");
        // The answer may come, and the connection end, before all is sent.
        let _ = stream.write_all(format!("{head}content-length: {body}\r\n\r\n").as_bytes());
        let piece = vec![b'x'; 64 * 1024];
        let _ = (0..body / piece.len()).try_for_each(|_| stream.write_all(&piece));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse::<u16>().ok())
    };
    let key = "x-api-key: a-key\r\n";
    assert_eq!(over_http(key, 0), Some(200));
    let before = running.resident();
    for _ in 0..20 {
        assert_ne!(over_http(key, 8 * MEBIBYTE), Some(200), "a body beyond what is read is not judged");
        let endless = format!("x-large: {}\r\n", "x".repeat(2 * MEBIBYTE));
        assert_ne!(over_http(&format!("{key}{endless}"), 0), Some(200));
        let many = (0..1000).map(|n| format!("x-many-{n}: x")).collect::<Vec<_>>().join("\r\n") + "\r\n";
        assert_ne!(over_http(&format!("{key}{many}"), 0), Some(200));
    }
    assert_eq!(over_http(key, 0), Some(200));
    let grown = running.resident().saturating_sub(before);
    assert!(grown < 32 * MEBIBYTE, "{grown} bytes");
}

const POLICIES: &str = "\
policies:
- name: guard
  methods:
  - apiKey: {from: [{header: {name: x-api-key}}], keys: [{hash: 'sha256:0000000000000000000000000000000000000000000000000000000000000000', client: acme}]}
  - jwt: {name: main, issuer: https://issuer.example.com, audiences: [api], jwksUri: 'https://issuer.example.com/keys', claimsToHeaders: [{claim: sub, header: x-sub}]}
  rules:
  - name: office
    action: allow
    when: {clientIps: [10.0.0.0/8], paths: [{regex: '/a(b|c)*'}], cel: \"request.method == 'GET' && has(claims.sub)\"}
  results: {headers: [{name: x-user, value: '{client}'}]}
  match: [{hosts: ['*.example.com'], pathPrefixes: [/]}]
";

static SHARED: LazyLock<Resources> = LazyLock::new(resources);

fn compiled(text: &str) -> Result<Vec<Policy>, String> {
    let files: Files = [("guard.yaml".to_owned(), text.to_owned())].into();
    let config = Config::parse(&files).map_err(|error| error.to_string())?;
    Policies::compile(&config.policies, &SHARED).map_err(|error| config.locate(&error).to_string())?;
    Ok(config.policies)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c15_no_policy_file_panics_however_it_is_mangled(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[ -~\n]{0,6}|[\\[\\]{}()*'\"&|:#-]{1,4}"), 1..4),
    ) {
        let mut text = POLICIES.to_owned();
        for (index, length, put) in changes {
            let at = index.index(text.len());
            text.replace_range(at..(at + length).min(text.len()), &put);
        }
        let _ = compiled(&text);
    }
}

#[test]
fn p08_a_file_cut_off_anywhere_is_what_it_says_or_keeps_the_last_good_policies() {
    assert_eq!(compiled(POLICIES).map(|policies| policies.len()), Ok(1));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("guard.yaml");
    let authorizer = Authorizer::new(resources());
    let mut source = Dir::new(dir.path(), authorizer.clone(), None);
    let status = || {
        let asked = request(&[("x-api-key", "a-key")]);
        Answer::of(wait(authorizer.answer(&asked, std::time::SystemTime::now()))).status
    };
    // As the controller and other programs write them, no part of a file is a file.
    let whole = serde_json::to_string(&File { policies: guard() }).unwrap();
    std::fs::write(&file, &whole).unwrap();
    assert!(source.load().unwrap());
    assert_eq!(status(), 200);
    for length in 0..whole.len() {
        std::fs::write(&file, &whole[..length]).unwrap();
        source.load().unwrap_err();
        assert_eq!(status(), 200, "{length}");
    }
    // What people write may be whole before its end, and then says less; it never says anything else.
    let all = compiled(POLICIES).unwrap().remove(0);
    for length in 0..POLICIES.len() {
        for policy in compiled(&POLICIES[..length]).unwrap_or_default() {
            assert!(all.name.starts_with(&policy.name) && policy.methods.len() <= all.methods.len(), "{length}");
        }
    }
}

//! What holds for every request, whatever stands in it.

use std::sync::LazyLock;
use std::time::{Duration, Instant, UNIX_EPOCH};

use envoy_types::pb::envoy::config::core::v3::{Address, HeaderMap, HeaderValue, Pipe, SocketAddress, address};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use extauth::check::{Check, Error};
use extauth::policy::Policies;
use extauth::verdict::Verdict;
use prost::Message as _;
use serde_json::json;

use extauth::header::alike;
use proptest::prelude::*;
use proto::extauth::{ApiKey, Jwt, Method, Policy, Source};

use crate::support::{Issuer, Service, api_keys, header, key, request_to, resources, to_header, wait};

const KEY: &str = "the-key";

fn methods() -> Vec<Method> {
    let from = vec![
        header("x-api-key", ""),
        header("authorization", "ApiKey "),
        Source::Query { name: "key".into() },
        Source::Cookie { name: "key".into() },
    ];
    let claims_to_headers = vec![to_header("sub", "x-sub")];
    let jwt = Jwt { claims_to_headers, ..Issuer::new("EdDSA").provider() };
    vec![Method::ApiKey(ApiKey { from, ..api_keys(vec![key(KEY, "acme")]) }), Method::Jwt(jwt)]
}

static GUARDED: LazyLock<Service> = LazyLock::new(|| Service::new(methods()));
static OPTIONAL: LazyLock<Service> = LazyLock::new(|| Service::optional(methods()));

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["authorization", "cookie", "x-api-key", "[xX][-_.][cC]lient", "[xX][-_.]sub", "[a-z-]{1,12}"]
}

/// Bits of credentials, strung together with what separates them, or anything at all.
fn value() -> impl Strategy<Value = String> {
    prop_oneof!["(Bearer|ApiKey|key|=|;|,| |\\.|eyJhbGciOiJFZERTQSJ9|[a-z\u{0}-\u{20}]){0,12}", any::<String>()]
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((name(), value()), 0..6)
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_passes_without_a_credential_and_nothing_panics(headers in headers(), path in value()) {
        let request = request_to(&format!("/{path}"), &borrowed(&headers));
        prop_assert_ne!(GUARDED.ask(&request).status, 200);
    }

    #[test]
    fn what_the_upstream_hears_of_the_client_comes_from_us(headers in headers()) {
        let mut headers = headers;
        headers.retain(|(name, _)| !["authorization", "cookie", "x-api-key"].contains(&name.as_str()));
        for credential in [None, Some(("x-api-key".to_owned(), KEY.to_owned()))] {
            let mut sent = headers.clone();
            sent.extend(credential.clone());
            let answer = OPTIONAL.ask(&request_to("/", &borrowed(&sent)));
            prop_assert_eq!(answer.status, 200);
            sent.retain(|(name, _)| !answer.removed.iter().any(|removed| removed.eq_ignore_ascii_case(name)));
            sent.retain(|(name, _)| !answer.set.keys().any(|set| set.eq_ignore_ascii_case(name)));
            sent.extend(answer.set);
            let heard: Vec<_> = sent.iter().filter(|(name, _)| alike(name, "x-client") || alike(name, "x-sub")).collect();
            let acme = ("x-client".to_owned(), "acme".to_owned());
            prop_assert_eq!(heard, credential.iter().map(|_| &acme).collect::<Vec<_>>());
            prop_assert!(!sent.iter().any(|(_, value)| value == KEY));
        }
    }

    #[test]
    fn c27_c47_no_question_panics_however_it_is_mangled(
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12), path in value(),
    ) {
        let mut question = request_to(&format!("/{path}"), &[("authorization", "Bearer a.b.c"), ("cookie", "key=x"), ("x-role", "a,b")]).encode_to_vec();
        for (index, byte) in bytes {
            let at = index.index(question.len());
            question[at] = byte;
        }
        if let Ok(check) = Check::decode(&question, UNIX_EPOCH) {
            let verdict = wait(RULED.check(&check));
            prop_assert!(!matches!(verdict, Verdict::Allow(_)));
        }
        let Ok(question) = CheckRequest::decode(question.as_slice()) else { return Ok(()) };
        if let Ok(check) = Check::new(&question, UNIX_EPOCH) {
            let verdict = wait(RULED.check(&check));
            prop_assert!(!matches!(verdict, Verdict::Allow(_)));
        }
    }

    #[test]
    fn c27_a_question_says_what_protobuf_says_it_does(
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut in any::<prop::sample::Index>(), raw in any::<bool>(),
    ) {
        let mut question = whole_question(raw).encode_to_vec();
        for (index, byte) in &bytes {
            let at = index.index(question.len());
            question[at] = *byte;
        }
        if bytes.len() == 3 {
            question.truncate(cut.index(question.len()));
        }
        let read = Check::decode(&question, UNIX_EPOCH);
        let Ok(tree) = CheckRequest::decode(question.as_slice()) else { return Ok(()) };
        match (read, Check::new(&tree, UNIX_EPOCH)) {
            // Groups are passed over there.
            (Err(Error::Malformed), _) => prop_assert!(!bytes.is_empty()),
            (Err(error), expected) => prop_assert_eq!(Some(error), expected.err()),
            (Ok(read), expected) => prop_assert_eq!(said(&read), said(&expected.unwrap())),
        }
    }
}

/// A question with all fields that are looked at, and some that are not.
fn whole_question(raw: bool) -> CheckRequest {
    let mut question = request_to("/a?b=c", &[("cookie", "a=b"), ("x-role", "a,b"), ("x-request-id", "r")]);
    let attributes = question.attributes.as_mut().unwrap();
    let socket = SocketAddress { address: "10.4.2.9".into(), ..SocketAddress::default() };
    attributes.source = Some(Peer {
        address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
        service: "web".into(),
        principal: "spiffe://example.org/ns/shop".into(),
        certificate: "-----BEGIN".into(),
        ..Peer::default()
    });
    attributes.destination = Some(Peer { principal: "not this one".into(), ..Peer::default() });
    attributes.context_extensions.insert("route".into(), "shop".into());
    let http = attributes.request.as_mut().unwrap().http.as_mut().unwrap();
    (http.id, http.scheme, http.protocol) = ("4711".into(), "https".into(), "HTTP/2".into());
    (http.method, http.size) = ("POST".into(), 5);
    if raw {
        let header = |key: &str, raw_value: &[u8]| HeaderValue {
            key: key.into(),
            value: "text".into(),
            raw_value: raw_value.into(),
        };
        let headers =
            [("x-role", "ü".as_bytes()), ("x-role", b"b"), ("x-envoy-auth-partial-body", b"false"), ("x-text", b"")];
        http.header_map = Some(HeaderMap { headers: headers.map(|(name, value)| header(name, value)).into() });
        http.raw_body = b"hello".into();
    } else {
        http.body = "hello".into();
        http.headers.insert("x-envoy-auth-partial-body".into(), "false".into());
    }
    question
}

/// All that a policy may ask for.
fn said(check: &Check<'_>) -> String {
    let mut headers = check.headers().to_vec();
    headers.sort_unstable();
    let who = (check.policy(), check.source(), check.peer_certificate(), check.peer_principal());
    let what = (check.method(), check.scheme(), check.host(), check.target(), check.whole_body(), check.request_id());
    format!("{who:?} {what:?} {headers:?}")
}

#[test]
fn c27_a_whole_question_is_read_whole() {
    for raw in [false, true] {
        let question = whole_question(raw);
        let encoded = question.encode_to_vec();
        let (read, expected) =
            (Check::decode(&encoded, UNIX_EPOCH).unwrap(), Check::new(&question, UNIX_EPOCH).unwrap());
        assert_eq!(said(&read), said(&expected));
        assert_eq!(read.whole_body(), Some("hello"));
        for length in 0..encoded.len() {
            // Whatever is missing, nothing else takes its place.
            let _ = Check::decode(&encoded[..length], UNIX_EPOCH);
        }
        // Said once more in parts, the last word counts.
        let twice = [encoded.as_slice(), &CheckRequest { attributes: Some(parts()) }.encode_to_vec()].concat();
        let (read, tree) =
            (Check::decode(&twice, UNIX_EPOCH).unwrap(), CheckRequest::decode(twice.as_slice()).unwrap());
        assert_eq!(said(&read), said(&Check::new(&tree, UNIX_EPOCH).unwrap()));
        assert_eq!((read.method(), read.host(), read.source()), ("PUT", "shop.example.com", None));
    }
    assert_eq!(Check::decode(b"", UNIX_EPOCH).unwrap_err(), Error::NoRequest);
    assert_eq!(Check::decode(b"\x0a\x7f", UNIX_EPOCH).unwrap_err(), Error::Malformed);
}

/// Another method, and a pipe where an address was.
fn parts() -> AttributeContext {
    let pipe = address::Address::Pipe(Pipe::default());
    AttributeContext {
        source: Some(Peer { address: Some(Address { address: Some(pipe) }), ..Peer::default() }),
        request: Some(Request {
            http: Some(HttpRequest { method: "PUT".into(), ..HttpRequest::default() }),
            ..Request::default()
        }),
        ..AttributeContext::default()
    }
}

static RULED: LazyLock<Policies> = LazyLock::new(|| {
    let rules = json!([
        {"name": "one", "action": "allow", "when": {"paths": [{"regex": "/a.*"}], "headers": [{"name": "x-role", "exact": "a"}], "hosts": ["*"]}},
        {"name": "two", "action": "allow", "when": {"cel": "request.headers['x-role'].exists(r, r == 'a') && request.path.startsWith('/')"}},
        {"name": "three", "action": "allow", "when": {"clientIps": ["10.0.0.0/8"]}},
    ]);
    let policy = json!({"name": "guard", "methods": [], "rules": rules, "match": [{"pathPrefixes": ["/"]}]});
    let policy = Policy { methods: methods(), ..serde_json::from_value(policy).unwrap() };
    Policies::compile(&[policy], &resources()).unwrap()
});

#[test]
fn c47_large_questions_are_answered_soon() {
    let cookies = (0..1000).map(|n| format!("cookie-{n}=value-{n}")).collect::<Vec<_>>().join("; ");
    let large = "x".repeat(64 * 1024);
    let many: Vec<(String, String)> = (0..2000).map(|n| (format!("x-header-{n}"), "a,b,c".to_owned())).collect();
    let mut headers = borrowed(&many);
    headers.extend([("cookie", cookies.as_str()), ("x-large", &large), ("accept", &large), ("x-role", "a")]);
    let start = Instant::now();
    for _ in 0..10 {
        let question = request_to(&format!("/a{large}"), &headers);
        let verdict = wait(RULED.check(&Check::new(&question, UNIX_EPOCH).unwrap()));
        assert!(matches!(verdict, Verdict::Deny(_)));
        let question = request_to("/b", &[headers.as_slice(), &[("x-api-key", KEY)]].concat());
        let verdict = wait(RULED.check(&Check::new(&question, UNIX_EPOCH).unwrap()));
        assert!(
            matches!(verdict, Verdict::Deny(_)),
            "more headers than an expression looks at, and two keys the second time"
        );
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

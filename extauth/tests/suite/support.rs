//! Requests, issuers and answers, short enough to read in a test.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use extauth::check::Check;
use extauth::method::api_key::Hash;
use extauth::policy::Policies;
use extauth::resources::{Options, Resources};
use extauth::verdict::Verdict;
use proto::extauth::{ApiKey, ClaimToHeader, Jwt, Key, Method, Policy, Source};
use serde_json::{Value, json};

/// When all requests are judged, unless a test says otherwise.
pub(crate) const NOW: u64 = 1_900_000_000;
pub(crate) const ISSUER: &str = "https://issuer.example.com";
pub(crate) const AUDIENCE: &str = "api";

/// A request to a route that the policy `guard` guards.
pub(crate) fn request(headers: &[(&str, &str)]) -> CheckRequest {
    request_to("/orders", headers)
}

pub(crate) fn request_to(path: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let http = HttpRequest {
        method: "GET".into(),
        scheme: "http".into(),
        host: "shop.example.com".into(),
        path: path.into(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..HttpRequest::default()
    };
    let attributes = AttributeContext {
        request: Some(Request { http: Some(http), ..Request::default() }),
        context_extensions: [("policy".to_owned(), "guard".to_owned())].into(),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }
}

pub(crate) fn bearer(token: &str) -> CheckRequest {
    request(&[("authorization", &format!("Bearer {token}"))])
}

/// Room for tokens, and nothing fetched yet.
pub(crate) fn resources() -> Resources {
    Resources::new(&Options { token_cache_bytes: 1 << 20, ..Options::default() }).unwrap()
}

/// Waits outside any runtime.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A service with one policy and a clock.
pub(crate) struct Service {
    policies: Policies,
    pub(crate) now: u64,
}

impl Service {
    pub(crate) fn new(methods: Vec<Method>) -> Self {
        Self::with(Policy { name: "guard".into(), methods, ..Policy::default() })
    }

    pub(crate) fn optional(methods: Vec<Method>) -> Self {
        Self::with(Policy { name: "guard".into(), methods, optional: true, ..Policy::default() })
    }

    pub(crate) fn with(policy: Policy) -> Self {
        let policies = Policies::compile(&[policy], &resources()).unwrap();
        Self { policies, now: NOW }
    }

    /// With what other services share.
    pub(crate) fn sharing(resources: &Resources, methods: Vec<Method>) -> Self {
        let policy = Policy { name: "guard".into(), methods, ..Policy::default() };
        Self { policies: Policies::compile(&[policy], resources).unwrap(), now: NOW }
    }

    pub(crate) fn ask(&self, request: &CheckRequest) -> Answer {
        ask_at(&self.policies, request, self.now)
    }
}

impl Service {
    /// The answer as it is before it is sent.
    pub(crate) async fn check(&self, check: &Check<'_>) -> Verdict {
        self.policies.check(check).await
    }
}

/// Asks at a moment, in seconds since 1970.
pub(crate) fn ask_at(policies: &Policies, request: &CheckRequest, now: u64) -> Answer {
    let check = Check::new(request, UNIX_EPOCH + Duration::from_secs(now)).unwrap();
    Answer::of(wait(policies.check(&check)).into())
}

/// What Envoy is told, sorted out.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) challenge: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) set: BTreeMap<String, String>,
    pub(crate) query_set: BTreeMap<String, String>,
    pub(crate) removed: Vec<String>,
    pub(crate) query_removed: Vec<String>,
    pub(crate) metadata: Value,
}

impl Answer {
    pub(crate) fn of(response: CheckResponse) -> Self {
        let metadata = response.dynamic_metadata.map_or(Value::Null, |fields| plain(Kind::StructValue(fields)));
        let rpc = response.status.unwrap().code;
        match response.http_response.unwrap() {
            HttpResponse::OkResponse(ok) => {
                assert_eq!(rpc, 0, "an OK response has an OK status");
                Self {
                    status: 200,
                    body: String::new(),
                    challenge: None,
                    headers: headers(ok.response_headers_to_add),
                    set: headers(ok.headers),
                    query_set: ok.query_parameters_to_set.into_iter().map(|set| (set.key, set.value)).collect(),
                    removed: ok.headers_to_remove,
                    query_removed: ok.query_parameters_to_remove,
                    metadata,
                }
            }
            HttpResponse::DeniedResponse(denied) => {
                assert_ne!(rpc, 0, "a denial never has an OK status");
                let headers = headers(denied.headers);
                Self {
                    status: u16::try_from(denied.status.unwrap().code).unwrap(),
                    body: denied.body,
                    challenge: headers.get("www-authenticate").cloned(),
                    headers,
                    set: BTreeMap::new(),
                    query_set: BTreeMap::new(),
                    removed: Vec::new(),
                    query_removed: Vec::new(),
                    metadata,
                }
            }
            HttpResponse::ErrorResponse(_) => panic!("an error response may be let through by failure_mode_allow"),
        }
    }

    pub(crate) fn removes(&self, name: &str) -> bool {
        self.removed.iter().any(|removed| removed == name)
    }
}

/// What a denied client reads.
pub(crate) fn body(answer: &Answer) -> &str {
    assert!(answer.status == 401 || answer.status == 403, "{answer:?}");
    &answer.body
}

fn headers(headers: Vec<HeaderValueOption>) -> BTreeMap<String, String> {
    let header = |option: HeaderValueOption| option.header.map(|header| (header.key, header.value)).unwrap();
    headers.into_iter().map(header).collect()
}

fn plain(kind: Kind) -> Value {
    let inner = |value: envoy_types::pb::google::protobuf::Value| plain(value.kind.unwrap());
    match kind {
        Kind::NullValue(_) => Value::Null,
        Kind::NumberValue(number) => json!(number),
        Kind::StringValue(text) => json!(text),
        Kind::BoolValue(value) => json!(value),
        Kind::StructValue(fields) => fields.fields.into_iter().map(|(name, value)| (name, inner(value))).collect(),
        Kind::ListValue(list) => list.values.into_iter().map(inner).collect(),
    }
}

pub(crate) fn header(name: &str, prefix: &str) -> Source {
    Source::Header { name: name.into(), prefix: prefix.into() }
}

/// Why a method does not compile.
pub(crate) fn refused(method: Method) -> String {
    let policy = Policy { name: "guard".into(), methods: vec![method], ..Policy::default() };
    Policies::compile(&[policy], &resources()).unwrap_err().to_string()
}

pub(crate) fn to_header(claim: &str, header: &str) -> ClaimToHeader {
    ClaimToHeader { claim: claim.into(), header: header.into(), ..ClaimToHeader::default() }
}

/// A key's hash as files hold it.
pub(crate) fn hash(text: &str) -> String {
    Hash::of(text, None).unwrap().to_string()
}

pub(crate) fn key(text: &str, client: &str) -> Key {
    Key { hash: hash(text), client: client.into(), ..Key::default() }
}

/// API keys in the header `x-api-key`, with the client's name in `x-client`.
pub(crate) fn api_keys(keys: Vec<Key>) -> ApiKey {
    ApiKey { from: vec![header("x-api-key", "")], keys, client_header: Some("x-client".into()), ..ApiKey::default() }
}

enum Signer {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// Somebody who signs tokens with one key.
pub(crate) struct Issuer {
    alg: &'static str,
    pub(crate) kid: Option<&'static str>,
    signer: Signer,
}

impl Issuer {
    pub(crate) fn new(alg: &'static str) -> Self {
        let curve = |curve: &'static EcdsaSigningAlgorithm| Signer::Ecdsa(EcdsaKeyPair::generate(curve).unwrap());
        let signer = match alg {
            "ES256" => curve(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => curve(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" => Signer::Ed(Ed25519KeyPair::generate().unwrap()),
            _ => Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        };
        Self { alg, kid: Some("key-1"), signer }
    }

    /// The same with another key id.
    pub(crate) fn named(self, kid: &'static str) -> Self {
        Self { kid: Some(kid), ..self }
    }

    /// The public key without `alg`, so that a test may choose.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.signer {
            Signer::Rsa(pair) => {
                // RSAPublicKey in DER: headers and a zero before 256 bytes of n, a header before three bytes of e.
                let der = pair.public_key().as_ref();
                json!({"kty": "RSA", "n": encode(&der[9..265]), "e": encode(&der[267..])})
            }
            Signer::Ecdsa(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = self.alg.replace("ES256", "P-256").replace("ES384", "P-384");
                json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)})
            }
            Signer::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())}),
        };
        if let Some(kid) = self.kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }

    pub(crate) fn jwks(&self) -> String {
        json!({"keys": [self.jwk()]}).to_string()
    }

    /// A provider that trusts this issuer.
    pub(crate) fn provider(&self) -> Jwt {
        Jwt {
            name: "main".into(),
            issuer: ISSUER.into(),
            audiences: vec![AUDIENCE.into()],
            jwks: Some(self.jwks()),
            ..Jwt::default()
        }
    }

    pub(crate) fn service(&self) -> Service {
        Service::new(vec![Method::Jwt(self.provider())])
    }

    pub(crate) fn header(&self) -> Value {
        let mut header = json!({"alg": self.alg, "typ": "JWT"});
        if let Some(kid) = self.kid {
            header["kid"] = kid.into();
        }
        header
    }

    /// A token with these claims over the usual ones; null takes a claim away.
    pub(crate) fn token(&self, claims: Value) -> String {
        self.sign(&self.header().to_string(), &merged(self::claims(), claims).to_string())
    }

    /// A good token whose header has these members besides the usual ones.
    pub(crate) fn token_with_header(&self, header: Value) -> String {
        self.sign(&merged(self.header(), header).to_string(), &claims().to_string())
    }

    /// Signs whatever it is given.
    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", encode(&signature))
    }

    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.signer {
            Signer::Rsa(pair) => {
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = match self.alg {
                    "RS256" => &RSA_PKCS1_SHA256,
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    _ => &RSA_PSS_SHA512,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Signer::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Signer::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// Claims of a token that is good for another hour.
pub(crate) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 3600})
}

fn merged(mut base: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("claims and headers are objects") };
    for (name, value) in more {
        if value.is_null() {
            base.as_object_mut().unwrap().remove(&name);
        } else {
            base[name] = value;
        }
    }
    base
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Bytes of memory that this process uses.
pub(crate) fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Runs an ignored test alone in a process, as other tests take memory, too.
#[track_caller]
pub(crate) fn alone(name: &str) {
    let myself = std::env::current_exe().unwrap();
    let output = Command::new(myself).args(["--exact", name, "--ignored", "--nocapture"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// A child that does not outlive the test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, with the policies and the sockets of a folder.
pub(crate) fn program(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_extauth"));
    command
        .env("EXTAUTH_CONFIG_DIR", dir.join("policies"))
        .env("EXTAUTH_GRPC_ADDR", format!("unix:{}", dir.join("extauth.sock").display()))
        .env("EXTAUTH_HTTP_ADDR", format!("unix:{}", dir.join("http.sock").display()))
        .env("EXTAUTH_HTTP_SERVICE_ADDR", format!("unix:{}", dir.join("service.sock").display()))
        .env("EXTAUTH_HTTP_SERVICE_PATH_PREFIX", "/auth")
        .env("EXTAUTH_HTTP_SERVICE_POLICY_HEADER", "x-policy")
        .env("EXTAUTH_DEBUG_ADDR", format!("unix:{}", dir.join("debug.sock").display()))
        .env("EXTAUTH_DECISION_LOG_SAMPLE_ALLOW", "1")
        .env("EXTAUTH_DECISION_ID_HEADER", "x-decision-id")
        .env("EXTAUTH_CORES", "1")
        .env("EXTAUTH_LOG_LEVEL", "debug");
    command
}

/// An HTTP answer.
pub(crate) struct Response {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// Asks over a Unix socket; the header lines go out as they stand. `None` when nobody answers.
pub(crate) fn get(socket: &Path, path: &str, headers: &[&str]) -> Option<Response> {
    let lines: String = headers.iter().flat_map(|line| [*line, "\r\n"]).collect();
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n{lines}\r\n");
    talk(UnixStream::connect(socket).ok()?, &request)
}

/// Sends a request as it stands, on a connection that ends after it.
pub(crate) fn talk(mut stream: impl Read + Write, request: &str) -> Option<Response> {
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (headers, body) = text.split_once("\r\n\r\n")?;
    let status = headers.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, headers: headers.to_lowercase(), body: body.to_owned() })
}

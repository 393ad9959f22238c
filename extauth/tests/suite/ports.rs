//! The ports where Envoy asks: who may, and how.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::support::{Answer, Process, api_keys, get, key, program, request, wait};

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key for a name, as PEM.
fn issue(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "a server or client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

fn policies(dir: &Path) {
    let methods = vec![proto::extauth::Method::ApiKey(api_keys(vec![key("a-key", "acme")]))];
    let guard = proto::extauth::Policy { name: "guard".into(), methods, ..proto::extauth::Policy::default() };
    let file = proto::extauth::Policies { policies: vec![guard] };
    fs::create_dir(dir.join("policies")).unwrap();
    fs::write(dir.join("policies/guard.yaml"), serde_json::to_string(&file).unwrap()).unwrap();
}

/// Waits until the policies are in force.
fn ready(dir: &Path) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while get(&dir.join("http.sock"), "/healthcheck", &[]).is_none_or(|answer| answer.status != 200) {
        assert!(Instant::now() < deadline, "not ready");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn s7_only_the_named_client_of_the_authority_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    policies(dir.path());
    let (ours, other) = (authority(), authority());
    let (cert, private) = issue(&ours, "extauth.test");
    let file = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _extauth = program(dir.path())
        .env("EXTAUTH_GRPC_ADDR", format!("127.0.0.1:{port}"))
        .env("EXTAUTH_GRPC_SERVER_USE_TLS", "true")
        .env("EXTAUTH_GRPC_SERVER_TLS_CERT", file("tls.crt", &cert))
        .env("EXTAUTH_GRPC_SERVER_TLS_KEY", file("tls.key", &private))
        .env("EXTAUTH_GRPC_CLIENT_TLS_CACERT", file("ca.crt", &ours.pem()))
        .env("EXTAUTH_GRPC_CLIENT_TLS_SAN", "envoy.test")
        .spawn()
        .map(Process)
        .unwrap();
    ready(dir.path());
    let ask = |identity: Option<(String, String)>, tls: bool| {
        let mut config =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ours.pem())).domain_name("extauth.test");
        if let Some((cert, key)) = identity {
            config = config.identity(Identity::from_pem(cert, key));
        }
        let scheme = if tls { "https" } else { "http" };
        let endpoint = Channel::from_shared(format!("{scheme}://127.0.0.1:{port}")).unwrap();
        let endpoint = if tls { endpoint.tls_config(config).unwrap() } else { endpoint };
        wait(async {
            let mut client = AuthorizationClient::new(endpoint.connect().await.ok()?);
            let answered = client.check(request(&[("x-api-key", "a-key")])).await.ok()?;
            Some(Answer::of(answered.into_inner()).status)
        })
    };
    assert_eq!(ask(Some(issue(&ours, "envoy.test")), true), Some(200));
    for (identity, tls) in [
        (None, true),
        (Some(issue(&ours, "other.test")), true),
        (Some(issue(&other, "envoy.test")), true),
        (None, false),
    ] {
        assert_eq!(ask(identity, tls), None);
    }
}

/// One request over HTTP/2, byte for byte, on a connection of its own. Says whether a message came back.
fn answered(socket: &Path, path: &str) -> bool {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "extauth"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    // Literal fields without indexing (RFC 7541, section 6.2.2).
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect();
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat()
    };
    let bytes = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &block),
        frame(0, 1, 1, &[0; 5]),
    ];
    stream.write_all(&bytes.concat()).unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).unwrap();
        match (head[3], head[4] & 1) {
            (0, _) if length > 5 => return true,
            (1, 1) | (3 | 7, _) => return false,
            _ => {}
        }
    }
    false
}

#[test]
fn cve_2026_33186_only_the_canonical_path_of_the_service_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    policies(dir.path());
    let _extauth = program(dir.path()).spawn().map(Process).unwrap();
    ready(dir.path());
    let socket = dir.path().join("extauth.sock");
    assert!(answered(&socket, "/envoy.service.auth.v3.Authorization/Check"));
    for path in [
        "envoy.service.auth.v3.Authorization/Check",
        "//envoy.service.auth.v3.Authorization/Check",
        "/envoy.service.auth.v3.Authorization//Check",
        "/envoy.service.auth.v3.Authorization/Check/",
        "/envoy.service.auth.v3.Authorization/check",
        "/x/../envoy.service.auth.v3.Authorization/Check",
        "/envoy.service.auth.v3.Authorization/%43heck",
        "http://x/envoy.service.auth.v3.Authorization/Check/",
        "*",
        "",
    ] {
        assert!(!answered(&socket, path), "{path}");
    }
}

#[test]
fn the_debug_port_explains_and_a_shadow_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    policies(dir.path());
    let _extauth = program(dir.path()).spawn().map(Process).unwrap();
    ready(dir.path());
    let body = r#"{"policy": "guard", "headers": ["x-api-key: a-key"]}"#;
    let head = format!(
        "POST /explain HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = crate::support::talk(UnixStream::connect(dir.path().join("debug.sock")).unwrap(), &head).unwrap();
    assert!(answer.status == 200 && answer.body.contains("lets it in as `acme`"), "{}", answer.body);
    assert_eq!(get(&dir.path().join("http.sock"), "/explain", &[]).unwrap().status, 404, "only on its own port");
    let metrics = get(&dir.path().join("http.sock"), "/metrics", &[]).unwrap().body;
    assert!(
        metrics.contains("extauth_checks_total{policy=\"guard\",method=\"api_key\",verdict=\"shadow_deny\"} 0"),
        "{metrics}"
    );
    assert!(
        metrics.contains("extauth_checks_total{policy=\"guard\",method=\"api_key\",verdict=\"allow\"} 0"),
        "nothing counts: {metrics}"
    );
}

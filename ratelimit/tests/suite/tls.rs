//! The gRPC port over TLS and over a Unix socket.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::{
    certificates::{Authority, Pair},
    program::{Program, ask, fetch},
};

const SOON: Duration = Duration::from_secs(20);

/// Serves from a secret's volume, to clients of `authority` called `envoy`.
fn serve(volume: &Path) -> Program {
    serve_with(volume, &["--grpc-client-tls-san", "envoy"])
}

fn serve_with(volume: &Path, arguments: &[&str]) -> Program {
    let [cert, key, ca] = ["tls.crt", "tls.key", "ca.crt"].map(|name| volume.join("data").join(name));
    let [cert, key, ca] = [&cert, &key, &ca].map(|path| path.to_str().unwrap());
    let server = ["--grpc-server-use-tls", "true", "--grpc-server-tls-cert", cert, "--grpc-server-tls-key", key];
    Program::start(&[&server[..], &["--grpc-client-tls-cacert", ca], arguments].concat())
}

/// Puts a new generation of the secret in place at once, as the kubelet does.
fn swap(volume: &Path, generation: &str, pair: &Pair, authority: &Authority) {
    fs::create_dir(volume.join(generation)).unwrap();
    pair.write(&volume.join(generation), authority);
    symlink(generation, volume.join("new")).unwrap();
    fs::rename(volume.join("new"), volume.join("data")).unwrap();
}

/// Whether the server, known by `authority`, answers this client on a new connection.
async fn answers(program: &Program, authority: &Authority, client: Option<&Pair>) -> bool {
    asked(program, authority, client).await.is_ok()
}

/// What it answers, or why not.
async fn asked(program: &Program, authority: &Authority, client: Option<&Pair>) -> Result<(), Code> {
    let ca = Certificate::from_pem(authority.pem());
    let mut tls = ClientTlsConfig::new().ca_certificate(ca).domain_name("ratelimit");
    if let Some(Pair { cert, key }) = client {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{}", program.grpc)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.map_err(|_| Code::Unavailable)?;
    ask(&mut RateLimitServiceClient::new(channel), "joe").await.map(|_| ()).map_err(|status| status.code())
}

#[tokio::test]
async fn l5_a_client_asks_for_its_domains_only() {
    let authority = Authority::new();
    let volume = tempfile::tempdir().unwrap();
    swap(volume.path(), "1", &authority.issue("ratelimit"), &authority);
    let program = serve_with(volume.path(), &["--grpc-client-domains", "envoy=d*,other=e,other=f"]);
    assert_eq!(asked(&program, &authority, Some(&authority.issue("envoy"))).await, Ok(()));
    let denied = Err(Code::PermissionDenied);
    assert_eq!(asked(&program, &authority, Some(&authority.issue("other"))).await, denied);
    assert_eq!(asked(&program, &authority, Some(&authority.issue("nobody"))).await, denied);
    let (status, answer) = fetch(program.http, "POST", "/json", r#"{"domain": "d"}"#);
    assert_eq!(status, 403, "{answer}");
}

#[tokio::test]
async fn only_clients_of_the_authority_with_the_name_are_served() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let volume = tempfile::tempdir().unwrap();
    swap(volume.path(), "1", &authority.issue("ratelimit"), &authority);
    let program = serve(volume.path());
    assert!(answers(&program, &authority, Some(&authority.issue("envoy"))).await);
    assert!(!answers(&program, &authority, None).await, "no certificate");
    assert!(!answers(&program, &authority, Some(&stranger.issue("envoy"))).await, "another authority");
    assert!(!answers(&program, &authority, Some(&authority.issue("other"))).await, "another name");
    assert!(!answers(&program, &authority, Some(&authority.issue_expired("envoy"))).await, "expired");
    assert!(!answers(&program, &stranger, Some(&authority.issue("envoy"))).await, "the client verifies, too");
}

#[tokio::test]
async fn new_certificates_are_taken_up_and_broken_ones_are_not() {
    let (first, second) = (Authority::new(), Authority::new());
    let volume = tempfile::tempdir().unwrap();
    swap(volume.path(), "1", &first.issue("ratelimit"), &first);
    let program = serve(volume.path());
    let client = first.issue("envoy");
    assert!(answers(&program, &first, Some(&client)).await);

    // The key is another one's. It is seen before the next generation, which is a second later at the earliest.
    let broken = Pair { key: second.issue("ratelimit").key, ..second.issue("ratelimit") };
    swap(volume.path(), "2", &broken, &second);
    let refused = Instant::now() + Duration::from_secs(1);
    while Instant::now() < refused {
        assert!(answers(&program, &first, Some(&client)).await, "the last good pair stays");
    }

    swap(volume.path(), "3", &second.issue("ratelimit"), &second);
    let client = second.issue("envoy");
    let deadline = Instant::now() + SOON;
    while !answers(&program, &second, Some(&client)).await {
        assert!(Instant::now() < deadline, "the new certificates are not taken up");
    }
}

#[tokio::test]
async fn a_unix_socket_serves_instead_of_the_port() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("grpc.sock");
    let program = Program::start(&["--grpc-uds", socket.to_str().unwrap()]);
    let channel = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap().connect().await.unwrap();
    assert!(ask(&mut RateLimitServiceClient::new(channel), "joe").await.is_ok());
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", program.grpc)).await.is_err());
}

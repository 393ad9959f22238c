//! The ports where Envoy asks: who may, and how.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use proto::extauth::{Method, Policy};
use tonic::codegen::Service as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::certificates::{Authority, Pair};
use crate::running::{PATIENCE, Running, ask, until};
use crate::support::{Answer, api_keys, get, key, request, talk};

fn guard() -> Vec<Policy> {
    let methods = vec![Method::ApiKey(api_keys(vec![key("a-key", "acme")]))];
    vec![Policy { name: "guard".into(), methods, ..Policy::default() }]
}

/// A program that serves over TLS to clients of an authority called `envoy.test`.
struct Guarded {
    running: Running,
    port: u16,
    http: u16,
}

impl Guarded {
    fn start(authority: &Authority) -> Self {
        // The ports may be taken by another test before the program binds them.
        for _ in 0..5 {
            let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            let [port, http] = held.each_ref().map(|socket| socket.local_addr().unwrap().port());
            drop(held);
            let mut running = Running::begin(guard(), |dir, command| {
                swap(dir, 1, &authority.issue("extauth.test"), &authority.pem());
                let file = |name: &str| dir.join("tls").join(name);
                command
                    .env("EXTAUTH_GRPC_ADDR", format!("127.0.0.1:{port}"))
                    .env("EXTAUTH_HTTP_SERVICE_ADDR", format!("127.0.0.1:{http}"))
                    .env("EXTAUTH_GRPC_SERVER_USE_TLS", "true")
                    .env("EXTAUTH_GRPC_SERVER_TLS_CERT", file("tls.crt"))
                    .env("EXTAUTH_GRPC_SERVER_TLS_KEY", file("tls.key"))
                    .env("EXTAUTH_GRPC_CLIENT_TLS_CACERT", file("ca.crt"))
                    .env("EXTAUTH_GRPC_CLIENT_TLS_SAN", "envoy.test");
            });
            let mut ended = false;
            let settled = || {
                ended = running.process.0.try_wait().unwrap().is_some();
                ended || running.is_healthy()
            };
            until("health or the end", settled, String::new);
            if !ended {
                return Self { running, port, http };
            }
        }
        panic!("the program does not start");
    }

    /// A new connection, if there can be one.
    async fn connect(&self, port: u16, authority: &Authority, identity: Option<&Pair>) -> Option<Channel> {
        let mut config =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem())).domain_name("extauth.test");
        if let Some(Pair { cert, key }) = identity {
            config = config.identity(Identity::from_pem(cert, key));
        }
        let endpoint = Channel::from_shared(format!("https://127.0.0.1:{port}")).unwrap();
        endpoint.tls_config(config).unwrap().connect().await.ok()
    }

    /// The answer to a good key, over gRPC.
    async fn asked(&self, authority: &Authority, identity: Option<&Pair>) -> Option<u16> {
        let channel = self.connect(self.port, authority, identity).await?;
        let answered = AuthorizationClient::new(channel).check(request(&[("x-api-key", "a-key")])).await.ok()?;
        Some(Answer::of(answered.into_inner()).status)
    }

    /// And over HTTP.
    async fn asked_over_http(&self, authority: &Authority, identity: Option<&Pair>) -> Option<u16> {
        let mut channel = self.connect(self.http, authority, identity).await?;
        let asked = http::Request::get("https://shop.example.com/auth/orders").header("x-policy", "guard");
        let asked = asked.header("x-api-key", "a-key").body(tonic::body::Body::empty()).unwrap();
        let ready = std::future::poll_fn(|context| channel.poll_ready(context)).await;
        Some(if ready.is_ok() { channel.call(asked).await.ok()? } else { return None }.status().as_u16())
    }
}

/// Puts a generation of a Secret in place at once, as the kubelet does.
fn swap(dir: &Path, generation: u32, Pair { cert, key }: &Pair, ca: &str) {
    let data = dir.join(format!("tls-{generation}"));
    fs::create_dir(&data).unwrap();
    for (name, pem) in [("tls.crt", cert.as_str()), ("tls.key", key), ("ca.crt", ca)] {
        fs::write(data.join(name), pem).unwrap();
    }
    symlink(&data, dir.join("tls-next")).unwrap();
    fs::rename(dir.join("tls-next"), dir.join("tls")).unwrap();
}

#[tokio::test]
async fn s7_only_the_named_client_of_the_authority_is_answered() {
    let (ours, other) = (Authority::new(), Authority::new());
    let guarded = Guarded::start(&ours);
    let envoy = ours.issue("envoy.test");
    assert_eq!(guarded.asked(&ours, Some(&envoy)).await, Some(200));
    assert_eq!(guarded.asked_over_http(&ours, Some(&envoy)).await, Some(200), "HTTP/2 over TLS");
    for identity in [None, Some(ours.issue("other.test")), Some(other.issue("envoy.test"))] {
        assert_eq!(guarded.asked(&ours, identity.as_ref()).await, None);
        assert_eq!(guarded.asked_over_http(&ours, identity.as_ref()).await, None);
    }
    assert_eq!(guarded.asked(&other, Some(&envoy)).await, None, "the client verifies, too");
    for port in [guarded.port, guarded.http] {
        let plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
        plain.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = "GET /auth/orders HTTP/1.1\r\nhost: a\r\nx-policy: guard\r\nx-api-key: a-key\r\n\r\n";
        assert!(talk(plain, head).is_none(), "nobody is answered without TLS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_certificates_change_under_load_and_no_question_fails() {
    let (first, second) = (Authority::new(), Authority::new());
    let guarded = Guarded::start(&first);
    let envoy = first.issue("envoy.test");
    let channel = guarded.connect(guarded.port, &first, Some(&envoy)).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, stopped) = (AuthorizationClient::new(channel.clone()), stopped.clone());
            tokio::spawn(async move {
                let mut asked = 0;
                while !*stopped.borrow() {
                    assert_eq!(ask(&mut client, request(&[("x-api-key", "a-key")])).await.status, 200);
                    asked += 1;
                }
                asked
            })
        })
        .collect();

    // A key that is another certificate's changes nothing.
    let dir = guarded.running.dir.path();
    let broken = Pair { key: second.issue("extauth.test").key, ..second.issue("extauth.test") };
    swap(dir, 2, &broken, &second.pem());
    guarded.running.log_with("certificates not loaded");
    assert_eq!(guarded.asked(&first, Some(&envoy)).await, Some(200), "the last good pair stays");

    swap(dir, 3, &second.issue("extauth.test"), &second.pem());
    let next = second.issue("envoy.test");
    let deadline = Instant::now() + PATIENCE;
    while guarded.asked(&second, Some(&next)).await != Some(200) {
        assert!(Instant::now() < deadline, "the new certificates are not taken up: {}", guarded.running.log());
    }
    assert_eq!(guarded.asked_over_http(&second, Some(&next)).await, Some(200));
    assert_eq!(guarded.asked(&first, Some(&envoy)).await, None, "the old authority is trusted no longer");
    stop.send(true).unwrap();
    for load in load {
        assert!(load.await.unwrap() > 0, "the old connections go on");
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
    let running = Running::start(guard());
    let socket = running.path("extauth.sock");
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
fn s9_the_debug_port_explains_and_nothing_comes_of_it() {
    let running = Running::start(guard());
    let body = r#"{"policy": "guard", "headers": ["x-api-key: a-key"]}"#;
    let head = format!(
        "POST /explain HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = talk(UnixStream::connect(running.path("debug.sock")).unwrap(), &head).unwrap();
    assert!(answer.status == 200 && answer.body.contains("lets it in as `acme`"), "{}", answer.body);
    assert_eq!(get(&running.path("http.sock"), "/explain", &[]).unwrap().status, 404, "only on its own port");
    let metrics = running.metrics();
    let counted = "extauth_checks_total{policy=\"guard\",method=\"api_key\",verdict=\"allow\"} 0";
    assert!(metrics.contains(counted), "nothing counts: {metrics}");
}

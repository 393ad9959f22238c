//! Requests to issuers that are down, slow or huge.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::get;
use bytes::Bytes;
use extauth::fetch::{Error, LARGEST_ANSWER};
use http::{Request, Response};
use proto::drain::{self, Trigger};
use proto::extauth::{BackendTls, Backends, Retry, Secret};
use proto::serve::tls::{Files, Tls};
use proto::serve::{Grpc, Listener};
use tempfile::TempDir;
use tonic::service::Routes;

use crate::certificates::{Authority, Pair};
use crate::support::resources;

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn get_from(address: SocketAddr, path: &str) -> Result<Response<Bytes>, Error> {
    let request = Request::get(format!("http://{address}{path}")).body(Bytes::new()).unwrap();
    resources().fetch.send(request).await
}

#[tokio::test]
async fn answers_come_as_they_are_and_redirects_are_not_followed() {
    let router = Router::new()
        .route("/", get(|| async { (StatusCode::IM_A_TEAPOT, "short") }))
        .route("/moved", get(|| async { Redirect::temporary("/") }));
    let address = serve(router).await;
    let answer = get_from(address, "/").await.unwrap();
    assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::IM_A_TEAPOT, b"short".as_slice()));
    assert_eq!(get_from(address, "/moved").await.unwrap().status(), StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let large = |extra: usize| get(move || async move { vec![b' '; LARGEST_ANSWER + extra] });
    let address = serve(Router::new().route("/fits", large(0)).route("/large", large(1))).await;
    assert_eq!(get_from(address, "/fits").await.unwrap().body().len(), LARGEST_ANSWER);
    assert!(matches!(get_from(address, "/large").await, Err(Error::Answer(_))));
}

#[tokio::test]
async fn an_issuer_that_is_down_is_an_error_that_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = get_from(address, "/").await.unwrap_err();
    assert!(matches!(&error, Error::Connect(reason) if reason.contains("refused")), "{error}");
}

#[tokio::test]
async fn an_issuer_that_never_answers_is_given_up() {
    let address = serve(Router::new().route("/", get(std::future::pending::<()>))).await;
    assert!(matches!(get_from(address, "/").await, Err(Error::Timeout)));
}

/// Ends with the test.
struct Secure {
    dir: TempDir,
    address: SocketAddr,
    _end: Trigger,
}

impl Secure {
    /// Answers `secure` over TLS, with a certificate of `authority`; with `client_ca` to those of it only.
    fn start(authority: &Authority, pair: &Pair, client_ca: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [cert, key, ca] = pair.write(dir.path(), authority);
        let tls = Tls::load(Files { cert, key, client_ca: client_ca.then_some(ca), client_san: None }).unwrap();
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap().to_string().parse().unwrap();
        let routes = Routes::from(Router::new().route("/", get(async || "secure")));
        let (end, signal) = drain::new();
        tokio::spawn(Grpc::new(listener).tls(Some(tls)).serve(routes, signal));
        Self { dir, address, _end: end }
    }

    /// Asks a URL without TLS of another host.
    async fn ask(&self, tls: BackendTls) -> Result<Bytes, Error> {
        let backends =
            Backends { addresses: vec![self.address.to_string()], tls: Some(Box::new(tls)), ..Backends::default() };
        let request = Request::get("http://idp.example.com/").body(Bytes::new()).unwrap();
        Ok(resources().fetch.at(&backends).unwrap().send(request).await?.into_body())
    }
}

#[tokio::test]
async fn a_backends_certificate_is_for_the_names_that_are_said_and_of_the_authority_that_is_said() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let named = Secure::start(&authority, &authority.issue("idp.internal"), false);
    let by_uri = Secure::start(&authority, &authority.issue_uri("spiffe://house/idp"), false);
    let expired = Secure::start(&authority, &authority.issue_expired("idp.internal"), false);
    let ca = |authority: &Authority| BackendTls { ca: Some(authority.pem()), ..BackendTls::default() };
    let name = |name: &str| BackendTls { server_name: Some(name.into()), ..ca(&authority) };
    let alternatives = |names: &[&str]| {
        let subject_alt_names = names.iter().map(|name| (*name).to_owned()).collect();
        BackendTls { subject_alt_names, ..name("idp.example.com") }
    };
    for (server, tls) in [
        (&named, name("idp.internal")),
        (&named, alternatives(&["other.internal", "idp.internal"])),
        (&by_uri, alternatives(&["spiffe://house/idp"])),
        (&named, BackendTls { insecure_skip_verify: true, ..BackendTls::default() }),
    ] {
        assert_eq!(server.ask(tls.clone()).await.unwrap(), "secure", "{tls:?}");
    }
    for (server, tls) in [
        (&named, ca(&authority)),
        (&named, name("other.internal")),
        (&named, alternatives(&["other.internal"])),
        (&named, BackendTls { ca: None, ..alternatives(&["idp.internal"]) }),
        (&named, BackendTls { ca: None, ..name("idp.internal") }),
        (&named, BackendTls { server_name: Some("idp.internal".into()), ..ca(&stranger) }),
        (&by_uri, alternatives(&["spiffe://house/other", "spiffe://house/idp/more"])),
        (&by_uri, BackendTls { ca: Some(stranger.pem()), ..alternatives(&["spiffe://house/idp"]) }),
        (&expired, alternatives(&["idp.internal"])),
        (&expired, name("idp.internal")),
    ] {
        let error = server.ask(tls.clone()).await.unwrap_err();
        assert!(matches!(&error, Error::Connect(reason) if reason.contains("certificate")), "{tls:?}: {error}");
    }
}

#[tokio::test]
async fn a_backend_is_shown_our_certificate() {
    let authority = Authority::new();
    let server = Secure::start(&authority, &authority.issue("idp.internal"), true);
    let trusting =
        || BackendTls { ca: Some(authority.pem()), server_name: Some("idp.internal".into()), ..BackendTls::default() };
    let ours = authority.issue("extauth.internal");
    let shown = BackendTls { certificate: Some(ours.cert), key: Some(Secret::new(ours.key.as_str())), ..trusting() };
    assert_eq!(server.ask(shown.clone()).await.unwrap(), "secure");
    assert!(!format!("{shown:?}").contains(ours.key.lines().nth(1).unwrap()));
    assert!(server.ask(trusting()).await.is_err());
    assert!(server.dir.path().is_dir());
}

#[test]
fn tls_that_cannot_be_meant_is_refused() {
    let pair = Authority::new().issue("a");
    let key = || Some(Secret::new(pair.key.as_str()));
    let certificate = || Some(pair.cert.clone());
    for (tls, field) in [
        (BackendTls { ca: Some("no PEM".into()), ..BackendTls::default() }, "tls.ca"),
        (BackendTls { server_name: Some("a b".into()), ..BackendTls::default() }, "tls.serverName"),
        (BackendTls { subject_alt_names: vec!["a b".into()], ..BackendTls::default() }, "tls.subjectAltNames"),
        (BackendTls { certificate: certificate(), ..BackendTls::default() }, "tls.certificate"),
        (BackendTls { key: key(), ..BackendTls::default() }, "tls.certificate"),
        (BackendTls { certificate: certificate(), key: Some(Secret::new("x")), ..BackendTls::default() }, "tls.key"),
    ] {
        let backends = Backends { addresses: vec!["a:1".into()], tls: Some(Box::new(tls)), ..Backends::default() };
        assert_eq!(resources().fetch.at(&backends).unwrap_err().0, field);
    }
    let plaintext = Backends { plaintext: true, tls: Some(Box::default()), ..Backends::default() };
    assert_eq!(resources().fetch.at(&plaintext).unwrap_err().0, "tls");
}

/// Answers with these statuses, then with 200; and how often it was asked.
async fn faltering(statuses: &'static [u16]) -> (SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let answer = move || {
        let status = statuses.get(count.fetch_add(1, Ordering::SeqCst)).copied().unwrap_or(200);
        std::future::ready(StatusCode::from_u16(status).unwrap())
    };
    (serve(Router::new().route("/", get(answer))).await, asked)
}

#[tokio::test]
async fn answers_that_are_named_are_asked_for_again_so_often() {
    let retry = |num_retries, status_codes| Retry {
        num_retries,
        connect_failure: false,
        reset: false,
        status_codes,
        per_try_timeout_ms: None,
        base_interval_ms: 1,
        max_interval_ms: 2,
    };
    for (retry, status, times) in [
        (retry(2, vec![503]), 200, 3),
        (retry(1, vec![503]), 503, 2),
        (retry(5, vec![500]), 503, 1),
        (retry(0, vec![503]), 503, 1),
    ] {
        let (address, asked) = faltering(&[503, 503]).await;
        let request = Request::get(format!("http://{address}/")).body(Bytes::new()).unwrap();
        let answer = resources().fetch.patient(None, Some(retry)).send(request).await.unwrap();
        assert_eq!((answer.status().as_u16(), asked.load(Ordering::SeqCst)), (status, times));
    }
}

#[tokio::test]
async fn an_attempt_that_hangs_makes_room_for_the_next_and_all_of_them_end() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let answer = move || {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if first { std::future::pending().await } else { "at last" } }
    };
    let address = serve(Router::new().route("/", get(answer)).route("/never", get(std::future::pending::<()>))).await;
    let retry = Retry {
        num_retries: 5,
        connect_failure: false,
        reset: true,
        status_codes: vec![],
        per_try_timeout_ms: Some(1000),
        base_interval_ms: 1,
        max_interval_ms: 2,
    };
    let request = |path: &str| Request::get(format!("http://{address}{path}")).body(Bytes::new()).unwrap();
    let patient = resources().fetch.patient(None, Some(retry.clone()));
    assert_eq!(patient.send(request("/")).await.unwrap().body(), "at last");
    assert!(asked.load(Ordering::SeqCst) >= 2);
    let hasty = resources().fetch.patient(Some(Duration::from_millis(50)), Some(retry));
    assert!(matches!(hasty.send(request("/never")).await, Err(Error::Timeout)));
}

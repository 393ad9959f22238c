//! Runs against real servers in this process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use loadtest::address::Address;
use loadtest::floor::Kind;
use loadtest::keys::Distribution;
use loadtest::report::Report;
use loadtest::run;
use loadtest::schedule::Arrivals;
use loadtest::settings::Load;
use loadtest::target::authz::{self, Authz};
use loadtest::target::rls::{Rls, Settings};
use loadtest::target::sent;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// What the test's own server was asked and how it answered.
#[derive(Default)]
struct Counts {
    seen: AtomicU64,
    over_limit: AtomicU64,
    failed: AtomicU64,
}

/// Answers in a fixed pattern and counts; `stall` blocks the whole server once, at the given request.
#[derive(Clone, Default)]
struct Service {
    counts: Arc<Counts>,
    stall: Option<(u64, Duration)>,
}

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(&self, _: Request<RateLimitRequest>) -> Result<Response<RateLimitResponse>, Status> {
        let number = self.counts.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some((_, pause)) = self.stall.filter(|(at, _)| *at == number) {
            thread::sleep(pause);
        }
        if number.is_multiple_of(5) {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            return Err(Status::unavailable("every fifth fails"));
        }
        let over_limit = number.is_multiple_of(3);
        self.counts.over_limit.fetch_add(u64::from(over_limit), Ordering::Relaxed);
        let code = if over_limit { Code::OverLimit } else { Code::Ok };
        Ok(Response::new(RateLimitResponse { overall_code: code.into(), ..RateLimitResponse::default() }))
    }
}

/// A runtime in a thread of its own; the server on it ends when it is dropped.
fn server_runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn serve(runtime: &Runtime, service: &Service, address: &str) -> SocketAddr {
    let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
    let address = listener.local_addr().unwrap();
    let service = RateLimitServiceServer::new(service.clone());
    runtime.spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn load() -> Load {
    Load {
        concurrency: NonZeroUsize::new(8).unwrap(),
        rate: None,
        arrivals: Arrivals::Uniform,
        connections: NonZeroUsize::new(2).unwrap(),
        duration: Duration::from_secs(1),
        warm_up: Duration::ZERO,
        timeout: Duration::from_secs(5),
        quiet: true,
    }
}

fn run(address: &Address, load: &Load) -> Result<Report, run::Error> {
    let settings = Settings {
        domain: "bench".to_owned(),
        entry_key: "user".to_owned(),
        descriptors: NonZeroU32::MIN,
        own_limit: None,
        keys: NonZeroU32::new(100).unwrap(),
        distribution: Distribution::Uniform,
    };
    let target = Rls::new(address, &settings).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run::run(target, address, load, Some(std::process::id()), &[]))
}

fn http(address: SocketAddr) -> Address {
    format!("http://{address}").parse().unwrap()
}

#[test]
fn counts_what_the_server_did() {
    let (runtime, service) = (server_runtime(), Service::default());
    let report = run(&http(serve(&runtime, &service, "127.0.0.1:0")), &load()).unwrap();

    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert!(count(&service.counts.seen) > 50);
    assert_eq!(report.answered() + report.errors, count(&service.counts.seen));
    assert_eq!(report.verdicts["OVER_LIMIT"], count(&service.counts.over_limit));
    assert_eq!(report.errors, count(&service.counts.failed));
    assert_eq!(report.errors_by_kind["gRPC status Unavailable every fifth fails"], report.errors);
    assert!(report.server.unwrap().cpu_seconds > 0.0);
}

#[test]
fn warm_up_is_not_counted() {
    let (runtime, service) = (server_runtime(), Service::default());
    let load = Load { warm_up: Duration::from_millis(500), duration: Duration::from_millis(500), ..load() };
    let report = run(&http(serve(&runtime, &service, "127.0.0.1:0")), &load).unwrap();
    let seen = service.counts.seen.load(Ordering::Relaxed);
    assert!(report.answered() > 0 && report.answered() + report.errors < seen, "{seen} seen\n{report}");
}

#[test]
fn every_floor_answers_ok() {
    for kind in [Kind::Tonic, Kind::TonicCurrentThread, Kind::H2] {
        let server = server_runtime();
        let listener = server.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = http(listener.local_addr().unwrap());
        server.spawn(kind.serve(listener, None));

        // One request every 10 ms, the hundredth at 1 s.
        let load = Load { rate: Some(100.0), duration: Duration::from_millis(1005), ..load() };
        let report = run(&address, &load).unwrap();
        assert_eq!((report.verdicts["OK"], report.errors), (100, 0), "{kind:?}\n{report}");
        let report = run_authz(&address, &load, None);
        assert_eq!((report.verdicts["OK"], report.errors), (100, 0), "{kind:?}\n{report}");
    }
}

fn run_authz(address: &Address, load: &Load, credentials: Option<PathBuf>) -> Report {
    let sent = sent::Settings {
        once: credentials.is_some(),
        credentials,
        header: "authorization".to_owned(),
        prefix: "Bearer ".to_owned(),
        distribution: Distribution::Uniform,
    };
    let settings = authz::Settings { policy: "bench".to_owned(), sent };
    let target = Authz::new(address, &settings).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run::run(target, address, load, None, &[])).unwrap()
}

#[test]
fn a_credential_that_was_used_before_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials");
    std::fs::write(&path, "one\ntwo\n").unwrap();
    let server = server_runtime();
    let listener = server.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = http(listener.local_addr().unwrap());
    server.spawn(Kind::TonicCurrentThread.serve(listener, None));
    let load = Load { rate: Some(100.0), duration: Duration::from_millis(205), ..load() };
    let report = run_authz(&address, &load, Some(path));
    assert!(report.errors_by_kind["no unused credential is left"] >= 17, "{report}");
}

#[test]
fn an_open_loop_sees_a_stall() {
    let stall = Some((100, Duration::from_millis(400)));
    let (runtime, service) = (server_runtime(), Service { stall, ..Service::default() });
    let load = Load { rate: Some(500.0), connections: NonZeroUsize::MIN, ..load() };
    let report = run(&http(serve(&runtime, &service, "127.0.0.1:0")), &load).unwrap();

    // Two in five requests fall due during the stall and wait 200 ms on average; a closed loop would have seen one that waits.
    assert!(report.latency.max_ms >= 390.0, "{report}");
    assert!(report.latency.p90_ms >= 200.0, "{report}");
    assert!(report.latency.mean_ms >= 60.0, "{report}");
    assert!(report.answered() + report.errors >= 499, "{report}");
}

#[test]
fn a_closed_loop_outlives_its_server() {
    let (first, second) = (Service::default(), Service::default());
    let runtime = server_runtime();
    let address = serve(&runtime, &first, "127.0.0.1:0");
    let load = Load { duration: Duration::from_secs(2), ..load() };
    let report = thread::scope(|scope| {
        let running = scope.spawn(|| run(&http(address), &load).unwrap());
        while first.counts.seen.load(Ordering::Relaxed) < 50 {
            thread::sleep(Duration::from_millis(1));
        }
        runtime.shutdown_timeout(Duration::from_secs(1));
        let again = server_runtime();
        serve(&again, &second, &address.to_string());
        running.join().unwrap()
    });
    assert!(second.counts.seen.load(Ordering::Relaxed) > 0, "{report}");
    let refused = report.errors_by_kind["gRPC status Unavailable every fifth fails"];
    assert!(report.errors > refused, "the end of the connections was not counted\n{report}");
}

#[test]
fn a_dead_server_ends_the_run_in_time() {
    let (runtime, service) = (server_runtime(), Service::default());
    let address = serve(&runtime, &service, "127.0.0.1:0");
    let load = Load { timeout: Duration::from_millis(300), rate: Some(200.0), ..load() };
    let began = Instant::now();
    let report = thread::scope(|scope| {
        let running = scope.spawn(|| run(&http(address), &load).unwrap());
        while service.counts.seen.load(Ordering::Relaxed) < 20 {
            thread::sleep(Duration::from_millis(1));
        }
        runtime.shutdown_timeout(Duration::from_secs(1));
        running.join().unwrap()
    });
    assert!(began.elapsed() < Duration::from_secs(20), "took {:?}", began.elapsed());
    assert!(report.errors_by_kind["timed out"] > 20, "{report}");
    assert!(report.latency.p99_ms >= 299.0, "{report}");
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = http(taken.local_addr().unwrap());
    drop(taken);
    let error = run(&address, &load()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot connect to {address}: ")), "{error}");
}

#[test]
fn speaks_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rls.sock");
    let (runtime, service) = (server_runtime(), Service::default());
    let listener = {
        let _entered = runtime.enter();
        UnixListener::bind(&path).unwrap()
    };
    let server = Server::builder().add_service(RateLimitServiceServer::new(service));
    runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    let load = Load { duration: Duration::from_millis(200), ..load() };
    assert!(run(&Address::Unix(path), &load).unwrap().answered() > 0);
}

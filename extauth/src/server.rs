//! The `extauth` process: one gRPC server a core for Envoy, one thread for everything else.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use parking_lot::Mutex;
use proto::drain::{self, Signal, Trigger};
use proto::readiness::Readiness;
use proto::serve::tls::{self, Tls};
use proto::serve::{self, Admission, Grpc, Listener};
use proto::{health, reflection, xds};
use tonic::service::{Routes, RoutesBuilder};

use crate::explain;
use crate::http_service;
use crate::resources::{self, Resources};
use crate::service::Authorizer;
use crate::settings::{ConfigType, Settings};
use crate::source::dir::Dir;
use crate::source::xds::Xds;

/// Full name of the gRPC service.
pub const SERVICE: &str = "envoy.service.auth.v3.Authorization";

/// Why the process cannot serve.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A socket or a server failed.
    #[error(transparent)]
    Serve(#[from] serve::Error),
    /// The services cannot be described.
    #[error("setting up gRPC reflection")]
    Reflection(#[from] Box<tonic_reflection::server::Error>),
    /// See [`resources::Error`].
    #[error(transparent)]
    Resources(#[from] resources::Error),
    /// See [`tls::Error`].
    #[error("setting up TLS: {0}")]
    Tls(#[from] tls::Error),
    /// The xDS server cannot be used as it is set.
    #[error("EXTAUTH_CONFIG_TYPE is GRPC_XDS_DELTA: {0}")]
    Xds(#[from] xds::Error),
    /// No handler for SIGTERM, or no runtime.
    #[error("setting up the process")]
    Setup(#[source] std::io::Error),
}

/// Serves until SIGTERM or SIGINT, and ends when the requests in flight have been answered.
pub fn run(settings: &Settings) -> Result<(), Error> {
    let cores = settings.cores.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let grpc = Listener::bind_per_core(&settings.grpc_addr, cores)?;
    let http = Listener::bind(&settings.http_addr)?;
    tracing::info!(grpc = %settings.grpc_addr, http = %settings.http_addr, cores, "serving");

    let readiness = Readiness::new();
    let authorizer = Authorizer::new(Resources::new(&settings.resources())?);
    let source = Source::new(settings, &authorizer, &readiness)?;
    let (leave, leaving) = drain::new();
    let router = router(readiness.clone(), leaving.clone());
    let tls = settings.tls.files().map(Tls::load).transpose()?;
    let debug = settings.debug_addr.as_ref().map(Listener::bind).transpose()?;
    let debug = debug.map(|listener| (listener, explain::router(authorizer.clone())));
    let http_service = HttpService::bind(settings, cores, &authorizer)?;
    let admission = settings.connections.admission();
    let (trigger, signal) = drain::new();
    let end = End { leave, delay: settings.connections.drain_delay(), trigger: &trigger, signal: signal.clone() };
    thread::scope(|scope| {
        let rest = scope.spawn(|| rest(source, tls.clone(), [Some((http, router)), debug], end));
        let served = serve::per_core(grpc, &trigger, async |core, listener| {
            let server = Grpc::new(listener).tls(tls.clone()).admission(admission.clone());
            let grpc = serve_core(server, &authorizer, &readiness, &leaving, signal.clone());
            let (grpc, http) = tokio::join!(grpc, http_service.serve_core(core, tls.clone(), signal.clone()));
            grpc.and(http)
        });
        let rest = rest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        served.and(rest)
    })
}

/// Where the policies come from.
enum Source {
    Dir(Box<Dir>),
    Xds(Box<Xds>),
}

impl Source {
    fn new(settings: &Settings, authorizer: &Authorizer, readiness: &Readiness) -> Result<Self, Error> {
        let (authorizer, block) = (authorizer.clone(), readiness.block("policies"));
        Ok(match settings.source.config_type {
            ConfigType::File => Self::Dir(Box::new(Dir::new(&settings.source.config_dir, authorizer, Some(block)))),
            ConfigType::GrpcXdsDelta => {
                Self::Xds(Box::new(Xds::new(settings.source.xds.0.clone(), authorizer, block)?))
            }
        })
    }

    async fn follow(self) {
        match self {
            Self::Dir(dir) => dir.follow().await,
            Self::Xds(xds) => xds.follow().await,
        }
    }
}

async fn serve_core(
    server: Grpc,
    authorizer: &Authorizer,
    readiness: &Readiness,
    leaving: &Signal,
    signal: Signal,
) -> Result<(), Error> {
    let mut routes = RoutesBuilder::default();
    routes.add_service(authorizer.service());
    routes.add_service(health::service(&[SERVICE], readiness, leaving).await);
    reflection::add(&mut routes, &[SERVICE]).map_err(Box::new)?;
    Ok(server.serve(routes.routes(), signal).await?)
}

/// The port for Envoy's `http_service`, a listener a core; none without an address.
struct HttpService {
    listeners: Vec<Mutex<Option<Listener>>>,
    router: Router,
    admission: Admission,
}

impl HttpService {
    fn bind(settings: &Settings, cores: usize, authorizer: &Authorizer) -> Result<Self, Error> {
        let address = settings.http_service.http_service_addr.as_ref();
        let listeners = address.map(|address| Listener::bind_per_core(address, cores)).transpose()?.unwrap_or_default();
        let router = http_service::router(authorizer.clone(), settings.http_service.options());
        let listeners = listeners.into_iter().map(|listener| Mutex::new(Some(listener))).collect();
        Ok(Self { listeners, router, admission: settings.connections.admission() })
    }

    /// Over TLS it is HTTP/2 only, as the gRPC port is.
    async fn serve_core(&self, core: usize, tls: Option<Tls>, signal: Signal) -> Result<(), Error> {
        let listener = self.listeners.get(core).and_then(|listener| listener.lock().take());
        let Some(listener) = listener else { return Ok(()) };
        let admission = self.admission.clone();
        if tls.is_none() {
            return Ok(serve::http_within(admission, listener, self.router.clone(), signal).await?);
        }
        let server = Grpc::new(listener).tls(tls).admission(admission);
        Ok(server.serve(Routes::from(self.router.clone()), signal).await?)
    }
}

/// The way to the end: health fails at SIGTERM, connections are drained after the delay.
struct End<'a> {
    leave: Trigger,
    delay: Duration,
    trigger: &'a Trigger,
    signal: Signal,
}

/// What is no request of Envoy's: following the policies, health and metrics, the signals.
fn rest(
    source: Source,
    tls: Option<Tls>,
    [http, debug]: [Option<(Listener, Router)>; 2],
    end: End<'_>,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Setup)?;
    runtime.block_on(async {
        tokio::spawn(source.follow());
        if let Some(tls) = tls {
            tokio::spawn(tls.follow());
        }
        let (served, debugged) = (port(http, end.signal.clone()), port(debug, end.signal.clone()));
        let (served, debugged, stopped) = tokio::join!(served, debugged, end.come());
        served.and(debugged).map_err(Error::from).and(stopped)
    })
}

async fn port(port: Option<(Listener, Router)>, signal: Signal) -> Result<(), serve::Error> {
    match port {
        Some((listener, router)) => serve::http(listener, router, signal).await,
        None => Ok(()),
    }
}

impl End<'_> {
    /// Waits for SIGTERM, unless something else has started the drain.
    async fn come(self) -> Result<(), Error> {
        let terminated = async {
            drain::on_sigterm(self.leave).await.map_err(Error::Setup)?;
            tokio::time::sleep(self.delay).await;
            Ok(())
        };
        let outcome = tokio::select! {
            outcome = terminated => outcome,
            () = self.signal.wait() => Ok(()),
        };
        self.trigger.drain();
        outcome
    }
}

fn router(readiness: Readiness, leaving: Signal) -> Router {
    let state = Arc::new((readiness, leaving));
    let healthcheck = move || {
        let (readiness, leaving) = &*state;
        let pending = readiness.pending();
        let answer = if leaving.is_draining() {
            (StatusCode::SERVICE_UNAVAILABLE, "draining".to_owned())
        } else if pending.is_empty() {
            (StatusCode::OK, "OK".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}", pending.join(", ")))
        };
        std::future::ready(answer)
    };
    proto::metrics::router(proto::metrics::install()).route("/healthcheck", get(healthcheck))
}

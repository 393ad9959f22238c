//! The `extauth` process: one gRPC server a core for Envoy, one thread for everything else.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use parking_lot::Mutex;
use proto::drain::{self, Signal, Trigger};
use proto::readiness::Readiness;
use proto::serve::tls::{self, Tls};
use proto::serve::{self, Grpc, Listener};
use proto::{health, reflection};
use tonic::service::{Routes, RoutesBuilder};

use crate::explain;
use crate::http_service;
use crate::resources::{self, Resources};
use crate::service::Authorizer;
use crate::settings::Settings;
use crate::source::dir::Dir;

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
    let dir = Dir::new(&settings.config_dir, authorizer.clone(), Some(readiness.block("policies")));
    let router = router(readiness.clone());
    let tls = settings.tls.files().map(Tls::load).transpose()?;
    let debug = settings.debug_addr.as_ref().map(Listener::bind).transpose()?;
    let debug = debug.map(|listener| (listener, explain::router(authorizer.clone())));
    let http_service = HttpService::bind(settings, cores, &authorizer)?;
    let (trigger, signal) = drain::new();
    thread::scope(|scope| {
        let rest = scope.spawn(|| rest(dir, tls.clone(), [Some((http, router)), debug], &trigger, signal.clone()));
        let served = serve::per_core(grpc, &trigger, async |core, listener| {
            let grpc = serve_core(listener, tls.clone(), &authorizer, &readiness, &signal);
            let (grpc, http) = tokio::join!(grpc, http_service.serve_core(core, tls.clone(), signal.clone()));
            grpc.and(http)
        });
        let rest = rest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        served.and(rest)
    })
}

async fn serve_core(
    listener: Listener,
    tls: Option<Tls>,
    authorizer: &Authorizer,
    readiness: &Readiness,
    signal: &Signal,
) -> Result<(), Error> {
    let mut routes = RoutesBuilder::default();
    routes.add_service(authorizer.service());
    routes.add_service(health::service(&[SERVICE], readiness, signal).await);
    reflection::add(&mut routes, &[SERVICE]).map_err(Box::new)?;
    Ok(Grpc::new(listener).tls(tls).serve(routes.routes(), signal.clone()).await?)
}

/// The port for Envoy's `http_service`, a listener a core; none without an address.
struct HttpService {
    listeners: Vec<Mutex<Option<Listener>>>,
    router: Router,
}

impl HttpService {
    fn bind(settings: &Settings, cores: usize, authorizer: &Authorizer) -> Result<Self, Error> {
        let address = settings.http_service.http_service_addr.as_ref();
        let listeners = address.map(|address| Listener::bind_per_core(address, cores)).transpose()?.unwrap_or_default();
        let router = http_service::router(authorizer.clone(), settings.http_service.options());
        Ok(Self { listeners: listeners.into_iter().map(|listener| Mutex::new(Some(listener))).collect(), router })
    }

    /// Over TLS it is HTTP/2 only, as the gRPC port is.
    async fn serve_core(&self, core: usize, tls: Option<Tls>, signal: Signal) -> Result<(), Error> {
        let listener = self.listeners.get(core).and_then(|listener| listener.lock().take());
        match (listener, tls) {
            (None, _) => Ok(()),
            (Some(listener), None) => Ok(serve::http(listener, self.router.clone(), signal).await?),
            (Some(listener), tls) => {
                Ok(Grpc::new(listener).tls(tls).serve(Routes::from(self.router.clone()), signal).await?)
            }
        }
    }
}

/// What is no request of Envoy's: following the policies, health and metrics, the signals.
fn rest(
    dir: Dir,
    tls: Option<Tls>,
    [http, debug]: [Option<(Listener, Router)>; 2],
    trigger: &Trigger,
    signal: Signal,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Setup)?;
    runtime.block_on(async {
        tokio::spawn(dir.follow());
        if let Some(tls) = tls {
            tokio::spawn(tls.follow());
        }
        let (served, debugged) = (port(http, signal.clone()), port(debug, signal.clone()));
        let (served, debugged, stopped) = tokio::join!(served, debugged, stop(trigger, signal));
        served.and(debugged).map_err(Error::from).and(stopped)
    })
}

async fn port(port: Option<(Listener, Router)>, signal: Signal) -> Result<(), serve::Error> {
    match port {
        Some((listener, router)) => serve::http(listener, router, signal).await,
        None => Ok(()),
    }
}

/// Starts the drain at SIGTERM, unless something else started it before.
async fn stop(trigger: &Trigger, signal: Signal) -> Result<(), Error> {
    let (terminated, _) = drain::new();
    let outcome = tokio::select! {
        outcome = drain::on_sigterm(terminated) => outcome.map_err(Error::Setup),
        () = signal.wait() => Ok(()),
    };
    trigger.drain();
    outcome
}

fn router(readiness: Readiness) -> Router {
    let readiness = Arc::new(readiness);
    let healthcheck = move || {
        let pending = readiness.pending();
        let answer = if pending.is_empty() {
            (StatusCode::OK, "OK".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}", pending.join(", ")))
        };
        std::future::ready(answer)
    };
    proto::metrics::router(proto::metrics::install()).route("/healthcheck", get(healthcheck))
}

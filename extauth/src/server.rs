//! The `extauth` process: one gRPC server a core for Envoy, one thread for everything else.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use proto::drain::{self, Signal, Trigger};
use proto::readiness::Readiness;
use proto::serve::tls::{self, Tls};
use proto::serve::{self, Grpc, Listener};
use proto::{health, reflection};
use tonic::service::RoutesBuilder;

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
    let (trigger, signal) = drain::new();
    thread::scope(|scope| {
        let rest = scope.spawn(|| rest(dir, tls.clone(), http, router, &trigger, signal.clone()));
        let served = serve::per_core(grpc, &trigger, async |_, listener| {
            serve_core(listener, tls.clone(), &authorizer, &readiness, &signal).await
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

/// What is no request of Envoy's: following the policies, health and metrics, the signals.
fn rest(
    dir: Dir,
    tls: Option<Tls>,
    http: Listener,
    router: Router,
    trigger: &Trigger,
    signal: Signal,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Setup)?;
    runtime.block_on(async {
        tokio::spawn(dir.follow());
        if let Some(tls) = tls {
            tokio::spawn(tls.follow());
        }
        let served = serve::http(http, router, signal.clone());
        let (served, stopped) = tokio::join!(served, stop(trigger, signal));
        served.map_err(Error::from).and(stopped)
    })
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

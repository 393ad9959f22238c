//! `controller serve`: what a Kubernetes API server says, onto the Envoys that connect.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use clap::{Args, ValueEnum};
use controller_core::{Credentials, Settings};
use kube::Client;
use proto::{
    drain, metrics,
    readiness::Readiness,
    serve::{
        self, Address, Grpc, Listener,
        tls::{self, Tls},
    },
};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};
use tonic::service::Routes;

use self::{
    saved::State as Saved,
    translator::{Outlets, Translator},
};
use crate::{
    ads,
    apply::Applier,
    cluster::{self, Board, Lease, Reviewer, Writer},
    error::chain,
    installation::{self, ApiServer, Installation},
};

mod debug;
mod saved;
mod translator;

/// The name of the Lease is that of Envoy Gateway, so that of the two only one writes during a migration.
const LEASE: &str = "5b9825d2.gateway.envoyproxy.io";
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What an operator decides.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where the objects are.
    #[command(flatten)]
    pub api_server: ApiServer,
    /// Which of them count.
    #[command(flatten)]
    pub installation: Installation,
    /// Envoy's image [default: the release that this one is tested with]
    #[arg(long, value_name = "IMAGE", env = "ENVOY_IMAGE")]
    pub envoy_image: Option<String>,
    /// The image of this program, which runs beside each Envoy to end it gracefully [default: that of this version]
    #[arg(long, value_name = "IMAGE", env = "CONTROLLER_IMAGE")]
    pub controller_image: Option<String>,
    /// Where Envoys ask for their configuration; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(ANY, 18000))]
    pub xds: SocketAddr,
    /// Where the rate limit and authorization services ask for their configuration; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(ANY, 18001))]
    pub rate_limit_xds: SocketAddr,
    /// Address of /healthz, /readyz and /metrics; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(ANY, 8081))]
    pub admin: SocketAddr,
    /// Address of /debug/resources and /debug/envoys, for whoever is on the machine; without it when it is in use
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 19000))]
    pub debug: SocketAddr,
    /// How Envoys show who they are; the services show certificates
    #[arg(long, value_name = "HOW", value_enum, default_value_t = IdentityBy::CertificateAndToken)]
    pub identity_by: IdentityBy,
    /// Folder with tls.crt, tls.key and ca.crt, the authority of clients' certificates; changes are followed
    #[arg(long, value_name = "DIR", default_value = "/certs")]
    pub certs: PathBuf,
    /// Serve in clear text to whoever connects, for tests on one machine
    #[arg(long)]
    pub insecure: bool,
    /// Folder that keeps what is served, for a start while the API server is away; it holds private keys
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Name of this replica in the Lease that makes one of them the leader
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "controller")]
    pub identity: String,
    /// How long the Lease outlives a leader that has vanished
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    pub lease_seconds: u16,
    /// Most statuses written in a second
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub status_rate: u32,
    /// How long objects stay in force when the API server suddenly lists less than half of a kind; 0 turns that off
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub deletion_hold_seconds: u64,
    /// How often the API server is asked for kinds that it did not have
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rediscovery_seconds: u16,
    /// Write here, as JSON, which addresses are served, when they are
    #[arg(long, value_name = "PATH", hide = true)]
    pub ready_file: Option<PathBuf>,
}

/// How Envoys show who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdentityBy {
    /// A certificate for `<name>.<namespace>`, or one for `*.<namespace>`, which all of them share, and a token
    CertificateAndToken,
    /// A certificate for `<name>.<namespace>` or `*.<namespace>`, whose holder may ask for any proxy
    Certificate,
    /// A token of their pods' service account, for the audience envoy-gateway.<namespace>.svc.<dns-domain>
    Token,
}

impl From<IdentityBy> for Credentials {
    fn from(identity_by: IdentityBy) -> Self {
        match identity_by {
            IdentityBy::CertificateAndToken => Self::CertificateAndToken,
            IdentityBy::Certificate => Self::Certificate,
            IdentityBy::Token => Self::Token,
        }
    }
}

/// Why it could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses something that every program needs.
    #[error("{attempt}")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no way to the API server.
    #[error(transparent)]
    ApiServer(#[from] installation::Error),
    /// An address is in use, or a server failed.
    #[error(transparent)]
    Serve(#[from] serve::Error),
    /// The certificates cannot be used.
    #[error("loading the certificates of the xDS server")]
    Tls(#[from] tls::Error),
    /// A part of this process has ended.
    #[error("a part of the controller has failed")]
    Task(#[from] tokio::task::JoinError),
}

/// Runs until SIGTERM or SIGINT.
pub fn run(options: &Options) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::System { attempt: "starting the runtime", source })?;
    runtime.block_on(serve(options))
}

async fn serve(options: &Options) -> Result<(), Error> {
    let installation = &options.installation;
    let (trigger, signal) = drain::new();
    let xds = Listener::bind(&Address::Tcp(options.xds))?;
    let rate_limit_xds = Listener::bind(&Address::Tcp(options.rate_limit_xds))?;
    let admin = Listener::bind(&Address::Tcp(options.admin))?;
    let debug = match Listener::bind(&Address::Tcp(options.debug)) {
        Ok(debug) => Some(debug),
        Err(error) => {
            tracing::warn!("/debug is not served: {}", chain(&error));
            None
        }
    };
    let listeners = [("xds", &xds), ("rateLimitXds", &rate_limit_xds), ("admin", &admin)];
    announce(options, listeners.into_iter().chain(debug.as_ref().map(|debug| ("debug", debug))))?;
    let client = options.api_server.client().await?;

    let readiness = Readiness::new();
    let synced = readiness.block("the first snapshot of the API server's objects");
    let board = Arc::new(Board::new(installation.controller_name.clone()));
    let scope = installation.scope();
    let watches = cluster::Options {
        scope: scope.clone(),
        hold: Duration::from_secs(options.deletion_hold_seconds),
        rediscover: Duration::from_secs(options.rediscovery_seconds.into()),
    };
    let snapshots = cluster::snapshots(client.clone(), Arc::clone(&board), watches);
    let cache = ads::Cache::default();
    let (limits, limited) = watch::channel(None);
    let settings = Arc::new(settings(options));
    let (fleets, wanted) = watch::channel(None);
    let (policies, guarded) = watch::channel(None);
    let outlets = Outlets { cache: cache.clone(), limits, policies, board: Arc::clone(&board), fleets };
    let (refusals, unmade) = watch::channel(ads::holds::Refusals::new());
    let refused = ads::Refused::default();
    let translator = Translator::new(Arc::clone(&settings), outlets, unmade, refused.clone(), synced);

    let mut parts: JoinSet<Result<(), Error>> = JoinSet::new();
    let mut followers = JoinSet::new();
    let envoys = envoys(options, &client, ads::Accounts::new(Arc::clone(&settings), wanted.clone()));
    let discovery = ads::Server::verified(cache.clone(), signal.clone(), envoys);
    let service_discovery =
        ads::services::Server::new(limited.clone(), guarded.clone(), refused, signal.clone(), services(options));
    let (for_envoys, for_services) =
        (certificates(options, settings.credentials())?, certificates(options, Credentials::Certificate)?);
    for tls in [&for_envoys, &for_services].into_iter().flatten() {
        followers.spawn(tls.clone().follow());
    }
    let xds = Grpc::new(xds).tls(for_envoys).serve(Routes::new(discovery), signal.clone());
    parts.spawn(async { Ok(xds.await?) });
    let xds = Grpc::new(rate_limit_xds).tls(for_services).serve(Routes::new(service_discovery), signal.clone());
    parts.spawn(async { Ok(xds.await?) });
    let router = router(readiness);
    let admin = serve::http(admin, router, signal.clone());
    parts.spawn(async { Ok(admin.await?) });
    if let Some(debug) = debug {
        let debug = serve::http(debug, debug::router(cache.clone()), signal.clone());
        parts.spawn(async { Ok(debug.await?) });
    }

    let (leading, leads) = watch::channel(None);
    let duration = Duration::from_secs(options.lease_seconds.into());
    let lease = Lease::new(client.clone(), &installation.namespace, LEASE, &options.identity, duration);
    let compete = lease.compete(leading, signal.clone());
    parts.spawn(async {
        compete.await;
        Ok(())
    });
    followers.spawn(Writer::new(client.clone(), board, options.status_rate, &options.identity).run(leads.clone()));
    followers.spawn(Applier::new(client, settings, scope, refusals).run(wanted, leads));
    let saved = options.state.as_deref().map(Saved::new);
    if let Some(saved) = saved.clone() {
        followers.spawn(translator::keep(saved, cache, limited, guarded));
    }
    followers.spawn(translator.follow(snapshots, saved));

    let on_sigterm = tokio::spawn(drain::on_sigterm(trigger));
    let outcome = tokio::select! {
        () = signal.clone().wait() => Ok(()),
        Some(ended) = parts.join_next() => ended?,
        Some(Err(panic)) = followers.join_next() => Err(panic.into()),
    };
    // Which drops the trigger, and so ends the others.
    on_sigterm.abort();
    while let Some(ended) = parts.join_next().await {
        if let Err(error) = ended? {
            tracing::warn!("{}", chain(&error));
        }
    }
    outcome
}

fn settings(options: &Options) -> Settings {
    let mut settings = options.installation.settings();
    settings.envoy_image = options.envoy_image.clone().unwrap_or(settings.envoy_image);
    settings.credentials = options.identity_by.into();
    settings.controller_image = options.controller_image.clone().unwrap_or(settings.controller_image);
    settings
}

/// Services show certificates, unless nobody has to show anything.
fn services(options: &Options) -> ads::Identity {
    if options.insecure {
        return ads::Identity::Unverified;
    }
    ads::Identity::Certificate { home: options.installation.namespace.clone(), tokens: None }
}

fn envoys(options: &Options, client: &Client, accounts: ads::Accounts) -> ads::Identity {
    if options.insecure {
        return ads::Identity::Unverified;
    }
    let (home, settings) = (options.installation.namespace.clone(), settings(options));
    let reviewer = Reviewer::new(client.clone(), settings.controller_host());
    let tokens = ads::Tokens { reviewer, accounts };
    match settings.credentials() {
        Credentials::CertificateAndToken => ads::Identity::Certificate { home, tokens: Some(tokens) },
        Credentials::Certificate => ads::Identity::Certificate { home, tokens: None },
        Credentials::Token => ads::Identity::Token(tokens),
    }
}

/// The TLS of a server whose clients show who they are in this way.
fn certificates(options: &Options, credentials: Credentials) -> Result<Option<Tls>, tls::Error> {
    let file = |name| options.certs.join(name);
    let client_ca = credentials.has_certificate().then(|| file("ca.crt"));
    let files = tls::Files { cert: file("tls.crt"), key: file("tls.key"), client_ca, client_san: None };
    (!options.insecure).then(|| Tls::load(files)).transpose()
}

/// `/healthz`, `/readyz` and `/metrics`.
fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(readiness)
        .merge(metrics::router(metrics::install()))
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    match readiness.pending().as_slice() {
        [] => (StatusCode::OK, "ok\n".to_owned()),
        pending => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", pending.join(", "))),
    }
}

fn announce<'l>(options: &Options, listeners: impl Iterator<Item = (&'l str, &'l Listener)>) -> Result<(), Error> {
    let Some(path) = &options.ready_file else { return Ok(()) };
    let addresses = listeners
        .map(|(name, listener)| listener.address().map(|address| (name.to_owned(), Value::from(address.to_string()))));
    let report: io::Result<Value> = addresses.collect();
    // Whoever waits for the file must not see half of it.
    let draft = path.with_extension("draft");
    let written =
        report.and_then(|report| fs::write(&draft, report.to_string())).and_then(|()| fs::rename(&draft, path));
    written.map_err(|source| Error::System { attempt: "writing the ready file", source })
}

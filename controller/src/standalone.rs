//! `controller standalone`: manifests from a directory onto Envoys on this machine, with everything they need in one
//! process.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    pin::pin,
    str::FromStr,
    sync::Arc,
};

use clap::Args;
use proto::{drain, serve};
use ratelimit::store::redis;
use tokio::{sync::watch, task::JoinSet};

use self::{
    admin::Admin,
    fleet::Fleet,
    ready::Report,
    servers::{Servers, Sockets},
    services::Services,
    state::State,
    translator::Translator,
};
use crate::{
    ads, echo, envoy,
    source::{self, Files},
};

mod address;
mod admin;
mod fleet;
mod ready;
mod servers;
mod services;
mod state;
mod translator;

#[expect(clippy::doc_markdown, reason = "the texts are --help")]
/// What an operator decides.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Folder with the manifests (*.yaml, *.yml, *.json); changes are followed
    pub directory: PathBuf,
    /// Address of every Gateway [default: 127.0.0.1 for the first, 127.0.0.2 for the next, …]
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Address of /ready, /status, /config_dump, /healthz and /metrics; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:19000")]
    pub admin: SocketAddr,
    /// Address of a backend that answers with the request it got, also for Services whose pods a cluster would run, or
    /// `none`
    #[arg(long, value_name = "ADDRESS", default_value_t = OrNone(Some(echo::DEFAULT)))]
    pub echo: OrNone,
    /// Count rate limits in this Redis instead of in memory
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true, value_parser = redis_url)]
    pub redis: Option<redis::Url>,
    /// Folder of YAML files with other rate limits for rules or single values; changes are followed
    #[arg(long, value_name = "DIR")]
    pub overrides: Option<PathBuf>,
    /// Envoy's binary [default: $ENVOY, else `envoy` on PATH, else .tools/envoy]
    #[arg(long, value_name = "PATH")]
    pub envoy: Option<PathBuf>,
    /// Envoy's own log goes to the end of this file [default: standard error]
    #[arg(long, value_name = "PATH")]
    pub envoy_log: Option<PathBuf>,
    /// Envoy's access log goes to the end of this file [default: nowhere]
    #[arg(long, value_name = "PATH")]
    pub access_log: Option<PathBuf>,
    /// Write here, as JSON, which Gateways answer and where, whenever that changes
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
}

/// An address, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrNone(pub Option<SocketAddr>);

impl fmt::Display for OrNone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl FromStr for OrNone {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|address| Self(Some(address))) }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what clap wants of a parser")]
fn redis_url(text: &str) -> Result<redis::Url, String> {
    Ok(redis::Url::new(text))
}

/// Why it could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to read the manifests from.
    #[error("{0} is no directory")]
    Directory(PathBuf),
    /// Envoy is missing.
    #[error(transparent)]
    Envoy(#[from] envoy::Error),
    /// The system refuses something that every program needs.
    #[error("{attempt}")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// An address is in use.
    #[error(transparent)]
    Serve(#[from] serve::Error),
    /// Authorization cannot be set up.
    #[error(transparent)]
    Authorization(#[from] extauth::resources::Error),
    /// A service inside this process has failed.
    #[error("{name} has failed: {reason}")]
    Service {
        /// Which one.
        name: &'static str,
        /// Why, with its causes.
        reason: String,
    },
}

/// Runs until SIGTERM or SIGINT. Blocks the calling thread, which has to be the main thread: Envoys end with it.
pub fn run(options: &Options) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::System { attempt: "starting the runtime", source })?;
    runtime.block_on(serve(options))
}

async fn serve(options: &Options) -> Result<(), Error> {
    if !options.directory.is_dir() {
        return Err(Error::Directory(options.directory.clone()));
    }
    let program = envoy::find(options.envoy.as_deref())?;
    let run_dir = tempfile::Builder::new().prefix("tollgate-").tempdir();
    let run_dir = run_dir.map_err(|source| Error::System { attempt: "making a temporary folder", source })?;
    let sockets = Sockets::below(run_dir.path());
    let servers = Servers::bind(options, &sockets)?;
    let manifests = source::watch(Files::new(&options.directory));

    let cache = ads::Cache::default();
    let services = Services::new()?;
    let (states, state) = watch::channel(Arc::new(State::default()));
    let (pids, pid) = watch::channel(BTreeMap::new());
    let (reports, report) = watch::channel(Report::default());
    let (end, ending) = drain::new();

    let (admin, echo) = servers.addresses();
    let base = Report { admin, echo, ..Report::default() };
    let admin = Admin { cache: cache.clone(), states: state.clone(), reports: report.clone() };
    let mut running = servers.start(options, cache.clone(), &services, admin, &ending);
    let mut followers = JoinSet::new();
    if let Some(dir) = &options.overrides {
        followers.spawn(services.overrides(dir).follow());
    }
    let translator = Translator::new(options, &sockets, echo, cache.clone(), services, states);
    followers.spawn(translator.follow(manifests));
    followers.spawn(ready::follow(base, cache, state.clone(), pid, reports));
    followers.spawn(ready::announce(report, options.ready_file.clone()));

    let (stop, stopped) = drain::new();
    let on_sigterm = tokio::spawn(drain::on_sigterm(stop));
    let (run_dir_path, xds) = (run_dir.path().to_owned(), sockets.xds);
    let fleet = Fleet { program, run_dir: run_dir_path, xds, log: options.envoy_log.clone() };
    let mut fleet = pin!(fleet.run(state, pids, stopped));
    let outcome = tokio::select! {
        () = &mut fleet => Ok(()),
        error = running.failure() => {
            // Which drops the trigger, and so stops the fleet.
            on_sigterm.abort();
            fleet.await;
            Err(error)
        }
    };
    end.drain();
    running.end().await;
    outcome
}

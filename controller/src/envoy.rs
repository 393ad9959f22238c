//! Envoy as a child process: found, started, restarted when it dies, and never left behind.

use std::{
    env,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use proto::drain::Signal;
use rustix::process::{Pid, kill_process};
use tokio::process::{Child, Command};

use crate::error::chain;

pub mod child;
mod drain;
pub mod shutdown;

/// This program, even when its file has been replaced since it started.
const SELF: &str = "/proc/self/exe";
/// Where `make` puts Envoy, below the working directory.
const TOOLS: &str = ".tools/envoy";
/// Pause before an Envoy that died is started again; doubled each time it dies soon.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// An Envoy that ran this long was healthy, and the pauses start over.
const HEALTHY: Duration = Duration::from_secs(30);
/// How long requests in flight may take when Envoy has to end, and then Envoy itself.
const GRACE: Duration = Duration::from_secs(5);

/// Why there is no Envoy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none in any of the places.
    #[error("no Envoy found: say --envoy PATH, set ENVOY, put `envoy` on PATH, or fetch it into {TOOLS} with `make`")]
    NotFound,
    /// What was named is no program.
    #[error("there is no Envoy at {0}")]
    Missing(PathBuf),
    /// It cannot be started.
    #[error("starting {program}")]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The Envoy to run: `option`, else `$ENVOY`, else `envoy` on `PATH`, else `.tools/envoy`.
pub fn find(option: Option<&Path>) -> Result<PathBuf, Error> {
    let named = option.map(Path::to_owned).or_else(|| env::var_os("ENVOY").map(PathBuf::from));
    if let Some(path) = named {
        return if path.is_file() { Ok(path) } else { Err(Error::Missing(path)) };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|directory| directory.join("envoy"));
    on_path.chain([PathBuf::from(TOOLS)]).find(|candidate| candidate.is_file()).ok_or(Error::NotFound)
}

/// How an Envoy is started.
#[derive(Debug)]
pub struct Launch {
    /// Envoy's binary.
    pub program: PathBuf,
    /// `<namespace>/<gateway>`, which is its `--service-cluster`.
    pub key: String,
    /// A name for this process among the fleet's, its `--service-node`.
    pub node: String,
    /// The bootstrap configuration's file.
    pub bootstrap: PathBuf,
    /// The socket of its admin interface, as the bootstrap says.
    pub admin: PathBuf,
    /// Where its output goes; the controller's standard error when there is none.
    pub log: Option<File>,
}

impl Launch {
    /// Starts Envoy. It ends with the thread that calls this, even if that is killed.
    pub fn start(&self) -> Result<Child, Error> {
        let error = |source| Error::Start { program: self.program.clone(), source };
        let output = || match &self.log {
            Some(log) => Ok(Stdio::from(log.try_clone()?)),
            None => Ok(Stdio::from(io::stderr())),
        };
        let mut command = Command::new(SELF);
        command.arg(child::COMMAND).arg(std::process::id().to_string()).arg(&self.program);
        command.arg("--config-path").arg(&self.bootstrap);
        command.args(["--service-cluster", &self.key, "--service-node", &self.node]);
        command.args(["--log-level", "warn", "--disable-hot-restart"]);
        // Ctrl-C in a terminal is meant for the controller, which lets Envoy finish its requests first.
        command.process_group(0).stdin(Stdio::null());
        command.stdout(output().map_err(error)?).stderr(output().map_err(error)?);
        command.kill_on_drop(true).spawn().map_err(error)
    }

    /// Keeps an Envoy running until `stop`. `started` hears the process id of each.
    pub async fn keep_running(&self, stop: Signal, mut started: impl FnMut(Option<u32>)) {
        let mut pause = FIRST_PAUSE;
        loop {
            let start = Instant::now();
            match self.start() {
                Ok(mut envoy) => {
                    started(envoy.id());
                    tokio::select! {
                        status = envoy.wait() => tracing::error!("{}", died(&self.key, status, pause)),
                        () = stop.clone().wait() => return self.end(envoy).await,
                    }
                    started(None);
                }
                Err(error) => tracing::error!(gateway = self.key, "{}", chain(&error)),
            }
            if start.elapsed() > HEALTHY {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = stop.clone().wait() => return,
            }
        }
    }

    /// Lets requests in flight finish, asks Envoy to end, and kills it when it does not.
    async fn end(&self, mut envoy: Child) {
        match tokio::time::timeout(GRACE, drain::requests(&self.admin)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(gateway = self.key, "draining Envoy: {error}"),
            Err(_) => tracing::warn!(gateway = self.key, "requests take too long and are cut off"),
        }
        let pid = envoy.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(GRACE, envoy.wait()).await.is_err() {
            tracing::warn!(gateway = self.key, "Envoy does not end on SIGTERM and is killed");
            // Dropping it kills it as well.
            let _ = envoy.kill().await;
        }
    }
}

fn died(key: &str, status: io::Result<ExitStatus>, pause: Duration) -> String {
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    format!("the Envoy of Gateway {key} has ended ({status}); it is started again in {} ms", pause.as_millis())
}

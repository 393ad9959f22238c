//! The real program with its policies, on sockets in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use proto::extauth::{Policies, Policy};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Answer, Process, Response, get, program};

/// Long enough for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// `extauth`, killed when dropped.
pub(crate) struct Running {
    pub(crate) dir: TempDir,
    pub(crate) process: Process,
    command: Command,
}

impl Running {
    pub(crate) fn start(policies: Vec<Policy>) -> Self {
        Self::with(policies, |_, _| {})
    }

    /// With other arguments or variables, as soon as the policies are in force.
    pub(crate) fn with(policies: Vec<Policy>, change: impl FnOnce(&Path, &mut Command)) -> Self {
        let running = Self::begin(policies, change);
        running.ready();
        running
    }

    /// At once.
    pub(crate) fn begin(policies: Vec<Policy>, change: impl FnOnce(&Path, &mut Command)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("policies")).unwrap();
        put(dir.path(), policies);
        let mut command = program(dir.path());
        command.stderr(fs::File::create(dir.path().join("extauth.log")).unwrap());
        change(dir.path(), &mut command);
        let process = command.spawn().map(Process).unwrap();
        Self { dir, process, command }
    }

    /// Another process in the place of the one that has ended.
    pub(crate) fn restart(&mut self) {
        self.process = self.command.spawn().map(Process).unwrap();
        self.ready();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts other policies in the place of all.
    pub(crate) fn put(&self, policies: Vec<Policy>) {
        put(self.dir.path(), policies);
    }

    /// Waits until policies are in force.
    pub(crate) fn ready(&self) {
        until("readiness", || self.is_healthy(), || self.log());
    }

    pub(crate) fn is_healthy(&self) -> bool {
        get(&self.path("http.sock"), "/healthcheck", &[]).is_some_and(|answer| answer.status == 200)
    }

    pub(crate) fn metrics(&self) -> String {
        get(&self.path("http.sock"), "/metrics", &[]).map(|answer| answer.body).unwrap_or_default()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("extauth.log")).unwrap_or_default()
    }

    /// The log as soon as it has this. A thread of its own writes it.
    pub(crate) fn log_with(&self, text: &str) -> String {
        until(text, || self.log().contains(text), || self.log());
        self.log()
    }

    /// Envoy's own way to ask over HTTP; header lines go out as they stand.
    pub(crate) fn ask_over_http(&self, path: &str, headers: &[&str]) -> Response {
        get(&self.path("service.sock"), path, headers).expect("an answer")
    }

    /// A connection such as Envoy's.
    pub(crate) async fn client(&self) -> AuthorizationClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("unix:{}", self.path("extauth.sock").display())).unwrap();
        AuthorizationClient::new(endpoint.connect().await.unwrap())
    }

    /// Bytes of memory that it uses.
    pub(crate) fn resident(&self) -> usize {
        let pages = fs::read_to_string(format!("/proc/{}/statm", self.process.0.id())).unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.0.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
}

/// What Envoy is told.
pub(crate) async fn ask(client: &mut AuthorizationClient<Channel>, request: CheckRequest) -> Answer {
    Answer::of(client.check(request).await.unwrap().into_inner())
}

/// Waits for something; when it never happens, says what is known.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool, known: impl FnOnce() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen in time; {}", known());
        thread::sleep(Duration::from_millis(20));
    }
}

/// In one step, so that nobody reads half of it.
fn put(dir: &Path, policies: Vec<Policy>) {
    fs::write(dir.join("next"), serde_json::to_string(&Policies { policies }).unwrap()).unwrap();
    fs::rename(dir.join("next"), dir.join("policies/guard.yaml")).unwrap();
}

//! A real Redis for one test.

use std::{
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ratelimit::store::redis::{Access, Options, Url};
use tempfile::TempDir;

use crate::tools;

/// Runs until dropped.
pub(crate) struct RedisServer {
    binary: PathBuf,
    dir: TempDir,
    process: Option<Child>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::start_binary(tools::redis_server())
    }

    pub(crate) fn start_valkey() -> Self {
        Self::start_binary(tools::valkey_server())
    }

    fn start_binary(binary: PathBuf) -> Self {
        let mut server = Self { binary, dir: tempfile::tempdir().unwrap(), process: None };
        server.restart();
        server
    }

    /// Starts it on its socket, empty.
    pub(crate) fn restart(&mut self) {
        let mut command = Command::new(&self.binary);
        command.args(["--save", "", "--port", "0", "--unixsocket"]).arg(self.socket());
        command.current_dir(self.dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Stops it from answering, while its connections stay open.
    pub(crate) fn hang(&self) {
        self.signal("-STOP");
    }

    /// Lets it answer again.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().unwrap();
        assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
    }

    /// A socket of its own cannot be taken by another test, as a free port can.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn options(&self, timeout: Duration) -> Options {
        Options {
            url: Url::new(&self.url()),
            timeout,
            key_prefix: "test:".into(),
            access: Access::default(),
            per_second: None,
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

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

/// Runs until dropped.
pub(crate) struct RedisServer {
    dir: TempDir,
    process: Option<Child>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        let mut server = Self { dir: tempfile::tempdir().unwrap(), process: None };
        server.restart();
        server
    }

    /// Starts it on its socket, empty.
    pub(crate) fn restart(&mut self) {
        let mut command = Command::new(binary());
        command.args(["--save", "", "--port", "0", "--unixsocket"]).arg(self.socket());
        command.current_dir(self.dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("redis-server is missing: install it or set REDIS_SERVER"));
        let deadline = Instant::now() + Duration::from_secs(10);
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

/// `$REDIS_SERVER`, else the one on `PATH`, else the one that the build fetches.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("REDIS_SERVER") {
        return path.into();
    }
    let fetched = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/redis-server"));
    let on_path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|dir| dir.join("redis-server").is_file());
    if on_path { "redis-server".into() } else { fetched }
}

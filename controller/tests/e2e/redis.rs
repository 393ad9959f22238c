//! A real Redis of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::tool;

/// Ends with the test.
pub(crate) struct Redis {
    server: Child,
    port: u16,
    directory: TempDir,
}

impl Redis {
    /// On a free port, empty, with nothing on disk.
    pub(crate) async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let server = spawn(port, &directory);
        let redis = Self { server, port, directory };
        redis.answers().await;
        redis
    }

    /// For `--redis`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// As a crash does it.
    pub(crate) fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// On the same port, empty again.
    pub(crate) async fn restart(&mut self) {
        self.server = spawn(self.port, &self.directory);
        self.answers().await;
    }

    async fn answers(&self) {
        tool::eventually("Redis listens", async || TcpStream::connect(("127.0.0.1", self.port)).await.ok()).await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn spawn(port: u16, directory: &TempDir) -> Child {
    let port = port.to_string();
    Command::new(tool::find("redis-server", "REDIS_SERVER"))
        .args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port", &port])
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

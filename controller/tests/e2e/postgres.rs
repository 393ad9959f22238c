//! A real Postgres server of a test's own.

use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::standalone::{Manifests, Standalone};
use crate::tool;

/// Where the example expects it.
const PORT: u16 = 5433;
/// A user without rights: Postgres refuses to run as root.
const NOBODY: u32 = 65_534;

/// Ends with the test.
struct Postgres {
    server: Child,
    _directory: TempDir,
}

impl Postgres {
    async fn start(address: Ipv4Addr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if is_root() {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = directory.path().join("data");
        let made = unprivileged("initdb", directory.path())
            .args(["--no-sync", "--auth", "trust", "--username", "test", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = unprivileged("postgres", directory.path())
            .arg("-D")
            .arg(&data)
            .args(["-h", &address.to_string(), "-p", &PORT.to_string(), "-F"])
            .args(["-c", "unix_socket_directories="])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let postgres = Self { server, _directory: directory };
        tool::eventually("Postgres listens", async || TcpStream::connect((address, PORT)).await.ok()).await;
        postgres
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its own children end with it, in an orderly way.
        tool::signal("INT", self.server.id());
        let _ = self.server.wait();
    }
}

fn is_root() -> bool {
    Path::new("/proc/self").metadata().unwrap().uid() == 0
}

/// One of the programs beside the server.
fn program(name: &str) -> PathBuf {
    let server = tool::find("postgres", "POSTGRES").canonicalize().unwrap();
    server.parent().unwrap().join(name)
}

/// A program of Postgres, run by somebody who may not do much; `exec` keeps the process id.
fn unprivileged(name: &str, directory: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        command.args([&user, &group, "--clear-groups"]).arg(program(name));
        command
    } else {
        Command::new(program(name))
    };
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// Runs SQL as a client of `address`.
fn psql(address: Ipv4Addr, port: u16, sql: &str) -> Output {
    let url = format!("postgres://test@{address}:{port}/postgres?connect_timeout=10");
    Command::new(program("psql")).args(["--no-psqlrc", "-qtA", "-c", sql, &url]).stdin(Stdio::null()).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_reached_through_a_tcp_listener() {
    let manifests = Manifests::of("tcp-postgres");
    let address = manifests.address();
    let postgres = Postgres::start(address).await;
    let gateway = Standalone::start(manifests).await;

    let written = tool::eventually("a row is written through Envoy", async || {
        let sql =
            "CREATE TABLE IF NOT EXISTS t (x text); INSERT INTO t VALUES ('through envoy'); SELECT x FROM t LIMIT 1";
        let output = psql(address, 5432, sql);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    })
    .await;
    assert_eq!(written.trim(), "through envoy");
    let direct = psql(address, PORT, "SELECT count(*) FROM t");
    assert_eq!(String::from_utf8(direct.stdout).unwrap().trim(), "1", "it is the same database");

    drop(postgres);
    let gone = psql(address, 5432, "SELECT 1");
    assert!(!gone.status.success(), "nobody answers for a database that is gone");
    gateway.stop().await;
}

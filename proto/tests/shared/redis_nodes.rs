//! Real Redis servers in the layouts of production: alone, replicated under Sentinels, and a cluster. The suites of the services
//! have it as a module of their own.

#![allow(dead_code, reason = "no suite uses all of it")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::tools;

const PATIENCE: Duration = Duration::from_secs(30);

/// What the Sentinels call the primary.
pub(crate) const NAME: &str = "main";

/// One server on a port of the loopback address, killed when dropped.
pub(crate) struct Node {
    pub(crate) port: u16,
    binary: PathBuf,
    arguments: Vec<String>,
    process: Child,
    dir: PathBuf,
}

impl Node {
    /// With further arguments; `--port` is its own.
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> Self {
        Self::start_binary(&tools::redis_server(), dir, arguments)
    }

    pub(crate) fn start_binary(binary: &Path, dir: &Path, arguments: &[&str]) -> Self {
        for _ in 0..5 {
            let mut node = Self::spawn(binary, dir, free_port(), arguments);
            if node.answers() {
                return node;
            }
        }
        panic!("{} does not start", binary.display());
    }

    fn spawn(binary: &Path, dir: &Path, port: u16, arguments: &[&str]) -> Self {
        let dir = dir.join(port.to_string());
        fs::create_dir_all(&dir).unwrap();
        // A Sentinel's file comes first.
        let (file, rest) = arguments.split_at(arguments.first().is_some_and(|first| !first.starts_with("--")).into());
        let port_text = port.to_string();
        let own = ["--bind", "127.0.0.1", "--port", &port_text];
        let arguments: Vec<_> = file.iter().chain(&own).chain(rest).map(|text| (*text).to_owned()).collect();
        let process = run(binary, &dir, &arguments);
        Self { port, binary: binary.to_owned(), arguments, process, dir }
    }

    /// False when it has ended, as when another test was quicker to take the port.
    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.cli(&["PING"]);
            if reply.contains("PONG") || reply.contains("NOAUTH") || reply.contains("WRONGPASS") {
                return true;
            }
            if Instant::now() > deadline || self.process.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` prints.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        cli(&[&["-p", &self.port.to_string()], arguments].concat())
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// After [`Self::kill`]: on the same port, empty.
    pub(crate) fn restart(&mut self) {
        self.process = run(&self.binary, &self.dir, &self.arguments);
        assert!(self.answers(), "{} does not start again", self.binary.display());
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
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(binary: &Path, dir: &Path, arguments: &[String]) -> Child {
    let mut command = Command::new(binary);
    command.args(arguments).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

pub(crate) fn cli(arguments: &[&str]) -> String {
    let output = Command::new("redis-cli").args(arguments).output().expect("redis-cli is missing");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The cluster bus takes the port that is 10000 higher, so the port must be low enough for both.
pub(crate) fn free_port() -> u16 {
    loop {
        // Below the ports that connections go out from, or one may take it while its server is down.
        let port = 12_000 + rand::random::<u16>() % 10_700;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// A primary, a replica, and three Sentinels that know both.
pub(crate) struct Replicated {
    pub(crate) servers: [Node; 2],
    pub(crate) sentinels: Vec<Node>,
    _dir: TempDir,
}

impl Replicated {
    pub(crate) fn start() -> Self {
        Self::start_binary(&tools::redis_server())
    }

    pub(crate) fn start_binary(binary: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plain = ["--save", "", "--repl-diskless-sync-delay", "0"];
        let primary = Node::start_binary(binary, dir.path(), &plain);
        let port = primary.port.to_string();
        let follows = [&plain[..], &["--replicaof", "127.0.0.1", &port]].concat();
        let replica = Node::start_binary(binary, dir.path(), &follows);
        until("replication", || replica.cli(&["INFO", "replication"]).contains("master_link_status:up"));
        let conf = format!(
            "sentinel monitor {NAME} 127.0.0.1 {port} 2\nsentinel down-after-milliseconds {NAME} 1000\n\
             sentinel failover-timeout {NAME} 5000\n"
        );
        let sentinels: Vec<_> = (0..3)
            .map(|number| {
                let file = dir.path().join(format!("sentinel{number}.conf"));
                fs::write(&file, &conf).unwrap();
                Node::start_binary(binary, dir.path(), &[file.to_str().unwrap(), "--sentinel"])
            })
            .collect();
        for sentinel in &sentinels {
            until("the Sentinels to meet", || {
                let known = sentinel.cli(&["SENTINEL", "MASTER", NAME]);
                let field = |name| known.lines().skip_while(|line| *line != name).nth(1).map(str::to_owned);
                field("num-other-sentinels").as_deref() == Some("2") && field("num-slaves").as_deref() == Some("1")
            });
        }
        Self { servers: [primary, replica], sentinels, _dir: dir }
    }

    /// Name and Sentinels, as settings say them.
    pub(crate) fn url(&self) -> String {
        self.sentinels.iter().fold(NAME.to_owned(), |url, sentinel| format!("{url},{}", sentinel.address()))
    }
}

/// Three primaries.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    _dir: TempDir,
}

impl Cluster {
    /// With so many replicas of each primary.
    pub(crate) fn with_replicas(binary: &Path, replicas: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let arguments = [
            ["--cluster-enabled", "yes"],
            ["--cluster-node-timeout", "1500"],
            ["--cluster-require-full-coverage", "no"],
            ["--save", ""],
            ["--repl-diskless-sync-delay", "0"],
        ];
        let start = |_| Node::start_binary(binary, dir.path(), arguments.as_flattened());
        let nodes: Vec<_> = (0..3 + 3 * replicas).map(start).collect();
        let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
        let replicas = replicas.to_string();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
        let created = cli(&create);
        assert!(created.contains("All 16384 slots covered"), "{created}");
        for node in &nodes {
            until("the cluster to agree", || node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
        }
        Self { nodes, _dir: dir }
    }

    /// Some of its nodes, as settings say them.
    pub(crate) fn url(&self) -> String {
        self.nodes.iter().take(2).map(Node::address).collect::<Vec<_>>().join(",")
    }
}

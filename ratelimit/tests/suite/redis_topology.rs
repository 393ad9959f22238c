//! Real Redis servers in the layouts of production: replicated under Sentinels, and a cluster.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ratelimit::store::redis::{Access, Kind, Options, Url};
use tempfile::TempDir;

use crate::tools;

const PATIENCE: Duration = Duration::from_secs(20);

/// One server on a port of the loopback address, killed when dropped.
pub(crate) struct Node {
    pub(crate) port: u16,
    process: Child,
}

impl Node {
    /// With further arguments; `--port` is its own.
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> Self {
        Self::start_binary(&tools::redis_server(), dir, arguments)
    }

    fn start_binary(binary: &Path, dir: &Path, arguments: &[&str]) -> Self {
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
        let mut command = Command::new(binary);
        // A Sentinel's file comes first.
        let (file, rest) = arguments.split_at(arguments.first().is_some_and(|first| !first.starts_with("--")).into());
        command.args(file).args(["--bind", "127.0.0.1", "--port", &port.to_string()]).args(rest);
        command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
        Self { port, process: command.spawn().unwrap() }
    }

    /// False when it has ended, as when another test was quicker to take the port.
    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.cli(&["PING"]).contains("PONG") {
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
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
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
        let port = 20_000 + rand::random::<u16>() % 25_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

fn options(url: &str, kind: Kind, timeout: Duration) -> Options {
    let access = Access { kind, ..Access::default() };
    Options { url: Url::new(url), timeout, key_prefix: "test:".into(), access, per_second: None }
}

/// A primary, a replica, and three Sentinels that know both.
pub(crate) struct Replicated {
    pub(crate) servers: [Node; 2],
    pub(crate) sentinels: Vec<Node>,
    _dir: TempDir,
}

/// What the Sentinels call the primary.
pub(crate) const NAME: &str = "limits";

impl Replicated {
    pub(crate) fn start() -> Self {
        Self::start_binary(&tools::redis_server())
    }

    pub(crate) fn start_valkey() -> Self {
        Self::start_binary(&tools::valkey_server())
    }

    fn start_binary(binary: &Path) -> Self {
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

    pub(crate) fn url(&self) -> String {
        self.sentinels.iter().fold(NAME.to_owned(), |url, sentinel| format!("{url},{}", sentinel.address()))
    }

    pub(crate) fn options(&self, timeout: Duration) -> Options {
        options(&self.url(), Kind::Sentinel, timeout)
    }
}

/// Three primaries with a replica each.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    _dir: TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::start_binary(&tools::redis_server())
    }

    pub(crate) fn start_valkey() -> Self {
        Self::start_binary(&tools::valkey_server())
    }

    fn start_binary(binary: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let arguments = [
            ["--cluster-enabled", "yes"],
            ["--cluster-node-timeout", "1500"],
            ["--cluster-require-full-coverage", "no"],
            ["--save", ""],
            ["--repl-diskless-sync-delay", "0"],
        ];
        let start = |_| Node::start_binary(binary, dir.path(), arguments.as_flattened());
        let nodes: Vec<_> = (0..6).map(start).collect();
        let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        let created = cli(&create);
        assert!(created.contains("All 16384 slots covered"), "{created}");
        for node in &nodes {
            until("the cluster to agree", || node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
        }
        Self { nodes, _dir: dir }
    }

    pub(crate) fn url(&self) -> String {
        self.nodes.iter().take(2).map(Node::address).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn options(&self, timeout: Duration) -> Options {
        options(&self.url(), Kind::Cluster, timeout)
    }
}

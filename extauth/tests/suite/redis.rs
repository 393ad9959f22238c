//! Redis in the layouts of production, as `extauth` is told of them.

use std::path::Path;
use std::time::Duration;

use extauth::store::redis::{Access, Kind, Options, Url};
use tempfile::TempDir;

pub(crate) use crate::redis_nodes::{Cluster, Node, Replicated, until};
use crate::tools;

/// Without credentials and TLS, and with much patience for a busy machine.
pub(crate) fn options(url: &str, kind: Kind) -> Options {
    Options {
        url: Url::new(url),
        kind,
        access: Access::default(),
        prefix: "test:".into(),
        timeout: Duration::from_secs(5),
        connections: 4,
    }
}

impl Node {
    pub(crate) fn options(&self) -> Options {
        options(&self.address(), Kind::Single)
    }
}

/// One server.
pub(crate) struct Single {
    pub(crate) node: Node,
    dir: TempDir,
}

impl Single {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(dir.path(), &[&["--save", ""], arguments].concat());
        Self { node, dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Replicated {
    pub(crate) fn options(&self) -> Options {
        options(&self.url(), Kind::Sentinel)
    }
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::with_replicas(&tools::redis_server(), 0)
    }

    pub(crate) fn options(&self) -> Options {
        options(&self.url(), Kind::Cluster)
    }
}

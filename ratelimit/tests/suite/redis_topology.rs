//! Redis in the layouts of production, as `ratelimit` is told of them.

use std::time::Duration;

use ratelimit::store::redis::{Access, Kind, Options, Url};

pub(crate) use crate::redis_nodes::{Cluster, NAME, Node, Replicated, cli, free_port};
use crate::tools;

fn options(url: &str, kind: Kind, timeout: Duration) -> Options {
    let access = Access { kind, ..Access::default() };
    Options { url: Url::new(url), timeout, key_prefix: "test:".into(), access, per_second: None }
}

impl Replicated {
    pub(crate) fn start_valkey() -> Self {
        Self::start_binary(&tools::valkey_server())
    }

    pub(crate) fn options(&self, timeout: Duration) -> Options {
        options(&self.url(), Kind::Sentinel, timeout)
    }
}

/// With a replica of each primary.
impl Cluster {
    pub(crate) fn start() -> Self {
        Self::with_replicas(&tools::redis_server(), 1)
    }

    pub(crate) fn start_valkey() -> Self {
        Self::with_replicas(&tools::valkey_server(), 1)
    }

    pub(crate) fn options(&self, timeout: Duration) -> Options {
        options(&self.url(), Kind::Cluster, timeout)
    }
}

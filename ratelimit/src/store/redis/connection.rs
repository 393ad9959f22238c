//! How Redis is reached: one server, a primary that Sentinels name, or a cluster.

use std::{fmt, sync::Arc, time::Duration};

use redis::{Cmd, ConnectionInfo, RedisResult, Value, cmd};
use tokio::{sync::watch, task::JoinSet};

pub use self::options::{Access, Connections, Gates, Kind, Secret, Startup, Tls, Url};
use self::{cluster::Cluster, link::Link, login::Login, options::Target, sentinel::Sentinels};
use super::Options;
use crate::store::StoreError;

mod cluster;
mod gate;
mod link;
mod login;
mod options;
mod sentinel;
mod wire;

/// The connections of one runtime to one Redis, which come back by themselves. Clones share them.
#[derive(Clone)]
pub struct Connection {
    nodes: Nodes,
    timeout: Duration,
    /// Where hits of windows of one second are counted, if not here.
    second: Option<Box<Connection>>,
    /// Ends the tasks with the last clone.
    _tasks: Arc<JoinSet<()>>,
}

#[derive(Clone)]
enum Nodes {
    One(Arc<Link>),
    Many(Arc<Cluster>),
}

/// A server that counts for itself: the only one, or a primary of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    /// In the Redis for windows of one second.
    pub(super) second: bool,
    /// Place in the cluster's map; none while nobody is known to own the slot.
    node: Option<u16>,
}

impl Shard {
    /// Tells it from others.
    pub(super) fn number(self) -> usize {
        2 * self.node.map_or(0, |node| usize::from(node) + 1) + usize::from(self.second)
    }
}

impl Connection {
    /// Connects in the background, on the runtime it is called in. Fails only on what can never work.
    pub fn open(options: &Options) -> Result<Self, StoreError> {
        let access = &options.access;
        let target = options.url.target(access.kind).map_err(StoreError::Url)?;
        let (astray, _) = watch::channel(());
        let astray = Arc::new(astray);
        let mut tasks = JoinSet::new();
        let nodes = match target {
            Target::Single(info) => {
                let login = servers(access, &info);
                let link = Arc::new(Link::new(access.pool_name(), astray));
                link.aim(Some(login.secured(info.addr())));
                tasks.spawn(Arc::clone(&link).keep(login, access.startup, true));
                Nodes::One(link)
            }
            Target::Sentinel { name, sentinels } => {
                let link = Arc::new(Link::new(access.pool_name(), Arc::clone(&astray)));
                follow_sentinels(access, name, &sentinels, &link, &astray, &mut tasks);
                Nodes::One(link)
            }
            Target::Cluster(seeds) => {
                let login = seeds.first().map(|seed| servers(access, seed)).unwrap_or_default();
                let seeds = seeds.iter().map(|seed| login.secured(seed.addr())).collect();
                let cluster = Arc::new(Cluster::new(seeds, login, access.startup, access.pool_name(), astray));
                tasks.spawn(Arc::clone(&cluster).follow());
                Nodes::Many(cluster)
            }
        };
        let second = options.per_second.as_deref().map(Self::open).transpose()?.map(Box::new);
        Ok(Self { nodes, timeout: options.timeout, second, _tasks: Arc::new(tasks) })
    }

    /// Who owns this slot of the cluster now. Without a cluster, all slots have the same owner.
    pub fn shard(&self, slot: u16) -> Shard {
        let node = match &self.nodes {
            Nodes::One(_) => Some(0),
            Nodes::Many(cluster) => cluster.owner(slot),
        };
        Shard { second: false, node }
    }

    /// The same for counters of windows of one second.
    pub fn per_second_shard(&self, slot: u16) -> Shard {
        match &self.second {
            Some(second) => Shard { second: true, ..second.shard(slot) },
            None => self.shard(slot),
        }
    }

    /// Whether counters lie on more than one server, so that no single step can charge all of a request.
    pub fn is_cluster(&self) -> bool {
        matches!(self.nodes, Nodes::Many(_)) || self.second.is_some()
    }

    /// Everyone who owns slots now; none of a cluster that is not known yet.
    pub fn shards(&self) -> Vec<Shard> {
        let nodes = match &self.nodes {
            Nodes::One(_) => vec![0],
            Nodes::Many(cluster) => cluster.owners(),
        };
        let first = nodes.into_iter().map(|node| Shard { second: false, node: Some(node) });
        let second = self.second.iter().flat_map(|second| second.shards()).map(|shard| Shard { second: true, ..shard });
        first.chain(second).collect()
    }

    /// How long a request may wait for this shard.
    pub fn timeout(&self, shard: Shard) -> Duration {
        self.of(shard).timeout
    }

    /// Which of the two a shard belongs to.
    fn of(&self, shard: Shard) -> &Self {
        self.second.as_deref().filter(|_| shard.second).unwrap_or(self)
    }

    /// Sends one command, and follows its slot to where it has moved. It waits while a connection is being made, without
    /// an end of its own, and fails at once while none can be made. A command whose reply is lost is not sent again.
    pub async fn run(&self, shard: Shard, command: &Cmd) -> RedisResult<Value> {
        match &self.of(shard).nodes {
            Nodes::One(link) => link.send(command, false).await,
            Nodes::Many(cluster) => cluster.run(shard.node, command).await,
        }
    }

    /// Has the owners of slots looked up again, after a script that found a key elsewhere.
    pub fn mistrust(&self, shard: Shard) {
        if let Nodes::Many(cluster) = &self.of(shard).nodes {
            cluster.mistrust();
        }
    }

    /// Waits for an answer of each server. A cluster has answered when one of its primaries has.
    pub async fn ping(&self) -> RedisResult<()> {
        let (mut first, mut second) = (None, None);
        for connection in [Some(self), self.second.as_deref()].into_iter().flatten() {
            if let Nodes::Many(cluster) = &connection.nodes {
                cluster.known().await?;
            }
        }
        for shard in self.shards() {
            let reply = self.run(shard, &cmd("PING")).await.map(drop);
            let answer = if shard.second { &mut second } else { &mut first };
            if !matches!(answer, Some(Ok(()))) {
                *answer = Some(reply);
            }
        }
        first.into_iter().chain(second).collect()
    }

    /// Connections that are open now.
    pub fn active(&self) -> usize {
        let here = match &self.nodes {
            Nodes::One(link) => link.open_connections(),
            Nodes::Many(cluster) => cluster.open_connections(),
        };
        here + self.second.as_ref().map_or(0, |second| second.active())
    }
}

fn servers(access: &Access, info: &ConnectionInfo) -> Login {
    let tls = matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. }).then(Tls::default);
    Login {
        given: info.redis_settings().clone(),
        auth: access.auth.clone(),
        tls: access.tls.clone().or(tls),
        gate: Arc::clone(&access.gates.servers),
        connections: access.connections,
    }
}

fn follow_sentinels(
    access: &Access,
    name: String,
    sentinels: &[ConnectionInfo],
    link: &Arc<Link>,
    astray: &watch::Sender<()>,
    tasks: &mut JoinSet<()>,
) {
    let login = Login { tls: access.tls.clone(), auth: access.auth.clone(), ..Login::default() };
    let login = Login { gate: Arc::clone(&access.gates.servers), connections: access.connections, ..login };
    tasks.spawn(Arc::clone(link).keep(login.clone(), access.startup, true));
    let gate = Arc::clone(&access.gates.sentinels);
    let asking = Login { auth: access.sentinel_auth.clone(), gate, ..login.clone() };
    let all = Arc::new(Sentinels::new(name, sentinels.len(), Arc::clone(link), asking.clone()));
    for (index, sentinel) in sentinels.iter().enumerate() {
        let address = asking.secured(sentinel.addr());
        tasks.spawn(Arc::clone(&all).follow(index, address, login.clone(), astray.subscribe()));
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("active", &self.active()).finish_non_exhaustive()
    }
}

//! The connections to a Redis, and where they lead: rebuilt when they cannot be made, when certificates or passwords may
//! have changed, and when another server has become the primary.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Object, PoolConfig, PoolError, Timeouts};
use redis::aio::ConnectionLike;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult, ServerErrorKind,
    Value,
};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::login::Login;
use super::options::{Options, Target};
use super::{cluster, sentinel, single};
use crate::background::Background;
use crate::store::Abort;

/// How often Sentinels are asked who is the primary.
const LOOK: Duration = Duration::from_secs(1);
/// Pause between two attempts to set connections up.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections to one Redis; clones share them.
#[derive(Clone)]
pub(super) struct Pools {
    state: watch::Receiver<State>,
    plan: Arc<Plan>,
    astray: Arc<Notify>,
    _task: Arc<Abort>,
}

/// What never changes: who is to be reached, and how.
struct Plan {
    target: Target,
    servers: Login,
    sentinels: Login,
    timeout: Duration,
    connections: usize,
}

#[derive(Clone)]
enum State {
    Connecting,
    Up(Pool),
    Down(RedisError),
}

#[derive(Clone)]
enum Pool {
    One { pool: deadpool::managed::Pool<single::Manager>, info: Arc<ConnectionInfo> },
    Many { pool: deadpool::managed::Pool<cluster::Manager> },
}

impl Pools {
    pub(super) fn open(options: &Options, background: &Background) -> RedisResult<Self> {
        let target = options.url.target(options.kind)?;
        let access = &options.access;
        let (servers, sentinels) = match &target {
            Target::Single(server) => (Login::servers(access, server), Login::default()),
            Target::Sentinel { sentinels, .. } => Login::with_sentinels(access, sentinels.first()),
            Target::Cluster(nodes) => {
                (nodes.first().map(|node| Login::servers(access, node)).unwrap_or_default(), Login::default())
            }
        };
        let (timeout, connections) = (options.timeout, options.connections.max(1));
        let plan = Arc::new(Plan { target, servers, sentinels, timeout, connections });
        let astray = Arc::new(Notify::new());
        let (sender, state) = watch::channel(State::Connecting);
        let following = Arc::clone(&plan).follow(sender, Arc::clone(&astray));
        let task = Arc::new(Abort(background.spawn(following).abort_handle()));
        Ok(Self { state, plan, astray, _task: task })
    }

    /// Sends a command once; without a bound of its own.
    pub(super) async fn run(&self, command: &Cmd) -> RedisResult<Value> {
        let reply = self.send(command).await;
        if reply.as_ref().is_err_and(is_astray) {
            self.mistrust();
        }
        reply
    }

    /// Has the way to Redis looked up again.
    pub(super) fn mistrust(&self) {
        self.astray.notify_one();
    }

    async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let reply = match self.pool().await? {
            Pool::One { pool, .. } => {
                let mut connection = pool.get().await.map_err(cause)?;
                match connection.req_packed_command(command).await {
                    Ok(reply) => reply,
                    Err(error) => {
                        drop(Object::take(connection));
                        return Err(error);
                    }
                }
            }
            Pool::Many { pool } => {
                let mut connection = pool.get().await.map_err(cause)?;
                command.query_async(&mut *connection).await?
            }
        };
        reply.extract_error()
    }

    /// Servers on which announcements are heard: the one, or any of a cluster.
    pub(super) async fn listening(&self) -> RedisResult<Vec<ConnectionInfo>> {
        match self.pool().await? {
            Pool::One { info, .. } => Ok(vec![ConnectionInfo::clone(&info)]),
            Pool::Many { .. } => {
                let Target::Cluster(nodes) = &self.plan.target else { return Ok(Vec::new()) };
                let mut infos = Vec::with_capacity(nodes.len());
                for node in nodes {
                    infos.push(self.plan.servers.info(node.addr()).await?);
                }
                Ok(infos)
            }
        }
    }

    async fn pool(&self) -> RedisResult<Pool> {
        let mut state = self.state.clone();
        let known = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match known.as_deref() {
            Ok(State::Up(pool)) => Ok(pool.clone()),
            Ok(State::Down(error)) => Err(error.clone()),
            _ => Err(RedisError::from((ErrorKind::Client, "the process ends"))),
        }
    }
}

impl Plan {
    /// Keeps the pools leading where they should. Ends with the last of those who use them.
    async fn follow(self: Arc<Self>, state: watch::Sender<State>, astray: Arc<Notify>) {
        let mut doubted = true;
        loop {
            let current = state.borrow().clone();
            let next = self.aim(&current, doubted).await;
            if let Some(next) = next {
                if let State::Down(error) = &next {
                    tracing::warn!(%error, "there is no way to Redis");
                }
                state.send_replace(next);
            }
            let unknown = matches!(*state.borrow(), State::Down(_));
            sleep(PAUSE).await;
            doubted = match &self.target {
                _ if unknown => true,
                Target::Sentinel { .. } => timeout(LOOK, astray.notified()).await.is_ok(),
                _ => {
                    astray.notified().await;
                    true
                }
            };
        }
    }

    /// Where the pools should lead now, if that is not where they lead already.
    async fn aim(&self, state: &State, doubted: bool) -> Option<State> {
        let built = match &self.target {
            Target::Single(server) => self.one(server.addr()).await,
            Target::Cluster(nodes) => self.many(nodes).await,
            Target::Sentinel { name, sentinels } => {
                match sentinel::primary(name, sentinels, &self.sentinels).await {
                    // The Sentinels may be gone for a while; the primary they named last still serves.
                    Err(_) if matches!(state, State::Up(_)) => return None,
                    Err(error) => Err(error),
                    Ok(address) if !doubted && leads_to(state, &self.servers.secured(&address)) => return None,
                    Ok(address) => self.one(&address).await,
                }
            }
        };
        Some(built.map_or_else(State::Down, State::Up))
    }

    async fn one(&self, address: &ConnectionAddr) -> RedisResult<Pool> {
        let info = self.servers.info(address).await?;
        let connecting = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let manager = single::Manager(deadpool_redis::Manager::new_with_config(info.clone(), connecting)?);
        let pool = deadpool::managed::Pool::builder(manager).config(self.size()).runtime(Runtime::Tokio1).build();
        Ok(Pool::One { pool: pool.map_err(unbuilt)?, info: Arc::new(info) })
    }

    async fn many(&self, nodes: &[ConnectionInfo]) -> RedisResult<Pool> {
        let manager = cluster::Manager::open(nodes, &self.servers, self.timeout).await?;
        let pool = deadpool::managed::Pool::builder(manager).config(self.size()).runtime(Runtime::Tokio1).build();
        Ok(Pool::Many { pool: pool.map_err(unbuilt)? })
    }

    fn size(&self) -> PoolConfig {
        let bound = Some(self.timeout);
        PoolConfig {
            timeouts: Timeouts { wait: bound, create: bound, recycle: bound },
            ..PoolConfig::new(self.connections)
        }
    }
}

fn leads_to(state: &State, address: &ConnectionAddr) -> bool {
    let same = |one: &ConnectionAddr| match (one, address) {
        (ConnectionAddr::TcpTls { host, port, .. }, ConnectionAddr::TcpTls { host: other, port: at, .. })
        | (ConnectionAddr::Tcp(host, port), ConnectionAddr::Tcp(other, at)) => (host, port) == (other, at),
        _ => false,
    };
    matches!(state, State::Up(Pool::One { info, .. }) if same(info.addr()))
}

/// Whether the connections may lead to the wrong server, or may need other credentials.
fn is_astray(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.kind() == ErrorKind::AuthenticationFailed
        || error.is_unrecoverable_error()
        || error.is_io_error()
}

fn cause(error: PoolError<RedisError>) -> RedisError {
    match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(_) => std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
        _ => RedisError::from((ErrorKind::Client, "there are no connections to be had")),
    }
}

fn unbuilt(error: deadpool::managed::BuildError) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "setting up connections", error.to_string()))
}

//! Knows which primary of a cluster owns a slot.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use redis::{Cmd, ConnectionAddr, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value, cmd, from_redis_value};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{link::Link, login::Login, options::Startup};

/// Slots of every Redis Cluster.
const SLOTS: usize = 16_384;
/// How often a node is asked for the slots without a reason.
const LOOK: Duration = Duration::from_secs(5);
/// Shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a node may take to tell the slots.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A command that is sent on so often goes round in circles.
const MOST_REDIRECTS: usize = 50;
/// Pause before a command is sent again to a slot of which only a part has moved yet.
const TRY_AGAIN: Duration = Duration::from_millis(2);

/// One cluster, as this runtime sees it.
pub(super) struct Cluster {
    map: ArcSwap<Map>,
    /// Changes with the map, and holds why there is none yet.
    news: watch::Sender<Option<RedisError>>,
    /// Told that the map is stale.
    astray: Arc<watch::Sender<()>>,
    login: Login,
    startup: Startup,
    pool: &'static str,
    seeds: Vec<ConnectionAddr>,
    keepers: Mutex<JoinSet<()>>,
}

#[derive(Clone, Default)]
struct Map {
    /// Nodes keep their places for ever; those that own no slot aim nowhere.
    links: Vec<Arc<Link>>,
    places: HashMap<(String, u16), u16>,
    /// Place of the owner of each slot; empty before the first look.
    owners: Arc<[Option<u16>]>,
}

/// First slot, last slot, and who owns them.
struct Range {
    first: usize,
    last: usize,
    owner: (String, u16),
}

impl Cluster {
    pub(super) fn new(
        seeds: Vec<ConnectionAddr>,
        login: Login,
        startup: Startup,
        pool: &'static str,
        astray: Arc<watch::Sender<()>>,
    ) -> Self {
        Self {
            map: ArcSwap::default(),
            news: watch::Sender::new(None),
            astray,
            login,
            startup,
            pool,
            seeds,
            keepers: Mutex::default(),
        }
    }

    pub(super) fn owner(&self, slot: u16) -> Option<u16> {
        self.map.load().owners.get(usize::from(slot)).copied().flatten()
    }

    /// Has the slots looked up.
    pub(super) fn mistrust(&self) {
        self.astray.send_replace(());
    }

    /// The primaries that own slots now.
    pub(super) fn owners(&self) -> Vec<u16> {
        let mut owners: Vec<_> = self.map.load().owners.iter().flatten().copied().collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    pub(super) fn open_connections(&self) -> usize {
        self.map.load().links.iter().map(|link| link.open_connections()).sum()
    }

    /// Waits for the first map.
    pub(super) async fn known(&self) -> RedisResult<()> {
        let mut news = self.news.subscribe();
        loop {
            if !self.map.load().owners.is_empty() {
                return Ok(());
            }
            if let Some(error) = news.borrow_and_update().clone() {
                return Err(error);
            }
            // The sender is ours, so this cannot fail.
            let _ = news.changed().await;
        }
    }

    /// Follows the slot where it has moved. A command whose reply is lost is not sent again.
    pub(super) async fn run(&self, node: Option<u16>, command: &Cmd) -> RedisResult<Value> {
        self.known().await?;
        let owner = match node.and_then(|place| self.map.load().links.get(usize::from(place)).cloned()) {
            Some(link) => link,
            None => self.anyone()?,
        };
        let (mut link, mut asking) = (Arc::clone(&owner), false);
        for _ in 0..MOST_REDIRECTS {
            let error = match link.send(command, asking).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let ErrorKind::Server(kind) = error.kind() else { return Err(error) };
            match kind {
                ServerErrorKind::Moved | ServerErrorKind::Ask => {
                    asking = kind == ServerErrorKind::Ask;
                    if !asking {
                        self.astray.send_replace(());
                    }
                    link = self.redirected(&link, &error).ok_or(error)?;
                }
                ServerErrorKind::TryAgain => {
                    (link, asking) = (Arc::clone(&owner), false);
                    sleep(TRY_AGAIN).await;
                }
                ServerErrorKind::ClusterDown => {
                    self.astray.send_replace(());
                    return Err(error);
                }
                _ => return Err(error),
            }
        }
        Err(RedisError::from((ErrorKind::Client, "the slot moved again and again")))
    }

    /// Some primary that is connected; it says who owns the slot.
    fn anyone(&self) -> RedisResult<Arc<Link>> {
        let map = self.map.load();
        let up = map.links.iter().find(|link| link.is_up()).cloned();
        up.ok_or_else(|| RedisError::from((ErrorKind::ClusterConnectionNotFound, "no node owns this slot")))
    }

    fn redirected(&self, from: &Link, error: &RedisError) -> Option<Arc<Link>> {
        let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
        let host = if host.is_empty() { from.host()? } else { host.to_owned() };
        let mut keepers = self.keepers.lock();
        let mut map = Map::clone(&self.map.load());
        let place = self.place(&mut map, (host, port.parse().ok()?), &mut keepers)?;
        let link = map.links.get(usize::from(place)).cloned();
        self.map.store(Arc::new(map));
        link
    }

    /// Where the node stands in the map; it is connected if it was not.
    fn place(&self, map: &mut Map, node: (String, u16), keepers: &mut JoinSet<()>) -> Option<u16> {
        let address = self.login.address(&node.0, node.1);
        if let Some(place) = map.places.get(&node) {
            map.links.get(usize::from(*place))?.aim(Some(address));
            return Some(*place);
        }
        let place = u16::try_from(map.links.len()).ok()?;
        let link = Arc::new(Link::new(self.pool, Arc::clone(&self.astray)));
        link.aim(Some(address));
        keepers.spawn(Arc::clone(&link).keep(self.login.clone(), self.startup, false));
        map.links.push(link);
        map.places.insert(node, place);
        Some(place)
    }

    /// Looks for who owns the slots each time the map turns out to be stale, and every few seconds.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut astray = self.astray.subscribe();
        for turn in 0.. {
            match self.look(turn).await {
                Ok(ranges) => {
                    self.learn(ranges);
                    self.news.send_replace(None);
                }
                Err(error) => {
                    tracing::warn!(%error, "no node of the cluster tells who owns its slots");
                    self.news.send_replace(Some(error));
                }
            }
            sleep(PAUSE).await;
            // The sender is ours, so only time can end this without news.
            let _ = timeout(LOOK, astray.changed()).await;
        }
    }

    /// Asks the primaries that are connected, else the seeds, each time beginning with another one.
    async fn look(&self, turn: usize) -> RedisResult<Vec<Range>> {
        let slots = cmd("CLUSTER").arg("SLOTS").to_owned();
        let mut last = RedisError::from((ErrorKind::ClusterConnectionNotFound, "no node answers"));
        let links: Vec<_> = self.map.load().links.iter().filter(|link| link.is_up()).cloned().collect();
        for link in rotated(&links, turn) {
            match timeout(TIMEOUT, link.send(&slots, false)).await {
                Ok(Ok(reply)) => return ranges(reply, &link.host().unwrap_or_default()),
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
        }
        for seed in rotated(&self.seeds, turn) {
            let asked = async {
                let mut connection = self.login.connect_plainly(seed).await.map_err(|refused| refused.error)?;
                connection.send_packed_command(&slots).await.and_then(Value::extract_error)
            };
            match timeout(TIMEOUT, asked).await {
                Ok(Ok(reply)) => return ranges(reply, host(seed).unwrap_or_default()),
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
        }
        Err(last)
    }

    fn learn(&self, ranges: Vec<Range>) {
        let mut keepers = self.keepers.lock();
        let mut map = Map::clone(&self.map.load());
        let mut owners = vec![None; SLOTS];
        for Range { first, last, owner } in ranges {
            let place = self.place(&mut map, owner, &mut keepers);
            if let Some(slots) = owners.get_mut(first..=last) {
                slots.fill(place);
            }
        }
        for (place, link) in map.links.iter().enumerate() {
            if !owners.iter().flatten().any(|owner| usize::from(*owner) == place) {
                link.aim(None);
            }
        }
        map.owners = owners.into();
        self.map.store(Arc::new(map));
    }
}

fn rotated<T>(all: &[T], turn: usize) -> impl Iterator<Item = &T> {
    all.iter().cycle().skip(turn % all.len().max(1)).take(all.len())
}

pub(super) fn host(address: &ConnectionAddr) -> Option<&str> {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host),
        _ => None,
    }
}

/// Reads the reply to `CLUSTER SLOTS`; a node without a host is where the asked one is.
fn ranges(reply: Value, asked: &str) -> RedisResult<Vec<Range>> {
    let entries: Vec<Vec<Value>> = from_redis_value(reply)?;
    let mut ranges = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut entry = entry.into_iter();
        let (Some(first), Some(last), Some(Value::Array(owner))) = (entry.next(), entry.next(), entry.next()) else {
            return Err(RedisError::from((ErrorKind::UnexpectedReturnType, "CLUSTER SLOTS told no owner")));
        };
        let mut owner = owner.into_iter();
        let host: Option<String> = from_redis_value(owner.next().unwrap_or(Value::Nil))?;
        let port: u16 = from_redis_value(owner.next().unwrap_or(Value::Nil))?;
        let host = host.filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| asked.to_owned());
        ranges.push(Range { first: from_redis_value(first)?, last: from_redis_value(last)?, owner: (host, port) });
    }
    if ranges.is_empty() {
        return Err(RedisError::from((ErrorKind::ClusterConnectionNotFound, "no node of the cluster owns a slot")));
    }
    Ok(ranges)
}

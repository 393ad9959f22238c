//! The latest resources of every proxy, and what its Envoys have made of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use controller_core::xds::{Resources, Type};
use tokio::sync::watch;

/// Resources by proxy key, `<namespace>/<gateway>`.
pub type Proxies = Arc<BTreeMap<String, Arc<Resources>>>;

/// Where the translation leaves its resources and the streams find them. Clones share one cache.
#[derive(Clone, Debug)]
pub struct Cache {
    proxies: watch::Sender<Proxies>,
    clients: watch::Sender<BTreeMap<u64, Client>>,
    streams: Arc<AtomicU64>,
}

/// One connected Envoy.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// `node.id`
    pub node: String,
    /// `node.cluster`, the key of its proxy.
    pub cluster: String,
    /// The resources of which it has accepted or refused every one; not the latest ones while it is still at it.
    pub holds: Option<Arc<Resources>>,
    /// What it refused.
    pub rejections: Vec<Rejection>,
}

/// A resource that an Envoy refused. It keeps what it had before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Kind of the resource.
    pub kind: Type,
    /// Its name.
    pub name: String,
    /// The version that was refused.
    pub version: String,
    /// Envoy's reason.
    pub message: String,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            proxies: watch::Sender::new(Proxies::default()),
            clients: watch::Sender::new(BTreeMap::new()),
            streams: Arc::default(),
        }
    }
}

impl Cache {
    /// Replaces everything. Proxies whose resources are as they were keep them, so that their streams stay asleep.
    pub fn publish(&self, latest: BTreeMap<String, Resources>) {
        self.proxies.send_modify(|proxies| {
            let keep_equal = |(key, resources): (String, Resources)| {
                let old = proxies.get(&key).filter(|old| ***old == resources);
                let resources = old.map_or_else(|| Arc::new(resources), Arc::clone);
                (key, resources)
            };
            *proxies = Arc::new(latest.into_iter().map(keep_equal).collect());
        });
    }

    /// Replaces the resources of one proxy.
    pub fn replace(&self, key: &str, resources: Resources) {
        self.proxies.send_if_modified(|proxies| {
            let is_new = proxies.get(key).is_some_and(|old| **old != resources);
            if is_new {
                Arc::make_mut(proxies).insert(key.to_owned(), Arc::new(resources));
            }
            is_new
        });
    }

    /// The latest resources of all proxies, and a wake-up whenever they change.
    pub fn proxies(&self) -> watch::Receiver<Proxies> {
        self.proxies.subscribe()
    }

    /// The Envoys that are connected, by stream, and a wake-up whenever one makes progress.
    pub fn clients(&self) -> watch::Receiver<BTreeMap<u64, Client>> {
        self.clients.subscribe()
    }

    /// An Envoy of the proxy `key` is connected and holds the latest resources.
    pub fn is_current(&self, key: &str) -> bool {
        let proxies = self.proxies.borrow();
        let Some(latest) = proxies.get(key) else { return false };
        let holds_latest = |client: &Client| client.holds.as_ref().is_some_and(|held| Arc::ptr_eq(held, latest));
        self.clients.borrow().values().any(|client| client.cluster == key && holds_latest(client))
    }

    /// Enters a client that is shown as connected until the result is dropped.
    pub(super) fn connect(&self, node: String, cluster: String) -> Connected {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        let client = Client { node, cluster, holds: None, rejections: Vec::new() };
        self.clients.send_modify(|clients| {
            clients.insert(stream, client);
        });
        Connected { stream, clients: self.clients.clone() }
    }
}

/// A client's entry in the cache.
#[derive(Debug)]
pub(super) struct Connected {
    stream: u64,
    clients: watch::Sender<BTreeMap<u64, Client>>,
}

impl Connected {
    /// Notes how far the client is. The new rejections among `rejections` are the result.
    pub(super) fn report(&self, holds: Option<Arc<Resources>>, rejections: Vec<Rejection>) -> Vec<Rejection> {
        let mut news = Vec::new();
        self.clients.send_if_modified(|clients| {
            let Some(client) = clients.get_mut(&self.stream) else { return false };
            let pointer = |held: &Option<Arc<Resources>>| held.as_ref().map(Arc::as_ptr);
            if pointer(&client.holds) == pointer(&holds) && client.rejections == rejections {
                return false;
            }
            news = rejections.iter().filter(|rejection| !client.rejections.contains(rejection)).cloned().collect();
            client.holds = holds;
            client.rejections = rejections;
            true
        });
        news
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.clients.send_modify(|clients| {
            clients.remove(&self.stream);
        });
    }
}

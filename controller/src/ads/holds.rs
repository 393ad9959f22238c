//! Holds back what Envoys refuse, object by object, so that everything else goes on.
//!
//! A route configuration is made of the routes of many objects, and Envoy takes all of it or nothing. When it refuses one,
//! the objects that have changed since the last accepted one are told apart by trial: half of them are held back until the
//! other half has been accepted or refused. Whoever is refused alone is the culprit: its last good routes stay in force,
//! and where there were none its requests are answered with 500, until it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use controller_core::xds::{Resources, Type};
use envoy_types::pb::envoy::config::{cluster::v3::Cluster, route::v3::RouteConfiguration};
use prost::Message;

use self::hunt::Hunt;
use super::{
    Cache,
    cache::{Client, Proxies},
};

mod hunt;
mod routes;
#[cfg(test)]
mod tests;

/// Longest part of a client's reason that is passed on, in bytes.
pub(super) const MAX_REASON: usize = 1024;

/// An object that a resource was made from, as the resource's metadata names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Such as `HTTPRoute`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Why Envoys refuse what an object asks for.
pub type Refusals = BTreeMap<Owner, String>;

/// Stands between the translation and the cache.
#[derive(Debug)]
pub struct Holds {
    cache: Cache,
    proxies: BTreeMap<String, Proxy>,
}

#[derive(Debug, Default)]
struct Proxy {
    /// What the translation wants, while something of it is held back.
    wanted: Option<Resources>,
    /// What an Envoy has accepted last.
    good: Option<Arc<Resources>>,
    /// By route configuration, where something was refused.
    hunts: BTreeMap<String, Hunt>,
    /// Objects whose clusters or listeners are refused.
    others: Refusals,
}

impl Holds {
    /// For what is served from `cache`.
    pub fn new(cache: Cache) -> Self {
        Self { cache, proxies: BTreeMap::new() }
    }

    /// Serves `latest`, but for what is known to be refused.
    pub fn publish(&mut self, latest: BTreeMap<String, Resources>) {
        self.proxies.retain(|key, _| latest.contains_key(key));
        let served = latest.into_iter().map(|(key, wanted)| {
            let resources = match self.proxies.get_mut(&key) {
                Some(proxy) if !proxy.hunts.is_empty() => proxy.want(wanted),
                _ => wanted,
            };
            (key, resources)
        });
        self.cache.publish(served.collect());
    }

    /// Looks at what Envoys have made of what they were sent, and serves something else if that helps. Whether the refusals
    /// are others than before is the result.
    pub fn judge(&mut self, clients: &BTreeMap<u64, Client>) -> bool {
        let before = self.refusals();
        let proxies: Proxies = self.cache.proxies().borrow().clone();
        for (key, served) in proxies.iter() {
            let clients: Vec<&Client> = clients.values().filter(|client| client.cluster == *key).collect();
            if clients.is_empty() {
                continue;
            }
            let proxy = self.proxies.entry(key.clone()).or_default();
            if let Some(next) = proxy.judge(served, &clients) {
                self.cache.replace(key, next);
            }
        }
        self.refusals() != before
    }

    /// What is refused now, and why.
    pub fn refusals(&self) -> Refusals {
        let culprits = self.proxies.values().flat_map(|proxy| proxy.hunts.values()).flat_map(Hunt::refusals);
        let others = self.proxies.values().flat_map(|proxy| proxy.others.clone());
        culprits.chain(others).collect()
    }
}

impl Proxy {
    /// What to serve instead of `wanted`.
    fn want(&mut self, wanted: Resources) -> Resources {
        for (name, hunt) in &mut self.hunts {
            match decode::<RouteConfiguration>(&wanted, Type::RouteConfiguration, name) {
                Some(configuration) => hunt.release_changed(&configuration),
                None => *hunt = Hunt::default(),
            }
        }
        self.hunts.retain(|_, hunt| !hunt.is_over());
        if self.hunts.is_empty() {
            self.wanted = None;
            return wanted;
        }
        let served = self.compose(&wanted);
        self.wanted = Some(wanted);
        served
    }

    /// The next resources to serve, if others are to be.
    fn judge(&mut self, served: &Arc<Resources>, clients: &[&Client]) -> Option<Resources> {
        let mut refused = BTreeMap::new();
        for rejection in clients.iter().flat_map(|client| &client.rejections) {
            // Not of an earlier version.
            if served.find(rejection.kind, &rejection.name).is_some_and(|sent| sent.version == rejection.version) {
                let reason = &rejection.message[..rejection.message.floor_char_boundary(MAX_REASON)];
                refused.insert((rejection.kind, rejection.name.as_str()), reason);
            }
        }
        self.others = others(served, &refused);
        let mut again = false;
        let mut is_refused = false;
        for ((kind, name), reason) in refused {
            if kind != Type::RouteConfiguration {
                continue;
            }
            is_refused = true;
            let Some(sent) = decode(served, kind, name) else { continue };
            let good = self.good.as_ref().and_then(|good| decode(good, kind, name));
            let wanted = self.wanted.as_ref().and_then(|wanted| decode(wanted, kind, name));
            let hunt = self.hunts.entry(name.to_owned()).or_default();
            again |= hunt.refused(wanted.as_ref().unwrap_or(&sent), &sent, good.as_ref(), reason);
        }
        let holds_it = |client: &&Client| client.holds.as_ref().is_some_and(|held| Arc::ptr_eq(held, served));
        if !is_refused && clients.iter().any(holds_it) {
            self.good = Some(Arc::clone(served));
            again |= self.release();
        }
        let next = again.then(|| {
            let wanted = self.wanted.take().unwrap_or_else(|| (**served).clone());
            let mut next = self.compose(&wanted);
            // Nothing new is nothing that an Envoy would answer.
            while next == **served && self.release() {
                next = self.compose(&wanted);
            }
            self.wanted = Some(wanted);
            next
        });
        self.hunts.retain(|_, hunt| !hunt.is_over());
        if self.hunts.is_empty() {
            self.wanted = None;
        }
        next
    }

    /// All that is not held back is accepted; whether somebody under suspicion is to be tried.
    fn release(&mut self) -> bool {
        let tried = self.hunts.values_mut().filter_map(|hunt| hunt.accepted().then_some(()));
        tried.count() > 0
    }

    /// `wanted` without what is held back, and with what stands in for it.
    fn compose(&self, wanted: &Resources) -> Resources {
        let mut served = wanted.clone();
        for (name, hunt) in &self.hunts {
            let Some(wanted) = decode(wanted, Type::RouteConfiguration, name) else { continue };
            let good = self.good.as_ref().and_then(|good| decode(good, Type::RouteConfiguration, name));
            let composed = hunt.compose(&wanted, good.as_ref());
            if let Some(good) = &self.good {
                keep_clusters(&mut served, good, &composed);
            }
            served.replace(&composed);
        }
        served
    }
}

/// Clusters of routes that stay although nobody wants them any more.
fn keep_clusters(served: &mut Resources, good: &Resources, configuration: &RouteConfiguration) {
    for name in routes::clusters(configuration) {
        if served.find(Type::Cluster, name).is_some() {
            continue;
        }
        for kind in [Type::Cluster, Type::ClusterLoadAssignment] {
            if let Some(resource) = good.find(kind, name) {
                served.restore(name.to_owned(), resource.version.clone(), resource.any.clone());
            }
        }
    }
}

/// Whose the refused clusters and listeners are. Envoy keeps their earlier versions by itself.
fn others(served: &Resources, refused: &BTreeMap<(Type, &str), &str>) -> Refusals {
    let mut refusals = Refusals::new();
    for ((kind, name), reason) in refused {
        let owners: BTreeSet<Owner> = match kind {
            Type::Cluster => {
                let cluster: Option<Cluster> = decode(served, *kind, name);
                cluster.and_then(|cluster| routes::owner(cluster.metadata.as_ref())).into_iter().collect()
            }
            Type::Listener => gateway(name).into_iter().collect(),
            _ => BTreeSet::new(),
        };
        let what = if *kind == Type::Cluster { "cluster" } else { "listener" };
        refusals.extend(owners.into_iter().map(|owner| (owner, format!("{what} {name}: {reason}"))));
    }
    refusals
}

/// The Gateway of a listener, `<namespace>/<gateway>/…`.
fn gateway(listener: &str) -> Option<Owner> {
    let mut parts = listener.splitn(3, '/');
    let (namespace, name, _) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Owner { kind: "Gateway".into(), namespace: namespace.into(), name: name.into() })
}

fn decode<M: Message + Default>(resources: &Resources, kind: Type, name: &str) -> Option<M> {
    M::decode(resources.find(kind, name)?.any.value.as_slice()).ok()
}

//! What one client asked for in one type, and what it has been told.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
    mem,
    sync::Arc,
};

use controller_core::xds::{self, Resources, Type};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

/// The name that subscribes to every resource of a type.
const WILDCARD: &str = "*";

/// A resource that the client refused. It keeps what it had before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The version it refused.
    pub version: String,
    /// Its `error_detail`.
    pub message: String,
}

/// State of one type on one stream.
#[derive(Debug)]
pub(in crate::ads) struct Subscription {
    kind: Type,
    wildcard: bool,
    names: BTreeSet<String>,
    /// The version that the client holds or was last sent; `None` where it was told that there is no such resource.
    told: BTreeMap<String, Option<String>>,
    /// The subscription is new, so that even an empty answer is news: Envoy starts up only after it.
    unanswered: bool,
    in_flight: Option<InFlight>,
    /// Parts of a rejected response, to be sent one by one until the culprit is alone.
    retries: Vec<Vec<String>>,
    rejected: BTreeMap<String, Rejection>,
    /// Clusters that were sent while the client had others of their names.
    replaced: BTreeSet<String>,
}

/// A response that the client has neither accepted nor rejected yet.
#[derive(Debug)]
struct InFlight {
    nonce: String,
    names: Vec<String>,
}

impl Subscription {
    /// The state that the first request for a type on a stream makes.
    pub(in crate::ads) fn new(kind: Type, request: &DeltaDiscoveryRequest) -> Self {
        // Clusters and listeners may be asked for by naming none, as clients did before `*` existed.
        let legacy = request.resource_names_subscribe.is_empty() && matches!(kind, Type::Cluster | Type::Listener);
        let mut subscription = Self {
            kind,
            wildcard: legacy,
            names: BTreeSet::new(),
            told: BTreeMap::new(),
            unanswered: legacy,
            in_flight: None,
            retries: Vec::new(),
            rejected: BTreeMap::new(),
            replaced: BTreeSet::new(),
        };
        subscription.subscribe(&request.resource_names_subscribe);
        for (name, version) in &request.initial_resource_versions {
            if subscription.wants(name) {
                subscription.told.insert(name.clone(), Some(version.clone()));
                subscription.unanswered = false;
            }
        }
        subscription
    }

    /// Adds names. A name that is asked for again is sent again.
    pub(in crate::ads) fn subscribe(&mut self, names: &[String]) {
        for name in names {
            if name == WILDCARD {
                self.unanswered |= !self.wildcard;
                self.wildcard = true;
            } else {
                self.told.remove(name);
                self.names.insert(name.clone());
            }
        }
    }

    /// Takes names away. One that the wildcard still covers is told again, as the protocol asks.
    pub(in crate::ads) fn unsubscribe(&mut self, names: &[String]) {
        for name in names {
            if name == WILDCARD {
                self.wildcard = false;
            } else {
                self.names.remove(name);
                // No resource has this version, so that the client hears of the name again.
                self.told.insert(name.clone(), Some(String::new()));
            }
        }
        let (wildcard, names) = (self.wildcard, &self.names);
        self.told.retain(|name, _| wildcard || names.contains(name));
        self.rejected.retain(|name, _| wildcard || names.contains(name));
    }

    /// Takes the client's answer to the response `nonce`; an answer to any other response is stale and says nothing.
    pub(in crate::ads) fn answer(&mut self, nonce: &str, error: Option<&str>) {
        let Some(response) = self.in_flight.take_if(|response| response.nonce == nonce) else { return };
        let mut names = response.names;
        match error {
            None => self.rejected.retain(|name, _| !names.contains(name)),
            Some(_) if names.len() > 1 => {
                let second_half = names.split_off(names.len() / 2);
                self.retries.extend([second_half, names]);
            }
            Some(message) => {
                for name in names {
                    let Some(Some(version)) = self.told.get(&name) else { continue };
                    let rejection = Rejection { version: version.clone(), message: message.to_owned() };
                    self.rejected.insert(name, rejection);
                }
            }
        }
    }

    /// Takes out what [`Self::replaced`] says since the last time.
    pub(in crate::ads) fn take_replaced(&mut self) -> BTreeSet<String> {
        mem::take(&mut self.replaced)
    }

    /// Has these sent again, where the client was sent them.
    pub(in crate::ads) fn repeat(&mut self, names: &BTreeSet<String>) {
        for name in names {
            self.told.remove(name);
        }
    }

    /// Stops waiting for the client's answer.
    pub(in crate::ads) fn give_up_waiting(&mut self) {
        self.in_flight = None;
    }

    /// A response is waiting for the client's answer.
    pub(in crate::ads) fn is_waiting(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Number of names that the client made this server remember.
    pub(in crate::ads) fn len(&self) -> usize {
        self.names.len().max(self.told.len())
    }

    /// The client holds no resource.
    pub(in crate::ads) fn is_empty(&self) -> bool {
        self.told.values().all(Option::is_none)
    }

    /// What the client refused and has not accepted a newer version of.
    pub(in crate::ads) fn rejected(&self) -> &BTreeMap<String, Rejection> {
        &self.rejected
    }

    /// The client was sent every resource there is and has answered.
    pub(in crate::ads) fn holds_all(&self, resources: &Resources) -> bool {
        let answered = !self.unanswered && self.in_flight.is_none() && self.retries.is_empty();
        let mut told = self.walk();
        answered && resources.of(self.kind).all(|(name, resource)| told.find(name) == Some(Some(&resource.version)))
    }

    /// New and changed resources, and names that there is no resource for; `with_removals` also what is gone.
    pub(in crate::ads) fn additions(
        &mut self,
        resources: &Resources,
        nonce: impl FnOnce() -> String,
        with_removals: bool,
    ) -> Option<DeltaDiscoveryResponse> {
        if self.in_flight.is_some() {
            return None;
        }
        let names = self.next_retry(resources).unwrap_or_else(|| self.news(resources));
        let mut removed = self.missing(resources);
        if with_removals {
            removed.extend(self.gone(resources));
        }
        (self.unanswered || !names.is_empty() || !removed.is_empty())
            .then(|| self.respond(resources, nonce(), names, removed))
    }

    /// What the client still holds although it is gone.
    pub(in crate::ads) fn removals(
        &mut self,
        resources: &Resources,
        nonce: impl FnOnce() -> String,
    ) -> Option<DeltaDiscoveryResponse> {
        let removed = self.gone(resources);
        (!removed.is_empty()).then(|| self.respond(resources, nonce(), Vec::new(), removed))
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn walk(&self) -> Walk<impl Iterator<Item = (&str, Option<&String>)>> {
        Walk(self.told.iter().map(|(name, version)| (name.as_str(), version.as_ref())).peekable())
    }

    fn next_retry(&mut self, resources: &Resources) -> Option<Vec<String>> {
        while let Some(mut names) = self.retries.pop() {
            names.retain(|name| self.wants(name) && self.find(resources, name).is_some());
            if !names.is_empty() {
                return Some(names);
            }
        }
        None
    }

    fn news(&self, resources: &Resources) -> Vec<String> {
        let mut told = self.walk();
        let mut is_new = |name: &str, version: &String| told.find(name) != Some(Some(version)) && self.wants(name);
        let wanted = resources.of(self.kind).filter(|(name, resource)| is_new(name, &resource.version));
        wanted.map(|(name, _)| name.to_owned()).collect()
    }

    fn missing(&self, resources: &Resources) -> Vec<String> {
        let mut told = self.walk();
        let is_missing = |name: &&String| told.find(name).is_none() && self.find(resources, name).is_none();
        self.names.iter().filter(is_missing).cloned().collect()
    }

    fn gone(&self, resources: &Resources) -> Vec<String> {
        let mut there = Walk(resources.of(self.kind).peekable());
        let told = self.told.iter().filter(|(_, version)| version.is_some());
        told.map(|(name, _)| name).filter(|name| there.find(name).is_none()).cloned().collect()
    }

    fn find<'r>(&self, resources: &'r Resources, name: &str) -> Option<&'r Arc<xds::Resource>> {
        resources.find(self.kind, name)
    }

    fn respond(
        &mut self,
        resources: &Resources,
        nonce: String,
        names: Vec<String>,
        removed: Vec<String>,
    ) -> DeltaDiscoveryResponse {
        let mut response = DeltaDiscoveryResponse {
            type_url: self.kind.url().to_owned(),
            nonce: nonce.clone(),
            ..DeltaDiscoveryResponse::default()
        };
        for name in &names {
            let Some(resource) = self.find(resources, name) else { continue };
            let before = self.told.insert(name.clone(), Some(resource.version.clone()));
            if self.kind == Type::Cluster && before.flatten().is_some() {
                self.replaced.insert(name.clone());
            }
            response.resources.push(Resource {
                name: name.clone(),
                version: resource.version.clone(),
                resource: Some(resource.any.clone()),
                ..Resource::default()
            });
        }
        for name in &removed {
            self.rejected.remove(name);
            if self.names.contains(name) {
                self.told.insert(name.clone(), None);
            } else {
                self.told.remove(name);
            }
        }
        response.removed_resources = removed;
        self.unanswered = false;
        self.in_flight = Some(InFlight { nonce, names });
        response
    }
}

/// Finds names that are asked for in ascending order in one walk, where each search on its own would begin at the root.
struct Walk<I: Iterator>(Peekable<I>);

impl<'k, V, I: Iterator<Item = (&'k str, V)>> Walk<I> {
    fn find(&mut self, name: &str) -> Option<V> {
        while self.0.next_if(|(known, _)| *known < name).is_some() {}
        self.0.next_if(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

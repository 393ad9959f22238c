//! State-of-the-world ADS for one stream, on top of the delta session.
//!
//! The session decides what is sent when. Of clusters and listeners, a response then has all that the client is to hold, since
//! whatever is missing in it goes; so a cluster stays in it until the routes that used it are gone. Of the other types it has what
//! is new: the client drops by itself what nothing refers to any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use controller_core::xds::{Resource, Resources, Type};
use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
};
use sha2::{Digest, Sha256};

use super::{
    session::{ProtocolError, Session},
    variant::Variant,
};

#[cfg(test)]
mod tests;

/// What one stream's client asked for and has been sent.
#[derive(Debug, Default)]
pub(super) struct StateOfTheWorld {
    session: Session,
    asked: BTreeMap<Type, BTreeSet<String>>,
    wholes: BTreeMap<Type, Whole>,
}

/// Resources of a type of which a response has all.
#[derive(Debug, Default)]
struct Whole {
    /// What the client has accepted and shall keep.
    held: BTreeMap<String, Arc<Resource>>,
    /// What else was in the last response, until the client has answered.
    added: BTreeMap<String, Arc<Resource>>,
    nonce: String,
}

impl Variant for StateOfTheWorld {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn take_node(request: &mut Self::Request) -> Option<Node> {
        request.node.take()
    }

    fn accept(&mut self, request: &Self::Request) -> Result<(), ProtocolError> {
        let mut delta = DeltaDiscoveryRequest {
            type_url: request.type_url.clone(),
            response_nonce: request.response_nonce.clone(),
            error_detail: request.error_detail.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        if let Some(kind) = Type::from_url(&request.type_url) {
            if let Some(whole) = self.wholes.get_mut(&kind) {
                whole.answer(&request.response_nonce, request.error_detail.is_none());
            }
            // Each request names all that the client wants.
            let names: BTreeSet<String> = request.resource_names.iter().cloned().collect();
            let asked = self.asked.entry(kind).or_default();
            delta.resource_names_subscribe = names.difference(asked).cloned().collect();
            delta.resource_names_unsubscribe = asked.difference(&names).cloned().collect();
            *asked = names;
        }
        self.session.accept(&delta)
    }

    fn update(&mut self, resources: &Resources) -> Vec<Self::Response> {
        let mut responses = Vec::new();
        loop {
            let mut is_done = true;
            for delta in self.session.update(resources) {
                let acknowledged = DeltaDiscoveryRequest {
                    type_url: delta.type_url.clone(),
                    response_nonce: delta.nonce.clone(),
                    ..DeltaDiscoveryRequest::default()
                };
                match self.response(delta, resources) {
                    Some(response) => responses.push(response),
                    None => is_done &= self.session.accept(&acknowledged).is_err(),
                }
            }
            if is_done {
                return responses;
            }
        }
    }

    fn give_up_waiting(&mut self) {
        self.session.give_up_waiting();
    }

    fn session(&self) -> &Session {
        &self.session
    }
}

impl StateOfTheWorld {
    /// What `delta` says, unless that cannot be said in this variant.
    fn response(&mut self, delta: DeltaDiscoveryResponse, latest: &Resources) -> Option<DiscoveryResponse> {
        let DeltaDiscoveryResponse { type_url, nonce, resources, removed_resources, .. } = delta;
        let (version_info, resources) = match Type::from_url(&type_url) {
            Some(kind @ (Type::Cluster | Type::Listener)) => {
                let added = resources.into_iter().filter_map(|resource| {
                    latest.find(kind, &resource.name).map(|found| (resource.name, Arc::clone(found)))
                });
                let whole = self.wholes.entry(kind).or_default();
                whole.send(nonce.clone(), added.collect(), &removed_resources);
                let all = || whole.all().map(|(name, resource)| (name.as_str(), resource.version.as_str()));
                (version(all()), whole.all().map(|(_, resource)| resource.any.clone()).collect())
            }
            _ if resources.is_empty() => return None,
            _ => {
                let all = resources.iter().map(|resource| (resource.name.as_str(), resource.version.as_str()));
                (version(all), resources.into_iter().filter_map(|resource| resource.resource).collect())
            }
        };
        Some(DiscoveryResponse { version_info, resources, type_url, nonce, ..Default::default() })
    }
}

impl Whole {
    fn answer(&mut self, nonce: &str, is_accepted: bool) {
        if nonce != self.nonce {
            return;
        }
        let added = mem::take(&mut self.added);
        if is_accepted {
            self.held.extend(added);
        }
    }

    fn send(&mut self, nonce: String, added: BTreeMap<String, Arc<Resource>>, removed: &[String]) {
        // What nobody has waited to see accepted is taken for it.
        self.held.append(&mut self.added);
        for name in removed {
            self.held.remove(name);
        }
        (self.added, self.nonce) = (added, nonce);
    }

    /// What the last response has, in the order of names.
    fn all(&self) -> impl Iterator<Item = (&String, &Arc<Resource>)> {
        let kept = self.held.iter().filter(|(name, _)| !self.added.contains_key(*name));
        kept.chain(&self.added)
    }
}

/// Of the content: 16 hex digits.
fn version<'r>(resources: impl Iterator<Item = (&'r str, &'r str)>) -> String {
    let mut digest = Sha256::new();
    for (name, version) in resources {
        digest.update([name, "\0", version, "\0"].concat());
    }
    format!("{:x}", digest.finalize()).chars().take(16).collect()
}

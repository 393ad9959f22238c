//! Delta ADS for one stream, as a pure state machine: requests and snapshots in, responses out.
//!
//! What is added is sent in the order clusters, endpoints, listeners, routes, secrets, and what is gone is taken away
//! after that, so that no route ever points at a cluster that is not there yet or not there any more. Each type has at
//! most one response that the client has not answered; what changes meanwhile is sent with the next one, so that a slow
//! client skips the snapshots it has missed.

use std::collections::{BTreeMap, BTreeSet};

use controller_core::xds::{Resources, Type};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

mod subscription;
#[cfg(test)]
pub(super) mod tests;

pub use subscription::Rejection;
pub(super) use subscription::Subscription;

/// Names that one client may make the server remember, over all types.
const MAX_NAMES: usize = 200_000;

/// A client that does not speak the protocol. The stream ends.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProtocolError {
    /// There is no `type_url`.
    #[error("the discovery request names no type_url")]
    NoType,
    /// The client asks for more names than any real proxy does.
    #[error("the client has subscribed to more than {MAX_NAMES} resource names")]
    TooManyNames,
}

/// What one stream's client asked for and has been sent.
#[derive(Debug, Default)]
pub struct Session {
    subscriptions: BTreeMap<Type, Subscription>,
    responses: u64,
    gave_up_waiting: bool,
    /// Clusters that the client has in a new version, and whose endpoints it has not been sent since.
    cold: BTreeSet<String>,
}

impl Session {
    /// Takes a request in and answers it, if there is anything to say.
    pub fn request(
        &mut self,
        request: &DeltaDiscoveryRequest,
        resources: &Resources,
    ) -> Result<Vec<DeltaDiscoveryResponse>, ProtocolError> {
        self.accept(request)?;
        Ok(self.update(resources))
    }

    /// Takes a request in while there are no resources to answer it with. The next [`Session::update`] does.
    pub fn accept(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), ProtocolError> {
        if request.type_url.is_empty() {
            return Err(ProtocolError::NoType);
        }
        // A type that this server has no resources of is never answered.
        let Some(kind) = Type::from_url(&request.type_url) else { return Ok(()) };
        let error = request.error_detail.as_ref().map(|status| status.message.trim());
        match self.subscriptions.get_mut(&kind) {
            None => {
                self.subscriptions.insert(kind, Subscription::new(kind, request));
            }
            Some(subscription) => {
                subscription.answer(&request.response_nonce, error);
                subscription.subscribe(&request.resource_names_subscribe);
                subscription.unsubscribe(&request.resource_names_unsubscribe);
            }
        }
        let names: usize = self.subscriptions.values().map(Subscription::len).sum();
        if names > MAX_NAMES { Err(ProtocolError::TooManyNames) } else { Ok(()) }
    }

    /// What to send now that `resources` is the latest snapshot.
    pub fn update(&mut self, resources: &Resources) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = Vec::new();
        for kind in Type::ALL {
            // Envoy acknowledges clusters only when they are warm; until then nothing may point at them.
            let refers_to_clusters = matches!(kind, Type::Listener | Type::RouteConfiguration);
            if refers_to_clusters && self.awaits_answer_to(Type::Cluster) {
                continue;
            }
            // A listener that is gone may hold the address that a new one binds.
            let with_removals = kind == Type::Listener;
            let Some(subscription) = self.subscriptions.get_mut(&kind) else { continue };
            if kind == Type::ClusterLoadAssignment {
                // Envoy does not ask again, and waits for them for a quarter of a minute before it takes those that it has.
                subscription.repeat(&std::mem::take(&mut self.cold));
            }
            let nonce = || next_nonce(&mut self.responses);
            responses.extend(subscription.additions(resources, nonce, with_removals));
            self.cold.extend(subscription.take_replaced());
        }
        responses.extend(self.removal(resources));
        responses
    }

    /// Lets later updates go ahead although the client has not answered or asked as expected. An answer that still
    /// comes is ignored.
    pub fn give_up_waiting(&mut self) {
        self.gave_up_waiting = true;
        self.subscriptions.values_mut().for_each(Subscription::give_up_waiting);
    }

    /// Something is held back until the client answers a response or asks for its routes.
    pub fn is_waiting(&self) -> bool {
        self.awaits_answer() || self.awaits_routes()
    }

    /// The client has asked for clusters, listeners and routes, was sent all of them, and has answered.
    pub fn is_current(&self, resources: &Resources) -> bool {
        [Type::Cluster, Type::Listener, Type::RouteConfiguration].into_iter().all(|kind| {
            let told_all = |subscription: &Subscription| subscription.holds_all(resources);
            self.subscriptions.get(&kind).map_or(resources.of(kind).next().is_none(), told_all)
        })
    }

    /// Every resource that the client has refused and not accepted a newer version of.
    pub fn rejections(&self) -> impl Iterator<Item = (Type, &str, &Rejection)> {
        self.subscriptions.iter().flat_map(|(kind, subscription)| {
            subscription.rejected().iter().map(|(name, rejection)| (*kind, name.as_str(), rejection))
        })
    }

    /// Takes away what is gone, one type at a time, once the client has accepted all that is new: routes that it kept
    /// because it refused newer ones still need their clusters.
    fn removal(&mut self, resources: &Resources) -> Option<DeltaDiscoveryResponse> {
        let refused =
            |kind| self.subscriptions.get(&kind).is_some_and(|subscription| !subscription.rejected().is_empty());
        if self.is_waiting() || refused(Type::Listener) || refused(Type::RouteConfiguration) {
            return None;
        }
        let order = [Type::RouteConfiguration, Type::Cluster, Type::ClusterLoadAssignment, Type::Secret];
        order.into_iter().find_map(|kind| {
            let nonce = || next_nonce(&mut self.responses);
            self.subscriptions.get_mut(&kind)?.removals(resources, nonce)
        })
    }

    fn awaits_answer(&self) -> bool {
        self.subscriptions.values().any(Subscription::is_waiting)
    }

    /// A client that comes back asks for its clusters first. Until it has asked for its routes, nobody knows which of
    /// the clusters that are gone it still uses.
    fn awaits_routes(&self) -> bool {
        let has_asked = match self.subscriptions.get(&Type::Listener) {
            Some(listeners) => listeners.is_empty() || self.subscriptions.contains_key(&Type::RouteConfiguration),
            None => false,
        };
        !has_asked && !self.gave_up_waiting
    }

    fn awaits_answer_to(&self, kind: Type) -> bool {
        self.subscriptions.get(&kind).is_some_and(Subscription::is_waiting)
    }
}

fn next_nonce(responses: &mut u64) -> String {
    *responses += 1;
    responses.to_string()
}

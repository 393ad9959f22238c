//! What the two variants of ADS have in common for the server.

use controller_core::xds::Resources;
use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};

use super::session::{ProtocolError, Session};

/// One stream in one variant of ADS.
pub(super) trait Variant: Default + Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;

    /// Takes out who sends it, which the first request of a stream says.
    fn take_node(request: &mut Self::Request) -> Option<Node>;

    /// Takes a request in, which the next [`Self::update`] answers.
    fn accept(&mut self, request: &Self::Request) -> Result<(), ProtocolError>;

    /// What to send now that `resources` is the latest snapshot.
    fn update(&mut self, resources: &Resources) -> Vec<Self::Response>;

    /// Lets later updates go ahead although the client has not answered.
    fn give_up_waiting(&mut self);

    /// How far the client is.
    fn session(&self) -> &Session;
}

impl Variant for Session {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn take_node(request: &mut Self::Request) -> Option<Node> {
        request.node.take()
    }

    fn accept(&mut self, request: &Self::Request) -> Result<(), ProtocolError> {
        Self::accept(self, request)
    }

    fn update(&mut self, resources: &Resources) -> Vec<Self::Response> {
        Self::update(self, resources)
    }

    fn give_up_waiting(&mut self) {
        Self::give_up_waiting(self);
    }

    fn session(&self) -> &Session {
        self
    }
}

//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::drain::Signal;

/// The client of a connection, in the extensions of each of its requests.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: Option<SocketAddr>,
    names: Vec<String>,
    leaving: Signal,
}

impl Peer {
    /// `names` must have been verified.
    pub fn new(address: Option<SocketAddr>, names: Vec<String>, leaving: Signal) -> Self {
        Self(Arc::new(Inner { address, names, leaving }))
    }

    /// Where it connects from; nothing on a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address
    }

    /// The DNS names and URIs of its certificate, which was verified; none without one.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// Starts when the connection takes no more requests; streams should end then.
    pub fn leaving(&self) -> &Signal {
        &self.0.leaving
    }
}

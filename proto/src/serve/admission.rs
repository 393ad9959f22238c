//! How many connections are taken, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Caps on open connections. Clones share the count, so that the listeners of all cores can.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    free: Arc<Semaphore>,
    max_per_peer: usize,
    peers: Mutex<HashMap<IpAddr, usize>>,
}

/// One of a peer's connections, until dropped.
#[derive(Debug)]
pub(super) struct Seat {
    shared: Arc<Shared>,
    address: Option<IpAddr>,
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(Self::MAX, Self::MAX_PER_PEER)
    }
}

impl Admission {
    /// Connections in all, unless told otherwise.
    pub const MAX: usize = 10_000;
    /// Connections from one address, unless told otherwise; many proxies may share the address of a node or a sidecar.
    pub const MAX_PER_PEER: usize = 2_000;

    /// At most `max` connections, and at most `max_per_peer` from one IP address.
    pub fn new(max: usize, max_per_peer: usize) -> Self {
        let free = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared { free, max_per_peer, peers: Mutex::default() }))
    }

    /// Room for a connection, as soon as there is some.
    pub(super) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        // Fails when the semaphore is closed, which nobody does.
        Arc::clone(&self.0.free).acquire_owned().await.ok()
    }

    /// A connection more from this address, unless it has too many. Clients on Unix sockets have no address, and no cap.
    pub(super) fn seat(&self, address: Option<IpAddr>) -> Option<Seat> {
        if let Some(address) = address {
            let mut peers = self.0.peers.lock().unwrap_or_else(PoisonError::into_inner);
            if peers.get(&address).copied().unwrap_or_default() >= self.0.max_per_peer {
                return None;
            }
            *peers.entry(address).or_default() += 1;
        }
        Some(Seat { shared: Arc::clone(&self.0), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut peers = self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = peers.get_mut(&address) {
            *taken -= 1;
            if *taken == 0 {
                peers.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn peers_have_seats_and_all_share_the_room() {
        let admission = Admission::new(3, 2);
        let (a, b) = (Some([127, 0, 0, 1].into()), Some([127, 0, 0, 2].into()));
        let seats = [admission.seat(a).unwrap(), admission.seat(a).unwrap(), admission.seat(b).unwrap()];
        assert!(admission.seat(a).is_none());
        assert!(admission.seat(None).is_some());
        drop(seats);
        assert!(admission.seat(a).is_some());
        assert!(admission.0.peers.lock().unwrap().is_empty());
    }

    #[test]
    fn nobody_is_let_in_where_nobody_may() {
        let admission = Admission::new(1, 0);
        assert!(admission.seat(Some([127, 0, 0, 1].into())).is_none());
        assert!(admission.0.peers.lock().unwrap().is_empty());
    }
}

//! Load that counts what fails. The suites of the services have it as a module of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Clients that ask one request after another, each on a thread of its own.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<u16>>>,
}

impl Load {
    /// Each client asks once and yields the status.
    pub(crate) fn begin<C: FnMut() -> u16 + Send + 'static>(clients: impl IntoIterator<Item = C>) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = clients.into_iter().map(|mut ask| {
            let (stop, answered) = (stop.clone(), answered.clone());
            thread::spawn(move || {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let status = ask();
                    answered.fetch_add(1, Ordering::Relaxed);
                    failed.extend((status != 200).then_some(status));
                }
                failed
            })
        });
        Self { clients: clients.collect(), stop, answered }
    }

    /// Waits until so many more requests are answered.
    pub(crate) fn go_on(&self, requests: usize) {
        let until = self.answered.load(Ordering::Relaxed) + requests;
        while self.answered.load(Ordering::Relaxed) < until && !self.clients.iter().any(JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many were answered, and the statuses other than 200.
    pub(crate) fn end(self) -> (usize, Vec<u16>) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.answered.load(Ordering::Relaxed), failed)
    }
}

//! A thread for what outlives one question: connections to issuers and stores, and what is fetched ahead of time.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A runtime of its own, which ends with the last clone. Servers run one runtime a core; what they share is driven here.
#[derive(Clone, Debug)]
pub struct Background {
    runtime: Handle,
    _end: Arc<oneshot::Sender<()>>,
}

impl Background {
    /// Starts the thread. Fails when the system gives none.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("background".to_owned()).spawn(move || {
            // Nobody sends: the receiver wakes when the last sender is dropped.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { runtime: handle, _end: Arc::new(end) })
    }

    /// Runs a task there; its end can be awaited anywhere.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(task)
    }
}

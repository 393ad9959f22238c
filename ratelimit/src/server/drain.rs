//! The end: health fails at once, all else goes on until the drain.

use std::{sync::Arc, time::Duration};

use proto::drain::{self, Signal, Trigger};
use tokio::{runtime::Runtime, time};

/// What ends the program, and who may know of it.
pub(super) struct Drain {
    /// Begins the drain.
    pub(super) trigger: Arc<Trigger>,
    /// Connections are to be drained.
    pub(super) draining: Signal,
    /// The end has been asked for; clients should leave.
    pub(super) leaving: Signal,
}

/// Leaves at SIGTERM or SIGINT, and drains after `delay`.
pub(super) fn on_sigterm(delay: Duration, background: &Runtime) -> Drain {
    let (trigger, draining) = drain::new();
    let trigger = Arc::new(trigger);
    let (leave, leaving) = drain::new();
    background.spawn(wait(leave, delay, Arc::clone(&trigger)));
    Drain { trigger, draining, leaving }
}

async fn wait(leave: Trigger, delay: Duration, trigger: Arc<Trigger>) {
    match drain::on_sigterm(leave).await {
        Ok(()) => time::sleep(delay).await,
        Err(error) => tracing::error!(%error, "ending, as without signals nobody could end this in good order"),
    }
    trigger.drain();
}

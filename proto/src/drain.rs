//! The way down: one [`Trigger`] tells every holder of a [`Signal`] to finish what is in flight and end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Starts the drain when told so, or when dropped.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Knows whether the drain has started.
#[derive(Clone, Debug)]
pub struct Signal(watch::Receiver<bool>);

/// A trigger and its signal.
pub fn new() -> (Trigger, Signal) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Signal(receiver))
}

impl Trigger {
    /// Starts the drain; again is harmless.
    pub fn drain(&self) {
        self.0.send_replace(true);
    }
}

impl Signal {
    /// Ends when the drain starts.
    pub async fn wait(mut self) {
        // An error means that the trigger was dropped, which is a drain too.
        let _ = self.0.wait_for(|draining| *draining).await;
    }

    /// Whether the drain has started.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// Waits for SIGTERM or SIGINT, then starts the drain.
pub async fn on_sigterm(trigger: Trigger) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "draining");
    trigger.drain();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_signals_hear_the_trigger() {
        let (trigger, signal) = new();
        assert!(!signal.is_draining());
        let other = tokio::spawn(signal.clone().wait());
        trigger.drain();
        signal.clone().wait().await;
        assert!(signal.is_draining());
        assert!(other.await.is_ok());
    }

    #[tokio::test]
    async fn a_dropped_trigger_drains() {
        let (trigger, signal) = new();
        drop(trigger);
        assert!(signal.is_draining());
        signal.wait().await;
    }
}

//! Readiness as a value: whatever must happen before the first request holds a [`Block`] until it has.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// Ready when nothing blocks it (any more). Clones look at the same blocks.
#[derive(Clone, Debug, Default)]
pub struct Readiness(watch::Sender<Blocks>);

/// Name of a block to how many hold it.
type Blocks = BTreeMap<String, usize>;

/// Keeps its [`Readiness`] from being ready until dropped.
#[derive(Debug)]
#[must_use = "readiness is blocked only as long as this lives"]
pub struct Block {
    readiness: Readiness,
    name: String,
}

impl Readiness {
    /// Ready at once; block it before anybody looks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the block is dropped. `name` says what is awaited, such as `config`.
    pub fn block(&self, name: impl Into<String>) -> Block {
        let name = name.into();
        self.0.send_modify(|blocks| *blocks.entry(name.clone()).or_default() += 1);
        Block { readiness: self.clone(), name }
    }

    /// Whether nothing blocks.
    pub fn is_ready(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// What is still awaited, sorted.
    pub fn pending(&self) -> Vec<String> {
        self.0.borrow().keys().cloned().collect()
    }

    /// Ends when nothing blocks.
    pub async fn wait(&self) {
        // The sender is held by `self`, so that this cannot fail.
        let _ = self.0.subscribe().wait_for(BTreeMap::is_empty).await;
    }

    /// Ends at the next change; what is seen before the first poll may be missed, so look at [`Self::is_ready`] after.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Blocks> {
        self.0.subscribe()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.readiness.0.send_modify(|blocks| {
            if let Some(holders) = blocks.get_mut(&self.name) {
                *holders -= 1;
                if *holders == 0 {
                    blocks.remove(&self.name);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_the_last_block_is_dropped() {
        let readiness = Readiness::new();
        let config = readiness.block("config");
        let store = readiness.block("store");
        let again = readiness.block("store");
        assert_eq!(readiness.pending(), ["config", "store"]);
        drop(store);
        drop(config);
        assert_eq!(readiness.clone().pending(), ["store"]);
        assert!(!readiness.is_ready());
        let waiter = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.wait().await }
        });
        drop(again);
        assert!(waiter.await.is_ok());
        assert!(readiness.is_ready());
    }
}

//! Loads the manifests again whenever they change.

use std::sync::Arc;

use proto::directory::Changes;
use tokio::{sync::watch, task::spawn_blocking};

use super::{Files, Manifests};

/// The manifests as they are now, and from then on as they change, until the receiver is dropped. Blocks on the file system
/// for the first ones, and needs a runtime for the others.
pub fn watch(mut files: Files) -> watch::Receiver<Arc<Manifests>> {
    let mut changes = Changes::of(files.directory());
    changes.watch();
    let (sender, receiver) = watch::channel(Arc::new(files.load().unwrap_or_default()));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = changes.wait() => {}
                () = sender.closed() => return,
            }
            changes.watch();
            let loaded = spawn_blocking(move || {
                let manifests = files.load();
                (files, manifests)
            });
            let manifests;
            match loaded.await {
                Ok(loaded) => (files, manifests) = loaded,
                Err(panic) => return tracing::error!("the manifests are followed no longer: {panic}"),
            }
            if let Some(manifests) = manifests {
                sender.send_replace(Arc::new(manifests));
            }
        }
    });
    receiver
}

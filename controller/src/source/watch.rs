//! Loads the manifests again whenever they change.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use notify::{RecursiveMode, Watcher};
use tokio::sync::watch;

use super::{Files, Manifests};

/// Quiet time after which a burst of changes counts as complete.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Longest burst before the files are read in spite of it.
const BURST: Duration = Duration::from_secs(1);
/// How often the files are read without being told: the kernel says nothing of changes behind a symlink.
const POLL: Duration = Duration::from_secs(2);

/// Why changes cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel refuses.
    #[error("watching {directory}")]
    Notify {
        /// The directory.
        directory: PathBuf,
        /// Its reason.
        source: notify::Error,
    },
    /// No thread could be started.
    #[error("starting the thread that reads the manifests")]
    Thread(#[from] std::io::Error),
}

/// The manifests as they are now, and from then on as they change, until the receiver is dropped.
pub fn watch(mut files: Files) -> Result<watch::Receiver<Arc<Manifests>>, WatchError> {
    let directory = files.directory().to_owned();
    let notify_error = |source| WatchError::Notify { directory: directory.clone(), source };
    let (notices, changed) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: Result<notify::Event, _>| {
        let is_read = event.is_ok_and(|event| event.kind.is_access());
        if !is_read {
            // The receiver is gone only when the thread is.
            let _ = notices.send(());
        }
    })
    .map_err(notify_error)?;
    watcher.watch(&directory, RecursiveMode::NonRecursive).map_err(notify_error)?;

    let (sender, receiver) = watch::channel(Arc::new(files.load().unwrap_or_default()));
    thread::Builder::new().name("manifests".to_owned()).spawn(move || {
        let _watcher = watcher;
        while !sender.is_closed() {
            wait(&changed);
            if let Some(manifests) = files.load() {
                sender.send_replace(Arc::new(manifests));
            }
        }
    })?;
    Ok(receiver)
}

/// Ends after a change and the quiet that follows it, or when it is time to look anyway.
fn wait(changed: &mpsc::Receiver<()>) {
    if changed.recv_timeout(POLL).is_err() {
        return;
    }
    let end = Instant::now() + BURST;
    while Instant::now() < end && changed.recv_timeout(DEBOUNCE).is_ok() {}
}

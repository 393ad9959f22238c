//! Telling when the files of a directory, such as a mounted ConfigMap, may have changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A burst of changes is over when nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(100);
/// A directory that never comes to rest is looked at this often.
const LONGEST_BURST: Duration = Duration::from_secs(1);
/// How often to look without a sign of change, for what the kernel does not report: directories that appear later, files
/// behind symbolic links, network file systems.
const RECHECK: Duration = Duration::from_secs(2);

/// The changes of one directory, wherever the symbolic links on the way to it lead.
///
/// [`Changes::watch`], then read, then [`Changes::wait`], and again: a change between two steps is never missed.
#[derive(Debug)]
pub struct Changes {
    path: PathBuf,
    sender: mpsc::Sender<()>,
    receiver: mpsc::Receiver<()>,
    watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Nothing is watched yet. The directory need not be there.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        Self { path: path.into(), sender, receiver, watcher: None }
    }

    /// Watches what the path leads to now: after a symbolic link was swapped, an older watch is on the old directory.
    pub fn watch(&mut self) {
        self.watch_with([]);
    }

    /// Watches other directories, too: those below it, or where a link on the way to it may be swapped.
    pub fn watch_with(&mut self, others: impl IntoIterator<Item = PathBuf>) {
        let paths = [Some(self.path.as_path()), self.path.parent()].into_iter().flatten().map(Path::to_owned);
        let watcher = watcher(paths.chain(others), self.sender.clone());
        if let Err(error) = &watcher {
            tracing::debug!(dir = %self.path.display(), %error, "cannot watch, looking every {RECHECK:?}");
        }
        self.watcher = watcher.ok();
    }

    /// Returns after a change and the quiet that follows it, or when it is time to look anyway.
    pub async fn wait(&mut self) {
        if timeout(RECHECK, self.receiver.recv()).await.is_ok() {
            let quiet = async { while timeout(QUIET, self.receiver.recv()).await.is_ok() {} };
            let _ = timeout(LONGEST_BURST, quiet).await;
        }
    }
}

/// Watches the directory, its parent, where it may appear or a symbolic link to it may be swapped, and others.
fn watcher(paths: impl Iterator<Item = PathBuf>, changed: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full channel has a change in it already.
            let _ = changed.try_send(());
        }
    })?;
    for path in paths.filter(|path| path.is_dir()) {
        watcher.watch(&path, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Well below [`RECHECK`], so that only a reported change can be in time.
    const SOON: Duration = Duration::from_millis(1500);

    async fn reports(changes: &mut Changes, change: impl FnOnce()) -> bool {
        changes.watch();
        change();
        timeout(SOON, changes.wait()).await.is_ok()
    }

    #[tokio::test]
    async fn reports_written_files_and_swapped_links() {
        let root = tempfile::tempdir().unwrap();
        let (one, two, link) = (root.path().join("one"), root.path().join("two"), root.path().join("config"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        symlink(&one, &link).unwrap();
        let mut changes = Changes::of(&link);
        assert!(reports(&mut changes, || fs::write(one.join("a"), "1").unwrap()).await);
        let swap = || {
            symlink(&two, root.path().join("new")).unwrap();
            fs::rename(root.path().join("new"), &link).unwrap();
        };
        assert!(reports(&mut changes, swap).await);
        assert!(reports(&mut changes, || fs::write(two.join("a"), "1").unwrap()).await);
    }

    #[tokio::test]
    async fn reports_a_directory_that_appears() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("later");
        let mut changes = Changes::of(&path);
        assert!(reports(&mut changes, || fs::create_dir(&path).unwrap()).await);
    }
}

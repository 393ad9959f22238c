//! A directory of files, such as a mounted ConfigMap, followed while it changes.

use std::io;
use std::iter::once;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use proto::directory::Changes;
use proto::readiness::Block;

use crate::config::{self, Config, Files};
use crate::metrics;
use crate::policy::Policies;
use crate::resources::{self, Keys, Options, Resources};
use crate::service::Authorizer;

/// Why the files of a directory are not in force.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The directory or a file in it cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What stands in the files is wrong.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] config::Error),
    /// See [`resources::Error`].
    #[error(transparent)]
    Resources(#[from] resources::Error),
}

/// A directory whose policies an [`Authorizer`] enforces: all of them or, when something is wrong with any, those that
/// were good last.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
    authorizer: Authorizer,
    /// What the system said of the files before they were read last.
    stamp: Option<Stamp>,
    /// Fingerprint of what was read last, good or not: the files hold secrets that need not stay.
    seen: Option<[u8; 32]>,
    /// Held until policies are in force for the first time.
    block: Option<Block>,
}

impl Dir {
    /// Nothing is read before [`Self::load`] or [`Self::follow`]. The block is lifted once policies are in force.
    pub fn new(path: impl Into<PathBuf>, authorizer: Authorizer, block: Option<Block>) -> Self {
        Self { path: path.into(), authorizer, stamp: None, seen: None, block }
    }

    /// Reads the files and, if they are not those of last time, puts their policies in force. Says whether it did. Blocks on
    /// the file system.
    pub fn load(&mut self) -> Result<bool, Error> {
        let loaded = self.replace();
        match &loaded {
            Ok(false) => {}
            Ok(true) => metrics::reloaded(true),
            Err(_) => metrics::reloaded(false),
        }
        loaded
    }

    fn replace(&mut self) -> Result<bool, Error> {
        let stamp = stamp(&self.path, SystemTime::now());
        if stamp.is_some() && stamp == self.stamp {
            return Ok(false);
        }
        let files = read(&self.path)?;
        self.stamp = stamp;
        if self.seen.replace(fingerprint(&files)) == Some(fingerprint(&files)) {
            return Ok(false);
        }
        let config = Config::parse(&files)?;
        self.authorizer.replace(&config.policies).map_err(|error| config.locate(&error))?;
        self.block = None;
        tracing::info!(dir = %self.path.display(), policies = config.policies.len(), "policies are in force");
        Ok(true)
    }

    /// Loads whenever the files change, for as long as it is polled; errors are logged.
    pub async fn follow(mut self) {
        let mut changes = Changes::of(&self.path);
        loop {
            changes.watch_with(below(&self.path));
            let loading = tokio::task::spawn_blocking(move || {
                if let Err(error) = self.load() {
                    tracing::error!(%error, "policies not loaded; the last good ones stay in force");
                }
                self
            });
            match loading.await {
                Ok(dir) => self = dir,
                Err(error) => return tracing::error!(%error, "the policies are followed no longer"),
            }
            changes.wait().await;
        }
    }
}

/// Reads and compiles the policies of a directory and puts them nowhere; yields how many there are.
pub fn validate(dir: &Path, keys: &Keys) -> Result<usize, Error> {
    let options = Options { keys: keys.clone(), ..Options::default() };
    compile(dir, &options).map(|policies| policies.len())
}

/// Reads and compiles the policies of a directory and puts them nowhere.
pub fn compile(dir: &Path, options: &Options) -> Result<Policies, Error> {
    let config = Config::parse(&read(dir)?)?;
    let compiled = Policies::compile(&config.policies, &Resources::new(options)?);
    Ok(compiled.map_err(|error| config.locate(&error))?)
}

/// Each file's path, device and inode, length, and the time of its last change in seconds and nanoseconds.
type Stamp = Vec<(PathBuf, [u64; 3], [i64; 2])>;

/// So long after a change, a further one is sure to have another time.
const SETTLED: Duration = Duration::from_secs(2);

/// What tells without reading the files, of which some are large, that none has changed; `None` while that cannot be told.
fn stamp(dir: &Path, now: SystemTime) -> Option<Stamp> {
    let settled = now.checked_sub(SETTLED)?.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let mut stamp = Stamp::new();
    for (_, path) in entries(dir).ok()? {
        let below = if path.is_dir() { entries(&path).ok()? } else { Vec::new() };
        for path in once(path).chain(below.into_iter().map(|(_, path)| path)) {
            let file = path.metadata().ok()?;
            if u64::try_from(file.ctime()).is_ok_and(|changed| changed >= settled) {
                return None;
            }
            stamp.push((path, [file.dev(), file.ino(), file.len()], [file.ctime(), file.ctime_nsec()]));
        }
    }
    stamp.sort_unstable();
    Some(stamp)
}

/// Every file of the directory, and of directories in it, such as mounted Secrets; except hidden ones. Symbolic links are
/// followed: a ConfigMap is all links.
fn read(dir: &Path) -> Result<Files, Error> {
    let mut files = Files::new();
    for (name, path) in entries(dir)? {
        if path.is_file() {
            files.insert(name, std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?);
        } else if path.is_dir() {
            // What cannot be read there is missed by the policy that wants it.
            for (file, path) in entries(&path).unwrap_or_default() {
                if let Ok(text) = std::fs::read(&path) {
                    files.insert(format!("{name}/{file}"), String::from_utf8_lossy(&text).into_owned());
                }
            }
        }
    }
    Ok(files)
}

/// Names and paths in a directory; hidden are those that begin with `.`, but not the `.htpasswd` of a Secret.
fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let fail = |source| Error::Read { path: dir.to_owned(), source };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') || name == ".htpasswd" {
            entries.push((name, path));
        }
    }
    Ok(entries)
}

fn below(dir: &Path) -> impl Iterator<Item = PathBuf> {
    entries(dir).unwrap_or_default().into_iter().map(|(_, path)| path).filter(|path| path.is_dir())
}

fn fingerprint(files: &Files) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for text in files.iter().flat_map(|(name, text)| [name, text]) {
        context.update(&text.len().to_be_bytes());
        context.update(text.as_bytes());
    }
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn a_change_is_seen_without_reading_or_not_ruled_out() {
        let dir = tempfile::tempdir().unwrap();
        let (file, below) = (dir.path().join("keys.yaml"), dir.path().join("clients"));
        fs::write(&file, "keys: [1]").unwrap();
        fs::create_dir(&below).unwrap();
        fs::write(below.join("acme"), "one").unwrap();
        assert_eq!(stamp(dir.path(), SystemTime::now()), None, "it may change again within the same tick of the clock");
        let later = SystemTime::now() + Duration::from_mins(1);
        let mut known = stamp(dir.path(), later);
        assert!(known.is_some());
        assert_eq!(known, stamp(dir.path(), later));
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(&file, "keys: [2]").unwrap(),
            &|| fs::write(below.join("acme"), "two").unwrap(),
            &|| fs::write(below.join("beta"), "").unwrap(),
            &|| fs::remove_file(&file).unwrap(),
        ];
        for change in changes {
            // The clock of files is coarse.
            std::thread::sleep(Duration::from_millis(20));
            change();
            let after = stamp(dir.path(), later);
            assert_ne!(after, known);
            known = after;
        }
    }
}

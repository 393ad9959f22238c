//! YAML files in a directory, followed while they change.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use proto::directory::Changes;

use crate::{
    config::{self, Config, Domains},
    metrics::ConfigLoad,
    service::CurrentConfig,
};

/// Why the files of a directory are not in force.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The files were read but do not make a configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
}

/// Text by file path, of all `*.yaml` and `*.yml` in a directory.
type Files = BTreeMap<String, String>;

/// A directory with one YAML file for each domain, such as a mounted ConfigMap. It is read as a whole: one bad file keeps
/// the last good configuration in force.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
    domains: Domains,
    current: CurrentConfig,
    /// What was read last, good or not, or why it could not be read; so that nothing is loaded or reported twice.
    seen: Option<Result<Files, String>>,
    metrics: ConfigLoad,
}

impl Dir {
    /// Nothing is read before [`Dir::load`] or [`Dir::follow`].
    pub fn new(path: impl Into<PathBuf>, domains: Domains, current: CurrentConfig) -> Self {
        Self { path: path.into(), domains, current, seen: None, metrics: ConfigLoad::new() }
    }

    /// Reads the files and, if they differ from those read last, puts them in force. Blocks on the file system.
    pub fn load(&mut self) -> Result<(), Error> {
        let files = read(&self.path);
        let seen = files.as_ref().map_err(ToString::to_string).cloned();
        if self.seen.as_ref() == Some(&seen) {
            return Ok(());
        }
        self.seen = Some(seen);
        let loaded = files.and_then(|files| Ok((files.len(), parse(&files, self.domains)?)));
        match loaded {
            Ok((files, config)) => {
                self.current.store(Some(Arc::new(config)));
                self.metrics.success.increment(1);
                tracing::info!(dir = %self.path.display(), files, "configuration loaded");
                Ok(())
            }
            Err(error) => {
                self.metrics.error.increment(1);
                Err(error)
            }
        }
    }

    /// Loads now and whenever the files change, for as long as it is polled. Errors are logged.
    pub async fn follow(mut self) {
        let mut changes = Changes::of(&self.path);
        loop {
            changes.watch();
            let load = tokio::task::spawn_blocking(move || {
                if let Err(error) = self.load() {
                    tracing::error!(%error, "configuration not loaded; the last good one stays in force");
                }
                self
            });
            match load.await {
                Ok(dir) => self = dir,
                Err(error) => return tracing::error!(%error, "stopped following the configuration"),
            }
            changes.wait().await;
        }
    }
}

/// Reads a directory once. The errors are the first of each bad file, or one about the files together.
pub fn check(dir: &Path, domains: Domains) -> Result<Config, Vec<Error>> {
    let files = read(dir).map_err(|error| vec![error])?;
    let alone = files.iter().map(|(name, text)| Config::from_yaml([(name.as_str(), text.as_str())], domains));
    let errors: Vec<_> = alone.filter_map(Result::err).map(Error::Config).collect();
    if errors.is_empty() { parse(&files, domains).map_err(|error| vec![error]) } else { Err(errors) }
}

fn parse(files: &Files, domains: Domains) -> Result<Config, Error> {
    Ok(Config::from_yaml(files.iter().map(|(name, text)| (name.as_str(), text.as_str())), domains)?)
}

fn read(dir: &Path) -> Result<Files, Error> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let mut files = Files::new();
    for entry in fs::read_dir(dir).map_err(fail(dir))? {
        let path = entry.map_err(fail(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && !name.starts_with('.') && path.is_file() {
            let text = fs::read_to_string(&path).map_err(fail(&path))?;
            files.insert(path.display().to_string(), text);
        }
    }
    Ok(files)
}

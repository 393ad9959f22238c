//! YAML files in a directory, followed while they change.

use std::{io, path::PathBuf};

use proto::{directory::Changes, readiness::Block};

pub(crate) use self::place::Files;
pub use self::place::Place;

use crate::{
    config::{self, Config, Domains},
    metrics::ConfigLoad,
    overrides::Overlay,
};

mod place;

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
    /// There is no file. Nothing is a likelier mistake than a wish to be without limits; who means that says it in a file.
    #[error("no configuration in {}: there is no file", .0.display())]
    Empty(PathBuf),
    /// The files change faster than they can be read.
    #[error("no configuration from {}: its files do not come to rest", .0.display())]
    Unsettled(PathBuf),
    /// The files were read but do not make a configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
}

/// Files with one domain each, such as a mounted ConfigMap. They are read as a whole: one bad file keeps the last good
/// configuration in force.
#[derive(Debug)]
pub struct Dir {
    place: Place,
    domains: Domains,
    current: Overlay,
    /// What was read last, good or not, or why it could not be read; so that nothing is loaded or reported twice.
    seen: Option<Result<Files, String>>,
    /// Held until a configuration has been found, good or bad.
    first: Option<Block>,
    metrics: ConfigLoad,
}

impl Dir {
    /// Nothing is read before [`Dir::load`] or [`Dir::follow`].
    pub fn new(place: impl Into<Place>, domains: Domains, current: impl Into<Overlay>) -> Self {
        let (place, current) = (place.into(), current.into());
        Self { place, domains, current, seen: None, first: None, metrics: ConfigLoad::new() }
    }

    /// Holds a block until a configuration has been found, good or bad.
    #[must_use]
    pub fn blocking(self, block: Block) -> Self {
        Self { first: Some(block), ..self }
    }

    /// Reads the files and, if they differ from those read last, puts them in force. Blocks on the file system.
    pub fn load(&mut self) -> Result<(), Error> {
        let files = self.place.read();
        let seen = files.as_ref().map_err(ToString::to_string).cloned();
        if self.seen.as_ref() == Some(&seen) {
            return Ok(());
        }
        self.seen = Some(seen);
        let loaded = files.and_then(|files| Ok((files.len(), parse(&files, self.domains)?)));
        if matches!(loaded, Ok(_) | Err(Error::Config(_))) {
            self.first = None;
        }
        match loaded {
            Ok((files, config)) => {
                self.current.publish(config);
                self.metrics.success.increment(1);
                tracing::info!(dir = %self.place.dir.display(), files, "configuration loaded");
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
        let mut changes = Changes::of(&self.place.dir);
        loop {
            changes.watch_with(self.place.directories());
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

/// Reads files once. The errors are all of each bad file, or one about the files together.
pub fn check(place: &Place, domains: Domains) -> Result<Config, Vec<Error>> {
    let files = place.read().map_err(|error| vec![error])?;
    let errors: Vec<_> =
        files.iter().flat_map(|(name, text)| Config::errors_of_yaml(name, text)).map(Error::Config).collect();
    if errors.is_empty() { parse(&files, domains).map_err(|error| vec![error]) } else { Err(errors) }
}

fn parse(files: &Files, domains: Domains) -> Result<Config, Error> {
    Ok(Config::from_yaml(files.iter().map(|(name, text)| (name.as_str(), text.as_str())), domains)?)
}

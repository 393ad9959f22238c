//! Overrides in a directory that is followed, such as a mounted ConfigMap.

use std::{future, time::Duration};

use jiff::Timestamp;
use metrics::{Counter, counter};
use proto::directory::Changes;
use tokio::time;

use super::{Overlay, Overrides};
use crate::source::dir::{Error, Files, Place};

/// A directory of YAML files, read as a whole: one bad file keeps the last good overrides in force.
#[derive(Debug)]
pub struct Dir {
    place: Place,
    overlay: Overlay,
    /// What was read last, good or not, so that nothing is loaded or reported twice.
    seen: Option<Result<Files, String>>,
    success: Counter,
    error: Counter,
}

impl Dir {
    /// Nothing is read before [`Dir::load`] or [`Dir::follow`].
    pub fn new(place: impl Into<Place>, overlay: Overlay) -> Self {
        Self {
            place: place.into(),
            overlay,
            seen: None,
            success: counter!("ratelimit_service_overrides_load_success"),
            error: counter!("ratelimit_service_overrides_load_error"),
        }
    }

    /// Reads the files and, if they differ from those read last, puts them in force. Blocks on the file system.
    pub fn load(&mut self) {
        let files = read(&self.place);
        let seen = files.as_ref().map_err(ToString::to_string).cloned();
        if self.seen.as_ref() == Some(&seen) {
            return;
        }
        self.seen = Some(seen);
        match files.and_then(|files| parse(&files)) {
            Ok(overrides) => {
                tracing::info!(dir = %self.place.dir.display(), overrides = overrides.0.len(), "overrides loaded");
                self.overlay.replace(overrides, Timestamp::now());
                self.success.increment(1);
            }
            Err(error) => {
                tracing::error!(%error, "overrides not loaded; the last good ones stay in force");
                self.error.increment(1);
            }
        }
    }

    /// Loads whenever the files change, and ends overrides when they expire, for as long as it is polled.
    pub async fn follow(mut self) {
        let mut changes = Changes::of(&self.place.dir);
        loop {
            changes.watch_with(self.place.directories());
            let load = tokio::task::spawn_blocking(move || {
                self.load();
                self
            });
            match load.await {
                Ok(dir) => self = dir,
                Err(error) => return tracing::error!(%error, "stopped following the overrides"),
            }
            tokio::select! {
                () = changes.wait() => {}
                () = expire(&self.overlay) => {}
            }
        }
    }
}

/// Reads files once.
pub fn check(place: &Place) -> Result<Overrides, Error> {
    read(place).and_then(|files| parse(&files))
}

/// A directory may be empty.
fn read(place: &Place) -> Result<Files, Error> {
    match place.read() {
        Err(Error::Empty(_)) => Ok(Files::new()),
        files => files,
    }
}

fn parse(files: &Files) -> Result<Overrides, Error> {
    Ok(Overrides::from_yaml(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))?)
}

/// Ends overrides at their time, for as long as it is polled.
async fn expire(overlay: &Overlay) {
    while let Some(next) = overlay.refresh(Timestamp::now()) {
        let left = Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default();
        time::sleep(left).await;
    }
    future::pending::<()>().await;
}

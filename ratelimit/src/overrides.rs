//! Other limits than those of the rules: for a rule or for one value under it, often for a time. They come from files of
//! their own and lie over any configuration, whatever its source.

pub use self::{
    dir::{Dir, check},
    overlay::Overlay,
};
pub(crate) use self::{
    overridden::Overridden,
    target::{Step, Target},
};

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use serde_saphyr::Spanned;

use crate::config::{self, Change, Config, yaml};

mod audit;
mod dir;
mod document;
mod overlay;
mod overridden;
mod target;

/// All overrides of a directory, expired ones too. Built whole or not at all.
#[derive(Debug, Default)]
pub struct Overrides(Vec<Arc<Override>>);

/// Another limit than what a rule says.
#[derive(Debug)]
pub(crate) struct Override {
    /// `file:line`.
    pub(crate) place: String,
    pub(crate) target: Target,
    change: Change,
    /// Out of force from then on; `None` for never.
    pub(crate) expires: Option<Timestamp>,
    /// Empty for none.
    pub(crate) reason: String,
}

impl Overrides {
    /// Reads files, given as name and text, each a list of overrides.
    pub fn from_yaml<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> Result<Self, config::Error> {
        let mut overrides = Vec::new();
        let mut known = BTreeSet::new();
        for (file, text) in files {
            let documents: Option<Vec<Spanned<document::Override>>> = yaml::value(file, text)?;
            for Spanned { value: document, referenced: at, .. } in documents.unwrap_or_default() {
                let problem = |message| yaml::error(file, text, at, message);
                let over = document.check(format!("{file}:{}", at.line())).map_err(|error| problem(error.into()))?;
                if !known.insert((over.target.clone(), over.expires)) {
                    let target = &over.target;
                    return Err(problem(format!("{target} is overridden twice until the same time; remove one")));
                }
                overrides.push(Arc::new(over));
            }
        }
        Ok(Self(overrides))
    }

    /// A configuration with those over it that have not expired by `now`.
    #[must_use]
    pub fn over(&self, written: Config, now: Timestamp) -> Config {
        let applied = overlay::apply(&written, self, now);
        if applied.in_force.is_empty() { written } else { applied.config }
    }

    fn unexpired(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Override>> {
        self.0.iter().filter(move |over| over.expires.is_none_or(|expires| expires > now))
    }
}

//! What changes limits while they are in use, and shows what they do.

use std::path::{Path, PathBuf};

use clap::Args;

use super::go;
use crate::{source::dir::Place, talkers::Talkers};

/// More talkers cost more to find than they tell.
const MOST_TALKERS: usize = 100;

/// What changes limits while they are in use, and shows what they do.
#[derive(Args, Clone, Debug)]
pub struct Tuning {
    /// Directory of YAML files with other limits for rules or single values, followed while it changes; none if empty
    #[arg(long, env, default_value = "")]
    pub overrides_dir: String,
    /// Directory of a second configuration that is tried on live traffic, see /shadow on the debug port; none if empty
    #[arg(long, env, default_value = "")]
    pub shadow_config_dir: String,
    /// One in so many requests is tried
    #[arg(long, env, default_value = "1", value_parser = go::count)]
    pub shadow_config_every: usize,
    /// Descriptors with most hits that are known of each rule, see /top on the debug port; 0 for none
    #[arg(long, env, default_value = "0", value_parser = go::count)]
    pub top_talkers: usize,
}

impl Tuning {
    /// The files of the second configuration, if there is one.
    pub fn shadow_config(&self) -> Option<Place> {
        (!self.shadow_config_dir.is_empty()).then(|| Place::from(PathBuf::from(&self.shadow_config_dir)))
    }

    /// Who uses each rule most, if anybody asks.
    pub fn talkers(&self) -> Option<Talkers> {
        (self.top_talkers > 0).then(|| Talkers::new(self.top_talkers.min(MOST_TALKERS)))
    }

    /// The directory of overrides, if there are any.
    pub fn overrides_dir(&self) -> Option<&Path> {
        (!self.overrides_dir.is_empty()).then(|| Path::new(&self.overrides_dir))
    }
}

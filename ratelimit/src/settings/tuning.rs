//! What changes limits while they are in use, and shows what they do.

use std::path::Path;

use clap::Args;

/// What changes limits while they are in use, and shows what they do.
#[derive(Args, Clone, Debug)]
pub struct Tuning {
    /// Directory of YAML files with other limits for rules or single values, followed while it changes; none if empty
    #[arg(long, env, default_value = "")]
    pub overrides_dir: String,
}

impl Tuning {
    /// The directory of overrides, if there are any.
    pub fn overrides_dir(&self) -> Option<&Path> {
        (!self.overrides_dir.is_empty()).then(|| Path::new(&self.overrides_dir))
    }
}

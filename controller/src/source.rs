//! Where manifests come from: a directory of files.

pub mod files;
mod manifest;
mod watch;

pub use files::{Files, Manifests};
pub use manifest::Problem;
pub use watch::watch;

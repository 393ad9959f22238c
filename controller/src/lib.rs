//! The shell around `controller-core`: where manifests come from and where the translation goes.

pub mod ads;
pub mod source;
pub mod translate;

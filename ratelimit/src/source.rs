//! Where configurations come from.

pub mod dir;
pub mod xds;

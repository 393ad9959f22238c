//! Where configurations come from.

pub mod dir;

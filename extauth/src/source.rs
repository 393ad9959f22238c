//! Where policies come from.

pub mod dir;
pub mod xds;

//! Where policies come from.

pub mod dir;

//! The xDS server: delta ADS over each proxy's latest resources.

pub mod session;

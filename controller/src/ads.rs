//! The xDS server: delta ADS over each proxy's latest resources.

pub mod cache;
pub mod server;
pub mod session;

pub use cache::Cache;
pub use server::Server;
pub use session::Session;

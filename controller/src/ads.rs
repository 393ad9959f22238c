//! The xDS server: ADS over each proxy's latest resources.

pub mod cache;
pub mod holds;
mod identity;
pub mod limits;
pub mod policies;
mod refused;
pub mod server;
pub mod services;
pub mod session;
mod state_of_the_world;
mod variant;

pub use cache::Cache;
pub use holds::Holds;
pub use identity::{Accounts, Identity, Tokens};
pub use refused::Refused;
pub use server::Server;
pub use session::Session;

//! Kubernetes: the API server's objects in, statuses out.

mod board;
mod events;
mod guard;
pub mod lease;
mod merge;
mod object;
mod pace;
mod part;
mod queue;
mod reason;
mod resources;
mod statuses;
mod store;
mod token;
mod watch;
mod writer;

pub use board::Board;
pub use lease::Lease;
pub(crate) use object::REPORTED;
pub(crate) use reason::reason;
pub(crate) use statuses::statuses;
pub use store::{Options, snapshots};
pub use token::Reviewer;
pub use writer::Writer;
pub(crate) use writer::is_valid as is_leading;

//! Gateway API resources in; xDS, infrastructure, rate limits, auth policies and statuses out.
//!
//! Nothing here reads a clock, a file or a socket: [`translate`] is a function of a [`Snapshot`] and [`Settings`].

mod cel;
pub mod infra;
pub mod ir;
mod settings;
pub mod snapshot;
pub mod translate;
pub mod xds;

pub use settings::{Credentials, RateLimitService, ServiceAddress, Settings};
pub use snapshot::Snapshot;
pub use translate::{Memo, Translation, translate};

//! Envoy's messages for one [`crate::ir::Proxy`].
//!
//! Nothing here fails: whatever cannot be expressed has been refused while the IR was built.

mod resources;

pub use resources::{Named, Resource, Resources, Type};

use crate::{Settings, ir};

/// Everything that Envoy needs to do what `proxy` says.
pub fn build(_proxy: &ir::Proxy, _settings: &Settings) -> Resources {
    Resources::default()
}

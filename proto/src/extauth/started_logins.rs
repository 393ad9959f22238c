//! How many logins may be under way.

use serde::{Deserialize, Serialize};

/// Bounds of logins that were started within `csrfTokenTTLSeconds`, each of which takes room in the store. Beyond, browsers are
/// not sent to the provider but told with 429 when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StartedLogins {
    /// Of one client address, or of one IPv6 network of 64 bits; 0 sets no bound.
    pub per_address: u32,
    /// On this replica, whoever started them and under whichever policy; 0 sets no bound.
    pub total: u32,
    /// Proxies before Envoy that append to `X-Forwarded-For` and are to be believed, as for failed attempts.
    pub trusted_hops: u8,
}

impl Default for StartedLogins {
    fn default() -> Self {
        Self { per_address: 1000, total: 100_000, trusted_hops: 0 }
    }
}

impl StartedLogins {
    /// Whether nothing was said about it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

//! How often one may guess.

use serde::{Deserialize, Serialize};

/// Bounds of failed attempts within a minute. Beyond, attempts are answered with 429 without a look at their credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FailedAttempts {
    /// Different wrong credentials of one client address, or of one IPv6 network of 64 bits; 0 sets no bound.
    pub per_address: u32,
    /// Attempts at one key or user from anywhere; then an address may try it once. 0 sets no bound.
    pub per_credential: u32,
    /// Proxies before Envoy that append to `X-Forwarded-For` and are to be believed; the client's address is what the first
    /// of them says. None by default: the address is then the one that Envoy names.
    pub trusted_hops: u8,
}

impl Default for FailedAttempts {
    fn default() -> Self {
        Self { per_address: 100, per_credential: 20, trusted_hops: 0 }
    }
}

impl FailedAttempts {
    /// Whether nothing was said about it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

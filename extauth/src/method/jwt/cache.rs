//! Tokens that were verified before.
//!
//! An entry is found by a digest of every byte of the token, of the provider's whole configuration, and of the keys in force: a
//! rotated key or a changed policy finds nothing, and a policy that did not change keeps its entries over a reload.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use moka::Expiry;

use super::Verified;
use crate::jwks::Fingerprint;

/// Verified tokens of all providers, capped in bytes. Clones share it.
#[derive(Clone)]
pub struct Cache(moka::sync::Cache<Entry, Arc<Verified>, ahash::RandomState>);

/// Fingerprint of a provider's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Provider([u8; 32]);

/// A token, as one provider with certain keys sees it. The token itself is a credential and need not stay.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Entry([u8; 32]);

impl Cache {
    /// A cache that holds at most about `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, verified: &Arc<Verified>| verified.weight())
            .expire_after(UntilExpired)
            .build_with_hasher(ahash::RandomState::default());
        Self(cache)
    }

    pub(super) fn find(&self, entry: Entry) -> Option<Arc<Verified>> {
        self.0.get(&entry)
    }

    pub(super) fn insert(&self, entry: Entry, verified: Arc<Verified>) {
        self.0.insert(entry, verified);
    }
}

/// Without the tokens: they are credentials.
impl fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cache").field("entries", &self.0.entry_count()).finish_non_exhaustive()
    }
}

impl Provider {
    /// Every field of the configuration counts.
    pub(super) fn of(config: &proto::extauth::Jwt) -> Self {
        let mut context = Context::new(&SHA256);
        // The debug form quotes texts and names every field: two configurations with one form are one configuration.
        context.update(format!("{config:?}").as_bytes());
        Self(array(context))
    }
}

impl Entry {
    pub(super) fn of(provider: &Provider, keys: Fingerprint, token: &str) -> Self {
        let mut context = Context::new(&SHA256);
        // Two of a fixed length, so that no two entries read alike.
        context.update(&provider.0);
        context.update(keys.as_bytes());
        context.update(token.as_bytes());
        Self(array(context))
    }
}

fn array(context: Context) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(context.finish().as_ref());
    array
}

struct UntilExpired;

impl Expiry<Entry, Arc<Verified>> for UntilExpired {
    fn expire_after_create(&self, _: &Entry, verified: &Arc<Verified>, _: Instant) -> Option<Duration> {
        let expired = UNIX_EPOCH.checked_add(Duration::from_secs(verified.lifetime.until()))?;
        Some(expired.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

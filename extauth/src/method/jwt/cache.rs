//! Tokens that were verified before.
//!
//! An entry is found by every byte of the token, by the provider's whole configuration, and by the keys in force: a rotated
//! key or a changed policy finds nothing, and a policy that did not change keeps its entries over a reload.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use moka::{Equivalent, Expiry};

use super::Verified;
use crate::jwks::Fingerprint;

/// Verified tokens of all providers, capped in bytes. Clones share it.
#[derive(Clone)]
pub struct Cache(moka::sync::Cache<Entry, Arc<Verified>, ahash::RandomState>);

/// Fingerprint of a provider's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Provider([u8; 32]);

#[derive(PartialEq, Eq)]
struct Entry {
    provider: Provider,
    keys: Fingerprint,
    token: Box<str>,
}

struct Lookup<'a> {
    provider: &'a Provider,
    keys: Fingerprint,
    token: &'a str,
}

impl Cache {
    /// A cache that holds at most about `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .weigher(|entry: &Entry, verified: &Arc<Verified>| entry.weight(verified))
            .expire_after(UntilExpired)
            .build_with_hasher(ahash::RandomState::default());
        Self(cache)
    }

    pub(super) fn find(&self, provider: &Provider, keys: Fingerprint, token: &str) -> Option<Arc<Verified>> {
        self.0.get(&Lookup { provider, keys, token })
    }

    pub(super) fn insert(&self, provider: &Provider, keys: Fingerprint, token: &str, verified: Arc<Verified>) {
        self.0.insert(Entry { provider: *provider, keys, token: token.into() }, verified);
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
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        Self(fingerprint)
    }
}

impl Entry {
    /// Bytes that an entry takes: the token, its claims encoded and as maps (about thrice that size), and the frame.
    fn weight(&self, verified: &Verified) -> u32 {
        const FRAME: usize = 256;
        let grant = &verified.grant;
        let headers: usize = grant.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let metadata = grant.shared.as_ref().map_or(0, |shared| shared.encoded_len());
        let bytes = FRAME + self.token.len() + verified.identity.len() + 4 * metadata + headers;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Lookup { provider: &self.provider, keys: self.keys, token: &self.token }.hash(state);
    }
}

impl Hash for Lookup<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.provider.hash(state);
        self.keys.hash(state);
        self.token.hash(state);
    }
}

impl Equivalent<Entry> for Lookup<'_> {
    fn equivalent(&self, entry: &Entry) -> bool {
        *self.provider == entry.provider && self.keys == entry.keys && *self.token == *entry.token
    }
}

struct UntilExpired;

impl Expiry<Entry, Arc<Verified>> for UntilExpired {
    fn expire_after_create(&self, _: &Entry, verified: &Arc<Verified>, _: Instant) -> Option<Duration> {
        let expired = UNIX_EPOCH.checked_add(Duration::from_secs(verified.lifetime.until()))?;
        Some(expired.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

//! The keys of a set in the store, as this replica knows them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::StreamExt as _;
use parking_lot::Mutex;
use proto::extauth::Key;
use tokio::time::timeout;

use super::hash::Pepper;
use super::record::Record;
use super::table::{Builder, Refused, Table};
use crate::background::Background;
use crate::keyring::{Counters, Keyring, SHARDS};
use crate::metrics;
use crate::store::{Error, Store};

/// How often the store is asked for changes, besides when one is announced.
const LOOK: Duration = Duration::from_secs(1);
/// Pause after a store's error.
const PAUSE: Duration = Duration::from_millis(200);
/// How often everything is read anew, in case somebody changed a shard and could not say so.
const ANEW: Duration = Duration::from_mins(5);
/// Shards that are read at once.
const READERS: usize = 16;

/// Sets of keys in use; clones share them.
#[derive(Clone, Debug)]
pub struct Rings {
    store: Store,
    background: Background,
    pepper: Option<Pepper>,
    max_stale: Duration,
    open: Arc<Mutex<HashMap<String, Weak<Ring>>>>,
}

/// One set. It is followed for as long as a policy uses it.
pub(super) struct Ring {
    shards: Vec<ArcSwap<Table>>,
    start: Instant,
    max_stale: Duration,
    /// Milliseconds since the start at which all was known to be as in the store, plus one; 0 when it never was.
    fresh: AtomicU64,
}

impl Rings {
    /// Nothing is read yet. A replica that cannot reach the store goes on with what it knows for `max_stale`.
    pub fn new(store: Store, background: Background, pepper: Option<Pepper>, max_stale: Duration) -> Self {
        Self { store, background, pepper, max_stale, open: Arc::default() }
    }

    /// The secret of keyed hashes.
    pub fn pepper(&self) -> Option<&Pepper> {
        self.pepper.as_ref()
    }

    /// The set of this name, which is read in the background.
    pub(super) fn open(&self, name: &str) -> Arc<Ring> {
        let mut open = self.open.lock();
        open.retain(|_, ring| ring.strong_count() > 0);
        if let Some(ring) = open.get(name).and_then(Weak::upgrade) {
            return ring;
        }
        let ring = Arc::new(Ring {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            start: Instant::now(),
            max_stale: self.max_stale,
            fresh: AtomicU64::new(0),
        });
        let keyring = Keyring::new(self.store.clone(), name);
        self.background.spawn(follow(Arc::downgrade(&ring), keyring, self.pepper.clone()));
        open.insert(name.to_owned(), Arc::downgrade(&ring));
        ring
    }
}

impl Ring {
    /// The part in which a digest is, if it is anywhere; `None` when it is not known what is in the store.
    pub(super) fn shard(&self, digest: &[u8; 32]) -> Option<arc_swap::Guard<Arc<Table>>> {
        let fresh = self.fresh.load(Ordering::Acquire).checked_sub(1)?;
        if self.start.elapsed() > Duration::from_millis(fresh) + self.max_stale {
            return None;
        }
        let [first, ..] = digest;
        self.shards.get(usize::from(*first)).map(ArcSwap::load)
    }

    fn refreshed(&self, at: Instant) {
        let elapsed = at.duration_since(self.start).as_millis();
        self.fresh.store(u64::try_from(elapsed).unwrap_or(u64::MAX - 1) + 1, Ordering::Release);
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// Keeps a set as it is in the store, until nobody uses it.
async fn follow(ring: Weak<Ring>, keyring: Keyring, pepper: Option<Pepper>) {
    let mut listener = keyring.store().listen(&keyring.topic());
    let mut known = None;
    let mut read = Instant::now();
    let gauge = metrics::keys(keyring.name());
    loop {
        let Some(ring) = ring.upgrade() else { return gauge.set(0) };
        if read.elapsed() > ANEW {
            known = None;
        }
        let now = Instant::now();
        let pause = match refresh(&ring, &keyring, pepper.as_ref(), known.as_ref()).await {
            Ok(counters) => {
                if known.is_none() {
                    read = now;
                }
                let keys: usize = ring.shards.iter().map(|shard| shard.load().len()).sum();
                gauge.set(u32::try_from(keys).unwrap_or(u32::MAX));
                known = Some(counters);
                ring.refreshed(now);
                LOOK
            }
            Err(error) => {
                tracing::warn!(set = keyring.name(), %error, "keys in the store cannot be read");
                PAUSE
            }
        };
        drop(ring);
        // Whatever is heard, the counters say more.
        let _ = timeout(pause, listener.next()).await;
    }
}

/// Reads the shards whose counters are not the known ones. The counters are read first: what changes meanwhile is seen
/// again next time.
async fn refresh(
    ring: &Ring,
    keyring: &Keyring,
    pepper: Option<&Pepper>,
    known: Option<&Counters>,
) -> Result<Counters, Error> {
    let counters = keyring.counters().await?;
    let is_changed = |shard: &usize| known.is_none_or(|known| known.of(*shard) != counters.of(*shard));
    let changed: Vec<_> = (0..SHARDS).filter(is_changed).collect();
    let reading = futures::stream::iter(changed).map(|shard| async move { (shard, keyring.shard(shard).await) });
    let mut reading = std::pin::pin!(reading.buffer_unordered(READERS));
    while let Some((shard, keys)) = reading.next().await {
        if let Some(place) = ring.shards.get(shard) {
            place.store(Arc::new(table(keyring.name(), &keys?, pepper)));
        }
    }
    Ok(counters)
}

/// Without keys that make no sense, and without those that two records have: nobody could say whose they are.
fn table(set: &str, keys: &[Key], pepper: Option<&Pepper>) -> Table {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for key in keys {
        *times.entry(&key.hash).or_default() += 1;
    }
    let (once, twice): (Vec<_>, Vec<_>) = keys.iter().partition(|key| times.get(key.hash.as_str()) == Some(&1));
    for key in twice {
        tracing::error!(set, id = key.id, client = key.client, "the key is not used: there are two of it");
    }
    let mut table = Builder::new(once.len());
    for key in once {
        let problem = match Record::compile(key, pepper) {
            Ok(record) => table.insert(record).err().map(|refused| match refused {
                Refused::Taken(owner) => format!("`{owner}` has it in another spelling"),
                Refused::Full => "it is one too many".to_owned(),
            }),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            tracing::warn!(set, id = key.id, problem, "the key is not used");
        }
    }
    table.finish()
}

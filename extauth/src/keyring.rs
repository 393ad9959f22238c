//! API keys in the store: a set of them, as replicas read it and as `extauth keys` writes it.
//!
//! A set is cut into 256 shards by the first byte of the keys' hashes. One small value holds a counter for each shard:
//! whoever changes a shard counts it up and announces that, and readers, who look at the counters every second anyway, read
//! the shards whose counters are not those they know.

use proto::extauth::Key;

use crate::method::api_key::Hash;
use crate::store::{Error as StoreError, FOREVER, Store};

/// Shards of a set.
pub(crate) const SHARDS: usize = 256;
const COUNTER: usize = 4;
/// Attempts to count while others count, too.
const ATTEMPTS: usize = 50;

/// A set of keys by its name.
#[derive(Clone, Debug)]
pub struct Keyring {
    store: Store,
    name: String,
}

/// Why a set of keys could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system has no random numbers.
    #[error("there are no random numbers to be had")]
    Random,
    /// Others change it all the time.
    #[error("the keys were changed by others each time; try again")]
    Busy,
    /// The hash is none.
    #[error("the key's hash is malformed")]
    Hash,
    /// No key of the set has this id.
    #[error("the set `{set}` has no key `{id}`")]
    Unknown {
        /// Name of the set.
        set: String,
        /// What was looked for.
        id: String,
    },
    /// Another key has this hash.
    #[error("this is also the key `{0}`")]
    Duplicate(String),
}

/// How often each shard was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counters(Vec<u8>);

impl Counters {
    /// Of the shard; those that are missing are zero.
    pub(crate) fn of(&self, shard: usize) -> Option<&[u8]> {
        self.0.get(shard * COUNTER..(shard + 1) * COUNTER)
    }
}

impl Keyring {
    /// Nothing is read yet.
    pub fn new(store: Store, name: &str) -> Self {
        Self { store, name: name.to_owned() }
    }

    /// Adds a key, on all replicas.
    pub async fn add(&self, key: &Key, ttl: std::time::Duration) -> Result<(), Error> {
        let shard = Hash::parse(&key.hash).ok_or(Error::Hash)?.shard();
        if let Some(other) = self.shard(shard).await?.into_iter().find(|other| other.hash == key.hash) {
            return Err(Error::Duplicate(other.id));
        }
        let record = serde_json::to_vec(key).map_err(|_| Error::Hash)?;
        self.store.add(&self.set(shard), &record, ttl).await?;
        self.count(shard).await
    }

    /// Takes the key with this id away, on all replicas.
    pub async fn revoke(&self, id: &str) -> Result<Key, Error> {
        for shard in 0..SHARDS {
            for record in self.store.members(&self.set(shard)).await? {
                let Ok(key) = serde_json::from_slice::<Key>(&record) else { continue };
                if key.id == id {
                    self.store.discard(&self.set(shard), &record).await?;
                    self.count(shard).await?;
                    return Ok(key);
                }
            }
        }
        Err(Error::Unknown { set: self.name.clone(), id: id.to_owned() })
    }

    /// All keys.
    pub async fn list(&self) -> Result<Vec<Key>, Error> {
        let mut keys = Vec::new();
        for shard in 0..SHARDS {
            keys.extend(self.shard(shard).await?);
        }
        keys.sort_by(|one, other| (&one.client, &one.id).cmp(&(&other.client, &other.id)));
        Ok(keys)
    }

    /// The keys of a shard. Records that make no sense are passed over: nobody gets in by them.
    pub(crate) async fn shard(&self, shard: usize) -> Result<Vec<Key>, StoreError> {
        let records = self.store.members(&self.set(shard)).await?;
        let read = |record: &bytes::Bytes| {
            let key = serde_json::from_slice(record);
            if let Err(error) = &key {
                tracing::warn!(set = self.name, %error, "a key in the store cannot be read");
            }
            key.ok()
        };
        Ok(records.iter().filter_map(read).collect())
    }

    pub(crate) async fn counters(&self) -> Result<Counters, StoreError> {
        Ok(Counters(self.store.get(&self.counter()).await?.unwrap_or_default().to_vec()))
    }

    /// Where changes are announced.
    pub(crate) fn topic(&self) -> String {
        format!("keys:{}:changed", self.name)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn set(&self, shard: usize) -> String {
        format!("keys:{}:{shard:02x}", self.name)
    }

    fn counter(&self) -> String {
        format!("keys:{}:counters", self.name)
    }

    async fn count(&self, shard: usize) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let old = self.store.get(&self.counter()).await?;
            let mut new = old.as_deref().unwrap_or_default().to_vec();
            new.resize(SHARDS * COUNTER, 0);
            if old.is_none() {
                // Not from zero: who knows counters of a store that was emptied since must not find them again.
                aws_lc_rs::rand::fill(&mut new).map_err(|_| Error::Random)?;
            }
            if let Some(counter) = new.get_mut(shard * COUNTER..(shard + 1) * COUNTER) {
                let count = counter.iter().fold(0_u32, |count, byte| count << 8 | u32::from(*byte));
                counter.copy_from_slice(&count.wrapping_add(1).to_be_bytes());
            }
            let done = match &old {
                Some(old) => self.store.swap(&self.counter(), old, &new, FOREVER).await?,
                None => self.store.put_new(&self.counter(), &new, FOREVER).await?,
            };
            if done {
                // Without it, replicas see it at their next look.
                let _ = self.store.announce(&self.topic(), b"").await;
                return Ok(());
            }
        }
        Err(Error::Busy)
    }
}

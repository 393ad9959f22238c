//! Many keys in little memory, found by their hash.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use hashbrown::HashTable;
use subtle::ConstantTimeEq as _;

use super::hash::{Hash, Pepper, plain};
use super::record::{Profile, Record};

/// Keys that do not change any more.
#[derive(Default)]
pub(super) struct Table {
    entries: Box<[Entry]>,
    /// Places in `entries`, by the first bytes of the digest: the whole of it is compared by us, in constant time.
    index: HashTable<u32>,
    plain: bool,
    keyed: bool,
}

/// What is known about a key.
pub(super) struct Entry {
    digest: [u8; 32],
    /// Id and client, one behind the other.
    names: Box<str>,
    profile: Arc<Profile>,
    /// Seconds since 1970; the last moment there is when it never expires.
    expires: u64,
    id_length: u8,
    keyed: bool,
    disabled: bool,
}

/// A [`Table`] that grows.
pub(super) struct Builder {
    entries: Vec<Entry>,
    index: HashTable<u32>,
    profiles: HashMap<Profile, Arc<Profile>, ahash::RandomState>,
}

/// A key as a request carries it, hashed in the ways that are needed.
pub(super) struct Digests {
    plain: Option<[u8; 32]>,
    keyed: Option<[u8; 32]>,
}

impl Table {
    pub(super) fn find(&self, digests: &Digests) -> Option<&Entry> {
        let one = |digest: Option<[u8; 32]>, keyed| find(&self.index, &self.entries, &digest?, keyed);
        one(digests.keyed, true).or_else(|| one(digests.plain, false))
    }

    /// Hashes a key in the ways that can find something here.
    pub(super) fn digests(&self, key: &str, pepper: Option<&Pepper>) -> Digests {
        Digests {
            plain: self.plain.then(|| plain(key)),
            keyed: pepper.filter(|_| self.keyed).map(|pepper| pepper.digest(key)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Builder {
    /// With room for so many keys.
    pub(super) fn new(capacity: usize) -> Self {
        let entries = Vec::with_capacity(capacity);
        Self { entries, index: HashTable::with_capacity(capacity), profiles: HashMap::default() }
    }

    /// Adds a key. If its hash is there already, it says whose that is.
    pub(super) fn insert(&mut self, record: Record) -> Result<(), String> {
        let Hash { digest, keyed } = record.hash;
        if let Some(known) = find(&self.index, &self.entries, &digest, keyed) {
            return Err(known.client().to_owned());
        }
        let entries = &self.entries;
        let hash = |place: &u32| entries.get(*place as usize).map_or(0, |entry| slot(&entry.digest));
        // Nobody has four milliards of keys.
        let place = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.index.insert_unique(slot(&digest), place, hash);
        let profile = self.profiles.entry(record.profile).or_insert_with_key(|profile| Arc::new(profile.clone()));
        self.entries.push(Entry {
            digest,
            names: format!("{}{}", record.id, record.client).into_boxed_str(),
            profile: Arc::clone(profile),
            expires: record.expires.unwrap_or(u64::MAX),
            id_length: u8::try_from(record.id.len()).unwrap_or(0),
            keyed,
            disabled: record.disabled,
        });
        Ok(())
    }

    pub(super) fn finish(self) -> Table {
        let has = |keyed| self.entries.iter().any(|entry| entry.keyed == keyed);
        let (plain, keyed) = (has(false), has(true));
        Table { entries: self.entries.into_boxed_slice(), index: self.index, plain, keyed }
    }
}

impl Digests {
    /// In both ways, for keys that are not known yet.
    pub(super) fn both(key: &str, pepper: Option<&Pepper>) -> Self {
        Self { plain: Some(plain(key)), keyed: pepper.map(|pepper| pepper.digest(key)) }
    }

    /// Those there are.
    pub(super) fn each(&self) -> impl Iterator<Item = [u8; 32]> {
        self.keyed.into_iter().chain(self.plain)
    }
}

impl Entry {
    pub(super) fn id(&self) -> &str {
        self.names.get(..self.id_length.into()).unwrap_or_default()
    }

    pub(super) fn client(&self) -> &str {
        self.names.get(self.id_length.into()..).unwrap_or_default()
    }

    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Whether it is good at this moment, in seconds since 1970.
    pub(super) fn is_good(&self, now: u64) -> bool {
        !self.disabled && now < self.expires
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Table").field("keys", &self.len()).finish_non_exhaustive()
    }
}

fn find<'e>(index: &HashTable<u32>, entries: &'e [Entry], digest: &[u8; 32], keyed: bool) -> Option<&'e Entry> {
    let same = |entry: &Entry| entry.keyed == keyed && bool::from(entry.digest.ct_eq(digest));
    let place = index.find(slot(digest), |place| entries.get(*place as usize).is_some_and(same))?;
    entries.get(*place as usize)
}

/// Digests are random already. Their first byte chooses the shard of a key ring, so it is left out here.
fn slot(digest: &[u8; 32]) -> u64 {
    digest.iter().skip(1).take(8).fold(0, |slot, byte| slot << 8 | u64::from(*byte))
}

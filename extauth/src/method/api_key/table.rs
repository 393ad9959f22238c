//! Many keys in little memory, found by their hash.

use std::collections::HashMap;
use std::fmt;

use hashbrown::HashTable;
use subtle::ConstantTimeEq as _;

use super::hash::{Hash, MOST_PEPPERS, Pepper, plain};
use super::record::{Profile, Record};

/// Keys that do not change any more, in a few large pieces of memory.
#[derive(Default)]
pub(super) struct Table {
    entries: Box<[Entry]>,
    /// Ids, clients and tenants, one behind the other.
    names: Box<str>,
    profiles: Box<[Profile]>,
    /// Places in `entries`, by the first bytes of the digest: the whole of it is compared by us, in constant time.
    index: HashTable<u32>,
    plain: bool,
    keyed: bool,
}

/// What is known about a key.
pub(super) struct Key<'t> {
    pub(super) id: &'t str,
    pub(super) client: &'t str,
    pub(super) tenant: Option<&'t str>,
    pub(super) profile: &'t Profile,
    expires: u64,
}

/// A [`Key`] as it is kept.
struct Entry {
    digest: [u8; 32],
    /// Seconds since 1970; the last moment there is when it never expires, and the first when it is disabled.
    expires: u64,
    /// Where its names begin.
    names: u32,
    tenant_length: u32,
    profile: u32,
    id_length: u8,
    client_length: u8,
    has_tenant: bool,
    keyed: bool,
}

/// A [`Table`] that grows.
pub(super) struct Builder {
    entries: Vec<Entry>,
    names: String,
    index: HashTable<u32>,
    profiles: HashMap<Profile, u32, ahash::RandomState>,
}

/// Why a key is not added.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its hash is there already, for this client.
    Taken(String),
    /// More than four milliards of keys, or of bytes in their names.
    Full,
}

/// A key as a request carries it, hashed in the ways that are needed.
pub(super) struct Digests {
    plain: Option<[u8; 32]>,
    /// One for each pepper.
    keyed: [Option<[u8; 32]>; MOST_PEPPERS],
}

impl Table {
    pub(super) fn find(&self, digests: &Digests) -> Option<Key<'_>> {
        let one = |digest: Option<[u8; 32]>, keyed| find(&self.index, &self.entries, &digest?, keyed);
        let keyed = digests.keyed.iter().find_map(|digest| one(*digest, true));
        let entry = keyed.or_else(|| one(digests.plain, false))?;
        let names = self.names.get(entry.names as usize..)?;
        let (id, names) = names.split_at_checked(entry.id_length.into())?;
        let (client, names) = names.split_at_checked(entry.client_length.into())?;
        Some(Key {
            id,
            client,
            tenant: entry.has_tenant.then(|| names.get(..entry.tenant_length as usize)).flatten(),
            profile: self.profiles.get(entry.profile as usize)?,
            expires: entry.expires,
        })
    }

    /// Hashes a key in the ways that can find something here.
    pub(super) fn digests(&self, key: &str, pepper: Option<&Pepper>) -> Digests {
        Digests {
            plain: self.plain.then(|| plain(key)),
            keyed: pepper.filter(|_| self.keyed).map(|pepper| pepper.digests(key)).unwrap_or_default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Builder {
    /// With room for so many keys.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
            names: String::new(),
            index: HashTable::with_capacity(capacity),
            profiles: HashMap::default(),
        }
    }

    /// Adds a key.
    pub(super) fn insert(&mut self, record: Record) -> Result<(), Refused> {
        let Hash { digest, keyed } = record.hash;
        if let Some(known) = find(&self.index, &self.entries, &digest, keyed) {
            return Err(Refused::Taken(self.client(known).to_owned()));
        }
        let number = |number: usize| u32::try_from(number).map_err(|_| Refused::Full);
        let tenant = record.tenant.as_deref().unwrap_or_default();
        let profile = number(self.profiles.len())?;
        let entry = Entry {
            digest,
            expires: if record.disabled { 0 } else { record.expires.unwrap_or(u64::MAX) },
            names: number(self.names.len())?,
            tenant_length: number(tenant.len())?,
            profile: *self.profiles.entry(record.profile).or_insert(profile),
            // A record's names are short enough.
            id_length: u8::try_from(record.id.len()).map_err(|_| Refused::Full)?,
            client_length: u8::try_from(record.client.len()).map_err(|_| Refused::Full)?,
            has_tenant: record.tenant.is_some(),
            keyed,
        };
        let place = number(self.entries.len())?;
        let entries = &self.entries;
        let hash = |place: &u32| entries.get(*place as usize).map_or(0, |entry| slot(&entry.digest));
        self.index.insert_unique(slot(&digest), place, hash);
        self.names.extend([record.id.as_str(), &record.client, tenant]);
        self.entries.push(entry);
        Ok(())
    }

    pub(super) fn finish(self) -> Table {
        let has = |keyed| self.entries.iter().any(|entry| entry.keyed == keyed);
        let (plain, keyed) = (has(false), has(true));
        let mut profiles: Vec<_> = self.profiles.into_iter().collect();
        profiles.sort_unstable_by_key(|(_, place)| *place);
        Table {
            entries: self.entries.into_boxed_slice(),
            names: self.names.into_boxed_str(),
            profiles: profiles.into_iter().map(|(profile, _)| profile).collect(),
            index: self.index,
            plain,
            keyed,
        }
    }

    fn client(&self, entry: &Entry) -> &str {
        let start = entry.names as usize + usize::from(entry.id_length);
        self.names.get(start..start + usize::from(entry.client_length)).unwrap_or_default()
    }
}

impl Digests {
    /// In both ways, for keys that are not known yet.
    pub(super) fn both(key: &str, pepper: Option<&Pepper>) -> Self {
        Self { plain: Some(plain(key)), keyed: pepper.map(|pepper| pepper.digests(key)).unwrap_or_default() }
    }

    /// Those there are.
    pub(super) fn each(&self) -> impl Iterator<Item = [u8; 32]> {
        self.keyed.into_iter().flatten().chain(self.plain)
    }
}

impl Key<'_> {
    /// Whether it is good at this moment, in seconds since 1970.
    pub(super) fn is_good(&self, now: u64) -> bool {
        now < self.expires
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn record(number: usize, tenant: Option<&str>) -> Record {
        let key = proto::extauth::Key {
            hash: Hash::of(&format!("key-{number}"), None).unwrap().to_string(),
            id: if number.is_multiple_of(2) { format!("tg_{number:012}") } else { String::new() },
            client: format!("client-{number:06}"),
            tenant: tenant.map(str::to_owned),
            tier: Some(["gold", "silver"][number % 2].to_owned()),
            ..proto::extauth::Key::default()
        };
        Record::compile(&key, None).unwrap()
    }

    #[test]
    fn every_key_is_found_with_what_is_its_own() {
        let tenants = [None, Some(String::new()), Some("blue-inc".to_owned()), Some("t".repeat(300))];
        let mut builder = Builder::new(0);
        for number in 0..100 {
            builder.insert(record(number, tenants[number % 4].as_deref())).unwrap();
        }
        assert_eq!(builder.insert(record(7, None)), Err(Refused::Taken("client-000007".to_owned())));
        let table = builder.finish();
        assert_eq!((table.len(), table.profiles.len()), (100, 2));
        for number in 0..100 {
            let key = table.find(&table.digests(&format!("key-{number}"), None)).unwrap();
            let expected = record(number, tenants[number % 4].as_deref());
            assert_eq!((key.id, key.client), (expected.id.as_str(), expected.client.as_str()));
            assert_eq!((key.tenant, key.profile), (expected.tenant.as_deref(), &expected.profile));
        }
        assert!(table.find(&table.digests("key-100", None)).is_none());
    }

    /// Beside the names, which are as long as they are, and the index with at most two places a key.
    #[test]
    fn a_key_takes_56_bytes_and_its_names() {
        assert_eq!(size_of::<Entry>(), 56);
    }
}

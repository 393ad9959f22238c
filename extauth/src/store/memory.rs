//! A store in the process' own memory, for one replica.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::{BACKLOG, Error, Listener, News, bounded};

/// What an entry or a member takes besides its bytes; rounded up from what was measured.
const OVERHEAD: usize = 256;

/// How much a [`Memory`] may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of keys, values and their administration.
    pub bytes: usize,
    /// Keys and members of sets.
    pub entries: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 256 << 20, entries: 1_000_000 }
    }
}

/// Entries in this process. Full, it forgets what has expired, and then refuses: nobody's entry has to make room for
/// somebody else's.
#[derive(Clone)]
pub struct Memory {
    bounds: Bounds,
    state: Arc<Mutex<State>>,
    topics: Arc<Mutex<HashMap<String, broadcast::Sender<News>>>>,
}

/// A key, or a member of a set.
type Place = (Arc<str>, Option<Bytes>);

#[derive(Default)]
struct State {
    entries: HashMap<Arc<str>, Entry>,
    /// Who expires next. The number tells those apart that expire at one moment.
    expiries: BTreeMap<(Instant, u64), Place>,
    last: u64,
    bytes: usize,
}

enum Entry {
    Value { value: Bytes, expiry: (Instant, u64) },
    Set(BTreeMap<Bytes, (Instant, u64)>),
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Memory").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every store has the same operations, and others can fail")]
impl Memory {
    /// Empty.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Arc::default(), topics: Arc::default() }
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.now(|state| state.value(key).cloned()))
    }

    pub(super) fn put(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), Error> {
        self.now(|state| state.put(&self.bounds, key, value, ttl))
    }

    pub(super) fn put_new(&self, key: &str, value: &[u8], ttl: Duration) -> Result<bool, Error> {
        self.now(|state| {
            let absent = !state.entries.contains_key(key);
            if absent {
                state.put(&self.bounds, key, value, ttl)?;
            }
            Ok(absent)
        })
    }

    pub(super) fn swap(&self, key: &str, old: &[u8], new: &[u8], ttl: Duration) -> Result<bool, Error> {
        self.now(|state| {
            let same = state.value(key).is_some_and(|value| value == old);
            if same {
                state.put(&self.bounds, key, new, ttl)?;
            }
            Ok(same)
        })
    }

    pub(super) fn take(&self, key: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.now(|state| {
            let value = state.value(key).cloned();
            state.remove(key);
            value
        }))
    }

    pub(super) fn remove(&self, key: &str) -> Result<bool, Error> {
        Ok(self.now(|state| state.remove(key)))
    }

    pub(super) fn add(&self, set: &str, member: &[u8], ttl: Duration) -> Result<(), Error> {
        self.now(|state| state.add(&self.bounds, set, member, ttl))
    }

    pub(super) fn discard(&self, set: &str, member: &[u8]) -> Result<bool, Error> {
        Ok(self.now(|state| state.discard(set, member)))
    }

    pub(super) fn members(&self, set: &str) -> Result<Vec<Bytes>, Error> {
        Ok(self.now(|state| match state.entries.get(set) {
            Some(Entry::Set(members)) => members.keys().cloned().collect(),
            _ => Vec::new(),
        }))
    }

    pub(super) fn announce(&self, topic: &str, message: &[u8]) -> Result<(), Error> {
        let mut topics = self.topics.lock();
        if let Some(sender) = topics.get(topic) {
            // Nobody listens any more: the topic is forgotten.
            if sender.receiver_count() == 0 || sender.send(News::Message(Bytes::copy_from_slice(message))).is_err() {
                topics.remove(topic);
            }
        }
        Ok(())
    }

    pub(super) fn listen(&self, topic: &str) -> Listener {
        let mut topics = self.topics.lock();
        let sender = topics.entry(topic.to_owned()).or_insert_with(|| broadcast::channel(BACKLOG).0).clone();
        let news = sender.subscribe();
        // Others hear it as well, and read once more than they must.
        let _ = sender.send(News::Missed);
        Listener { news, _sender: sender, _task: None }
    }

    fn now<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        state.expire(Instant::now());
        act(&mut state)
    }
}

impl State {
    fn value(&self, key: &str) -> Option<&Bytes> {
        match self.entries.get(key)? {
            Entry::Value { value, .. } => Some(value),
            Entry::Set(_) => None,
        }
    }

    fn expire(&mut self, now: Instant) {
        while self.expiries.first_key_value().is_some_and(|((expiry, _), _)| *expiry <= now) {
            let Some((_, (key, member))) = self.expiries.pop_first() else { return };
            match member {
                None => self.remove(&key),
                Some(member) => self.discard(&key, &member),
            };
        }
    }

    fn put(&mut self, bounds: &Bounds, key: &str, value: &[u8], ttl: Duration) -> Result<(), Error> {
        let old = self.entries.get(key).map(|entry| (entry.size(key), entry.count()));
        self.reserve(bounds, size(key, value), old)?;
        self.remove(key);
        let key: Arc<str> = key.into();
        let expiry = self.schedule((Arc::clone(&key), None), ttl);
        self.bytes += size(&key, value);
        self.entries.insert(key, Entry::Value { value: Bytes::copy_from_slice(value), expiry });
        Ok(())
    }

    fn add(&mut self, bounds: &Bounds, set: &str, member: &[u8], ttl: Duration) -> Result<(), Error> {
        if !self.discard(set, member) {
            self.reserve(bounds, size(set, member), None)?;
        }
        if self.value(set).is_some() {
            self.remove(set);
        }
        let member = Bytes::copy_from_slice(member);
        let key: Arc<str> = self.entries.get_key_value(set).map_or_else(|| set.into(), |(key, _)| Arc::clone(key));
        let expiry = self.schedule((Arc::clone(&key), Some(member.clone())), ttl);
        self.bytes += size(set, &member);
        let entry = self.entries.entry(key).or_insert_with(|| Entry::Set(BTreeMap::new()));
        if let Entry::Set(members) = entry {
            members.insert(member, expiry);
        }
        Ok(())
    }

    fn remove(&mut self, key: &str) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        self.bytes -= entry.size(key);
        match entry {
            Entry::Value { expiry, .. } => drop(self.expiries.remove(&expiry)),
            Entry::Set(members) => members.values().for_each(|expiry| drop(self.expiries.remove(expiry))),
        }
        true
    }

    fn discard(&mut self, set: &str, member: &[u8]) -> bool {
        let Some(Entry::Set(members)) = self.entries.get_mut(set) else { return false };
        let Some(expiry) = members.remove(member) else { return false };
        if members.is_empty() {
            self.entries.remove(set);
        }
        self.expiries.remove(&expiry);
        self.bytes -= size(set, member);
        true
    }

    fn schedule(&mut self, place: Place, ttl: Duration) -> (Instant, u64) {
        self.last += 1;
        let expiry = (Instant::now() + bounded(ttl), self.last);
        self.expiries.insert(expiry, place);
        expiry
    }

    /// Whether there is room for so many bytes once the old entry (its bytes, and how many it counts for) is gone.
    fn reserve(&self, bounds: &Bounds, bytes: usize, old: Option<(usize, usize)>) -> Result<(), Error> {
        let (freed, fewer) = old.unwrap_or_default();
        let fits = self.bytes + bytes <= bounds.bytes + freed && self.expiries.len() < bounds.entries + fewer;
        if fits { Ok(()) } else { Err(Error::Full) }
    }
}

impl Entry {
    fn size(&self, key: &str) -> usize {
        match self {
            Self::Value { value, .. } => size(key, value),
            Self::Set(members) => members.keys().map(|member| size(key, member)).sum(),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Value { .. } => 1,
            Self::Set(members) => members.len(),
        }
    }
}

fn size(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + OVERHEAD
}

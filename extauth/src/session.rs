//! Sessions of browsers: who logged in where, with the tokens that came of it. A browser has a random id; the store has
//! its hash, and beside it the session, sealed with the id.

pub mod command;
mod index;
mod renewal;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::index::Listed;
pub use self::renewal::{Refused, Renewal};
use crate::background::Background;
use crate::shared::Shared;
use crate::store::{News, Store};
use crate::{json, random, sealed, store};

/// How long a session is used without asking the store again.
const FRESH: Duration = Duration::from_secs(1);
/// Bytes of sessions that are used without asking the store again.
const CACHED: u64 = 64 << 20;
/// Where the store says which sessions have changed or ended.
const TOPIC: &str = "sessions";
const PURPOSE: &str = "session";

/// Why nothing can be said about a session.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// See [`store::Error`].
    #[error("the session store: {0}")]
    Store(#[from] store::Error),
    /// The system has no random bits to give.
    #[error("no random numbers are to be had")]
    Random,
    /// A session that cannot be written down.
    #[error("a session cannot be written as JSON")]
    Form,
}

/// What a browser's cookie says: 256 random bits. Whoever has it, has the session.
#[derive(Clone)]
pub struct Id(String);

/// What a session is known by to the store and to people: the hash of its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hash(Arc<str>);

/// A session as it is stored. The claims are read from the ID token again, which the seal has kept as it was verified.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The provider's name in the policy.
    pub provider: String,
    /// Issuer of the tokens.
    pub issuer: String,
    /// The client that they were issued to.
    pub client_id: String,
    /// The provider's name for the user.
    pub subject: String,
    /// The provider's name for its own session.
    pub sid: Option<String>,
    /// Who it is; the last one that the provider sent.
    pub id_token: String,
    /// More claims, from the provider's `userinfo` endpoint.
    pub user_info: Map<String, Value>,
    /// What the upstream may be given.
    pub access_token: String,
    /// When the access token ends; seconds since 1970, like all times here.
    pub access_expires: u64,
    /// What fetches the next access token.
    pub refresh_token: Option<String>,
    /// When the user logged in.
    pub created: u64,
    /// When the tokens were last renewed.
    pub renewed: u64,
    /// When the session ends, unless it is renewed.
    pub expires: u64,
    /// When it ends in any case.
    pub latest: Option<u64>,
}

/// A session in use.
pub struct Session {
    /// What was stored.
    pub record: Record,
    /// Who it is.
    pub claims: Map<String, Value>,
    /// The same for Envoy's dynamic metadata.
    pub metadata: Arc<Shared>,
    version: Version,
}

/// What tells one form of a session in the store from the next: its digest, since the form itself is large.
type Version = [u8; 32];

/// The sessions of all policies. Clones share them.
#[derive(Clone)]
pub struct Sessions {
    store: Store,
    cache: moka::future::Cache<Hash, Option<Arc<Session>>, ahash::RandomState>,
    renewals: renewal::Renewals,
    background: Background,
}

impl Id {
    /// A new one.
    pub fn new() -> Result<Self, Error> {
        random::text().map(Self).ok_or(Error::Random)
    }

    /// What a cookie holds, if it may be an id.
    pub fn parse(text: &str) -> Option<Self> {
        random::plausible(text).then(|| Self(text.to_owned()))
    }

    /// For the cookie.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the store knows it by.
    pub fn hash(&self) -> Hash {
        Hash(random::hash(&["session", &self.0]).into())
    }
}

impl Hash {
    /// As people read it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        random::plausible(text).then(|| Self(text.into()))
    }

    fn key(&self) -> String {
        format!("session:{}", self.0)
    }
}

impl Record {
    /// Who it is: what the ID token says, and what only the `userinfo` endpoint does.
    pub fn claims(&self) -> Option<Map<String, Value>> {
        let mut claims = json::payload(&self.id_token)?;
        for (name, value) in &self.user_info {
            claims.entry(name).or_insert_with(|| value.clone());
        }
        Some(claims)
    }
}

impl Session {
    fn open(id: &Id, stored: &[u8]) -> Option<Self> {
        let record = sealed::open(&id.0, PURPOSE, stored)?;
        Self::of(serde_json::from_slice(&record).ok()?, stored)
    }

    /// A session whose claims can be read; `stored` is its form in the store, empty if it is not there.
    pub(crate) fn of(record: Record, stored: &[u8]) -> Option<Self> {
        let claims = record.claims()?;
        let metadata = Arc::new(Shared::of_claims(&record.provider, &claims));
        Some(Self { record, claims, metadata, version: version(stored) })
    }

    /// Bytes that it takes in the cache: what was read, and the claims as a tree and encoded.
    pub(crate) fn weight(&self) -> u32 {
        const FRAME: usize = 1024;
        /// A tree and its text, beside the text alone.
        const TREE: usize = 5;
        let record = &self.record;
        let tokens = record.access_token.len() + record.refresh_token.as_ref().map_or(0, String::len);
        u32::try_from(FRAME + tokens + record.id_token.len() + TREE * self.metadata.encoded_len()).unwrap_or(u32::MAX)
    }
}

/// Without the tokens: they are credentials.
impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").field("provider", &self.record.provider).finish_non_exhaustive()
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sessions").field("cached", &self.cache.entry_count()).finish_non_exhaustive()
    }
}

impl Sessions {
    /// The sessions that a store holds.
    pub fn new(store: Store, background: Background) -> Self {
        let cache = moka::future::Cache::builder()
            .max_capacity(CACHED)
            .weigher(|_, session: &Option<Arc<Session>>| session.as_ref().map_or(128, |session| session.weight()))
            .time_to_live(FRESH)
            .build_with_hasher(ahash::RandomState::default());
        let mut news = store.listen(TOPIC);
        let heard = cache.clone();
        background.spawn(async move {
            loop {
                match news.next().await {
                    News::Message(message) => {
                        if let Some(hash) = Hash::parse(&message) {
                            heard.invalidate(&hash).await;
                        }
                    }
                    News::Missed => heard.invalidate_all(),
                }
            }
        });
        Self { store, cache, renewals: renewal::Renewals::default(), background }
    }

    /// Where the sessions are kept.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The session with this id, which the store is asked for once a second at most.
    pub async fn load(&self, id: &Id) -> Result<Option<Arc<Session>>, Error> {
        let hash = id.hash();
        let read = self.cache.try_get_with_by_ref(&hash, async { self.read(id, &hash).await });
        read.await.map_err(|error| Error::clone(&error))
    }

    /// Begins a session that ends by itself when the record says so.
    pub async fn begin(&self, record: Record, now: u64) -> Result<Id, Error> {
        let id = Id::new()?;
        let ttl = Duration::from_secs(record.expires.saturating_sub(now));
        let stored = seal(&id, &record)?;
        self.enlist(&id.hash(), &record, ttl).await?;
        self.store.put(&id.hash().key(), &stored, ttl).await?;
        Ok(id)
    }

    /// Ends the session with this id, on every replica.
    pub async fn end(&self, id: &Id) -> Result<(), Error> {
        self.end_hash(&id.hash()).await.map(drop)
    }

    /// Ends a session; says whether there was one.
    async fn end_hash(&self, hash: &Hash) -> Result<bool, Error> {
        let ended = self.store.remove(&hash.key()).await?;
        self.changed(hash).await;
        Ok(ended)
    }

    async fn read(&self, id: &Id, hash: &Hash) -> Result<Option<Arc<Session>>, Error> {
        let stored = self.store.get(&hash.key()).await?;
        Ok(stored.and_then(|stored| Session::open(id, &stored)).map(Arc::new))
    }

    /// Tells every replica to read a session again. One that does not hear it does so within [`FRESH`].
    async fn changed(&self, hash: &Hash) {
        self.cache.invalidate(hash).await;
        if let Err(error) = self.store.announce(TOPIC, hash.0.as_bytes()).await {
            tracing::warn!(%error, "replicas will notice a second later that a session has changed");
        }
    }
}

fn version(stored: &[u8]) -> Version {
    let mut version = Version::default();
    version.copy_from_slice(digest::digest(&digest::SHA256, stored).as_ref());
    version
}

fn seal(id: &Id, record: &Record) -> Result<Vec<u8>, Error> {
    let text = serde_json::to_vec(record).map_err(|_| Error::Form)?;
    sealed::seal(&id.0, PURPOSE, text).ok_or(Error::Random)
}

//! Sessions of browsers: who logged in where, with the tokens that came of it. A browser has a random id; the store has
//! its hash, and beside it the session, sealed with the id.

pub mod command;
mod index;
mod kept;
mod renewal;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::index::Listed;
pub use self::kept::{Client, Keep, Session, Tokens, User};
pub use self::renewal::{Refused, Renewal};
use crate::background::Background;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

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

type Cache = moka::future::Cache<(Hash, Keep), Option<Arc<Session>>, ahash::RandomState>;

/// What tells one form of a session in the store from the next: its digest, since the form itself is large.
type Version = [u8; 32];

/// The sessions of all policies. Clones share them.
#[derive(Clone)]
pub struct Sessions {
    store: Store,
    cache: Cache,
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
        Hash(random::digest(&["session", &self.0]))
    }
}

impl Hash {
    fn parse(bytes: &[u8]) -> Option<Self> {
        random::bytes(std::str::from_utf8(bytes).ok()?).map(Self)
    }

    fn key(&self) -> String {
        format!("session:{self}")
    }
}

/// As people read it.
impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Base64Display::new(&self.0, &URL_SAFE_NO_PAD).fmt(formatter)
    }
}

impl Record {
    fn open(id: &Id, stored: &[u8]) -> Option<Self> {
        serde_json::from_slice(&sealed::open(&id.0, PURPOSE, stored)?).ok()
    }

    /// Where the user logged in.
    pub fn client(&self) -> Client {
        Client::of(&self.provider, &self.issuer, &self.client_id)
    }

    /// Bytes of its texts, and of what it says of the user as a tree.
    pub(crate) fn bytes(&self) -> usize {
        /// A tree beside its text.
        const TREE: usize = 5;
        let user_info = if self.user_info.is_empty() {
            0
        } else {
            serde_json::to_vec(&self.user_info).map_or(0, |text| text.len())
        };
        let tokens = self.id_token.len() + self.access_token.len() + self.refresh_token.as_ref().map_or(0, String::len);
        self.issuer.len() + self.subject.len() + tokens + TREE * user_info
    }

    /// Who it is: what the ID token says, and what only the `userinfo` endpoint does.
    pub fn claims(&self) -> Option<Map<String, Value>> {
        let mut claims = json::payload(&self.id_token)?;
        for (name, value) in &self.user_info {
            claims.entry(name).or_insert_with(|| value.clone());
        }
        Some(claims)
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
        let cache = cache(CACHED, FRESH);
        let mut news = store.listen(TOPIC);
        let heard = cache.clone();
        background.spawn(async move {
            loop {
                match news.next().await {
                    News::Message(message) => {
                        if let Some(hash) = Hash::parse(&message) {
                            forget(&heard, hash).await;
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

    /// The session with this id, which the store is asked for once a second at most for each of [`Keep`].
    pub async fn load(&self, id: &Id, keep: Keep) -> Result<Option<Arc<Session>>, Error> {
        let hash = id.hash();
        let read = async {
            Ok(self
                .read(id, &hash)
                .await?
                .and_then(|(record, version)| Session::of(record, version, keep))
                .map(Arc::new))
        };
        let session = self.cache.try_get_with((hash, keep), read).await;
        session.map_err(|error: Arc<Error>| Error::clone(&error))
    }

    /// All that is stored of the session with this id.
    pub async fn record(&self, id: &Id) -> Result<Option<Record>, Error> {
        Ok(self.read(id, &id.hash()).await?.map(|(record, _)| record))
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

    async fn read(&self, id: &Id, hash: &Hash) -> Result<Option<(Record, Version)>, Error> {
        let stored = self.store.get(&hash.key()).await?;
        Ok(stored.and_then(|stored| Some((Record::open(id, &stored)?, version(&stored)))))
    }

    /// Tells every replica to read a session again. One that does not hear it does so within [`FRESH`].
    async fn changed(&self, hash: &Hash) {
        forget(&self.cache, *hash).await;
        if let Err(error) = self.store.announce(TOPIC, hash.to_string().as_bytes()).await {
            tracing::warn!(%error, "replicas will notice a second later that a session has changed");
        }
    }
}

/// Sessions that are used for so long, and take so many bytes at most.
fn cache(capacity: u64, fresh: Duration) -> Cache {
    moka::future::Cache::builder()
        .max_capacity(capacity)
        .weigher(|_, session: &Option<Arc<Session>>| session.as_ref().map_or(128, |session| session.weight()))
        .time_to_live(fresh)
        .build_with_hasher(ahash::RandomState::default())
}

async fn forget(cache: &Cache, hash: Hash) {
    for keep in [Keep::Tokens, Keep::Nothing] {
        cache.invalidate(&(hash, keep)).await;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Weak;
    use std::time::Instant;

    use base64::Engine as _;
    use serde_json::json;

    use super::*;

    fn record(claims: &Value, token: usize) -> Record {
        Record {
            provider: "main".into(),
            issuer: "https://issuer.example.com".into(),
            client_id: "shop".into(),
            subject: "ada".into(),
            sid: None,
            id_token: format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string())),
            user_info: Map::new(),
            access_token: "x".repeat(token),
            access_expires: 600,
            refresh_token: None,
            created: 0,
            renewed: 0,
            expires: 600,
            latest: None,
        }
    }

    /// Bytes of tokens and claims that stay of so many sessions, as soon as they are no more than `most`.
    async fn held(capacity: u64, sessions: u8, most: usize) -> usize {
        const CLAIMS: usize = 20_000;
        const TOKEN: usize = 30_000;
        let cache = cache(capacity, Duration::from_hours(1));
        let mut known: Vec<Weak<Session>> = Vec::new();
        for number in 0..sessions {
            let record = record(&json!({"sub": "ada", "long": "x".repeat(CLAIMS)}), TOKEN);
            let session = Arc::new(Session::of(record, Version::default(), Keep::Tokens).unwrap());
            known.push(Arc::downgrade(&session));
            cache.insert((Hash([number; 32]), Keep::Tokens), Some(session)).await;
        }
        let begun = Instant::now();
        loop {
            cache.run_pending_tasks().await;
            let alive = known.iter().filter(|session| session.strong_count() > 0).count();
            // The claims stand in the ID token, in base64, and in the metadata.
            let held = alive * (CLAIMS * 7 / 3 + TOKEN);
            if held <= most {
                return held;
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "{held} bytes for a cap of {capacity}");
            // What was evicted is freed when nobody can be reading it any more; further questions move that on.
            cache.insert((Hash([255; 32]), Keep::Nothing), None).await;
        }
    }

    #[tokio::test]
    async fn sessions_in_use_are_capped_in_bytes() {
        const MEBIBYTE: usize = 1 << 20;
        let all = held(64 << 20, 200, usize::MAX).await;
        assert!(all > 14 * MEBIBYTE, "they are kept where there is room: {all}");
        let some = held(1 << 20, 200, MEBIBYTE).await;
        assert!(some > MEBIBYTE / 2, "{some} bytes where there is room for a MiB");
    }

    #[test]
    fn what_is_kept_of_a_session_says_what_its_record_does() {
        let claims = json!({"sub": "ada", "large": 9_007_199_254_740_993_u64, "org": {"tenant": "blue"}});
        for claims in [claims.clone(), json!({"sub": "ada", "org": {"tenant": "blue"}})] {
            let session = Session::of(record(&claims, 10), Version::default(), Keep::Nothing).unwrap();
            for path in ["sub", "org.tenant", "org", "large", "none"] {
                let expected = crate::claims::find(claims.as_object().unwrap(), path);
                assert_eq!(crate::claims::Lookup::find(&session.user, path).as_deref(), expected, "{path}");
            }
            assert!(session.tokens.is_none());
        }
    }

    /// Resident bytes of this process.
    fn resident() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[tokio::test]
    async fn a_session_in_use_takes_little_more_than_its_claims() {
        const SESSIONS: u32 = 20_000;
        let claims = json!({
            "iss": "https://issuer.example.com", "aud": "shop", "sub": "user-0000000001", "exp": 1_900_000_000, "iat": 1_800_000_000,
            "email": "user-0000000001@example.com", "email_verified": true, "name": "Ada Lovelace", "sid": "x".repeat(40),
            "org": {"tenant": "blue-inc", "roles": ["admin", "editor"]}, "groups": ["dev", "ops", "on-call"], "note": "x".repeat(340),
        });
        let record = record(&claims, 900);
        assert!((850..950).contains(&record.id_token.len()), "{}", record.id_token.len());
        let (cache, before) = (cache(CACHED, Duration::from_hours(1)), resident());
        for number in 0..SESSIONS {
            let session = Session::of(record.clone(), Version::default(), Keep::Nothing).map(Arc::new).unwrap();
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&number.to_le_bytes());
            cache.insert((Hash(hash), Keep::Nothing), Some(session)).await;
        }
        cache.run_pending_tasks().await;
        assert_eq!(cache.entry_count(), u64::from(SESSIONS));
        let each = resident().saturating_sub(before) / SESSIONS as usize;
        let (weight, counted) = (cache.weighted_size() / u64::from(SESSIONS), size_of::<Session>());
        println!("{each} bytes a session, {weight} as the cache sees it, {counted} of them fixed");
        // By itself it is 1.4 kB. Other tests that run in the process meanwhile take some 30 MB, and with its tree it was 7 kB.
        assert!(each < 4096, "{each} bytes");
    }
}

//! Tokens that are worth nothing although they are signed and in time: denied on all replicas at once, also those that
//! were verified before.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::background::Background;
use crate::claims::Claims;
use crate::store::{self, Store};

/// The set in the store.
const SET: &str = "tokens:revoked";
/// Where replicas are told that it has changed.
const TOPIC: &str = "tokens:revoked";
/// After that it is read again, told or not: what has expired is dropped.
const REFRESH: Duration = Duration::from_mins(1);
/// The pause after the store failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long a request waits for the list at the start of the process.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which tokens are revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// The one with this `jti`.
    Id(String),
    /// All with this `sub` that were issued until now, or do not say when.
    Subject(String),
}

/// A revocation as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Which tokens.
    pub target: Target,
    /// Of this issuer; of any without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Seconds since 1970 at which it was made.
    pub at: u64,
}

/// What a token may be revoked by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    issuer: Option<String>,
    id: Option<String>,
    subject: Option<String>,
    issued: Option<u64>,
}

/// Why a token is denied that is good otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody revoked it.
    Revoked,
    /// Nobody knows yet: the store has not answered since the process started.
    Unknown,
}

/// What is revoked, as far as this replica has heard. Clones share it.
#[derive(Clone, Debug)]
pub struct Revocations(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    list: ArcSwapOption<List>,
    loaded: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct List {
    ids: HashMap<String, Vec<Entry>>,
    subjects: HashMap<String, Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    issuer: Option<String>,
    at: u64,
}

impl Revocations {
    /// Follows the store's list for as long as somebody holds this. In memory there is nothing to wait for.
    pub fn follow(store: &Store, background: &Background) -> Self {
        let known = matches!(store, Store::Memory(_)).then(|| Arc::new(List::default()));
        let loaded = watch::Sender::new(known.is_some());
        let shared = Arc::new(Shared { list: ArcSwapOption::new(known), loaded });
        background.spawn(follow(Arc::downgrade(&shared), store.clone()));
        Self(shared)
    }

    /// Whether anything is known yet.
    pub(crate) fn known(&self) -> bool {
        self.0.list.load().is_some()
    }

    /// Waits until something is known, for a bounded time; at the start of the process.
    pub(crate) async fn settled(&self) {
        let mut loaded = self.0.loaded.subscribe();
        // Whichever ends first: what is known then has to do.
        let _ = tokio::time::timeout(PATIENCE, loaded.wait_for(|loaded| *loaded)).await;
    }

    /// Whether a token is good as far as anybody said.
    pub(crate) fn check(&self, token: &Identity) -> Result<(), Refusal> {
        let list = self.0.list.load();
        let list = list.as_ref().ok_or(Refusal::Unknown)?;
        if list.revokes(token) { Err(Refusal::Revoked) } else { Ok(()) }
    }
}

/// Revokes tokens for so long; afterwards they must have expired by themselves.
pub async fn revoke(store: &Store, revocation: &Revocation, duration: Duration) -> Result<(), Error> {
    store.add(SET, &serde_json::to_vec(revocation)?, duration).await?;
    Ok(store.announce(TOPIC, &[]).await?)
}

/// Why tokens were not revoked. Whoever announced nothing may still have revoked them within the minute.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// See [`store::Error`].
    #[error("revoking in the store: {0}")]
    Store(#[from] store::Error),
    /// It cannot be written.
    #[error("writing the revocation")]
    Json(#[from] serde_json::Error),
    /// In memory it would be gone at once.
    #[error("there is no store that replicas share")]
    #[diagnostic(help("say where Redis is: --redis-url or EXTAUTH_REDIS_URL"))]
    NoStore,
    /// No thread, or no runtime.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

impl Revocation {
    /// Made now.
    pub fn now(target: Target, issuer: Option<String>) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        Self { target, issuer, at }
    }
}

impl Identity {
    /// What these claims say.
    pub(crate) fn of(claims: &Claims, issued: Option<u64>) -> Self {
        let text = |name| claims.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        Self { issuer: text("iss"), id: text("jti"), subject: text("sub"), issued }
    }

    /// One that is known by its name alone.
    pub(crate) fn named(subject: &str) -> Self {
        Self { subject: Some(subject.to_owned()), ..Self::default() }
    }

    /// Bytes of its texts.
    pub(crate) fn len(&self) -> usize {
        [&self.issuer, &self.id, &self.subject].into_iter().flatten().map(String::len).sum()
    }
}

impl List {
    fn of(members: &[bytes::Bytes]) -> Self {
        let mut list = Self::default();
        for member in members {
            match serde_json::from_slice(member) {
                Ok(Revocation { target, issuer, at }) => {
                    let entry = Entry { issuer, at };
                    match target {
                        Target::Id(id) => list.ids.entry(id).or_default().push(entry),
                        Target::Subject(subject) => list.subjects.entry(subject).or_default().push(entry),
                    }
                }
                Err(error) => tracing::error!(%error, "a revocation in the store cannot be read"),
            }
        }
        list
    }

    fn revokes(&self, token: &Identity) -> bool {
        let concerns = |entry: &&Entry| entry.issuer.is_none() || entry.issuer == token.issuer;
        let named = |list: &'_ HashMap<String, Vec<Entry>>, name: &Option<String>, hits: &dyn Fn(&Entry) -> bool| {
            let entries = name.as_ref().and_then(|name| list.get(name));
            entries.is_some_and(|entries| entries.iter().filter(concerns).any(hits))
        };
        named(&self.ids, &token.id, &|_| true)
            || named(&self.subjects, &token.subject, &|entry| token.issued.is_none_or(|issued| issued <= entry.at))
    }
}

async fn follow(shared: Weak<Shared>, store: Store) {
    let mut news = store.listen(TOPIC);
    loop {
        let members = store.members(SET).await;
        let Some(shared) = shared.upgrade() else { return };
        let pause = match members {
            Ok(members) => {
                shared.list.store(Some(Arc::new(List::of(&members))));
                shared.loaded.send_replace(true);
                REFRESH
            }
            Err(error) => {
                tracing::warn!(%error, "reading the revoked tokens failed; those that are known stay revoked");
                RETRY
            }
        };
        let mut held = shared.loaded.subscribe();
        drop(shared);
        tokio::select! {
            _ = news.next() => {}
            () = tokio::time::sleep(pause) => {}
            // Only its end is awaited.
            _ = held.wait_for(|_| false) => return,
        }
    }
}

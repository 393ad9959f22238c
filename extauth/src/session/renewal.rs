//! A session's next tokens. A refresh token is often good for one use: of all requests on all replicas, one may use it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep};

use super::{Error, Hash, Id, Keep, Record, Session, Sessions, forget, seal, version};
use crate::{metrics, random};

/// How long a replica that died, or one whose store was away in the middle, keeps others from using its refresh token again,
/// which most providers answer by ending all that came of it.
const LEASE: Duration = Duration::from_secs(30);
/// How long the work of another replica is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(100);
/// How long a provider that did not answer is left alone.
const RESPITE: Duration = Duration::from_secs(5);
/// How long new tokens are offered to a store that does not answer.
const OFFERS: Duration = Duration::from_mins(1);
/// How long a provider's no is doubted: without a lease, while the store was away, another replica may have used the token.
const DOUBT: Duration = Duration::from_secs(1);

/// Why a provider gives no new tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It does not answer, or not sensibly: the tokens may still be good.
    #[error("{0}")]
    Unavailable(String),
    /// It says no.
    #[error("{0}")]
    Final(String),
}

/// What became of a session.
#[derive(Clone, Debug)]
pub enum Renewal<S = Arc<Session>> {
    /// It has new tokens.
    Renewed(S),
    /// It has ended.
    Ended,
    /// Nobody could say; it is as it was.
    Unchanged,
}

impl<S> Renewal<S> {
    /// For the metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Renewed(_) => "renewed",
            Self::Ended => "not_renewed",
            Self::Unchanged => "unavailable",
        }
    }
}

/// The renewals under way in this process.
#[derive(Clone, Default)]
pub(super) struct Renewals(Arc<Mutex<HashMap<Hash, Waiting>>>);

#[derive(Clone)]
enum Waiting {
    Running(watch::Receiver<Option<Renewal>>),
    Failed(Instant),
}

impl fmt::Debug for Renewals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Renewals").finish_non_exhaustive()
    }
}

impl Sessions {
    /// Has `refresh` fetch the tokens that follow on those of the record, unless somebody is doing so already, and returns where the outcome will be told. It
    /// goes on when nobody waits for it.
    pub fn renew<F, R>(&self, id: &Id, session: &Arc<Session>, refresh: F) -> watch::Receiver<Option<Renewal>>
    where
        F: FnOnce(Record) -> R + Send + 'static,
        R: Future<Output = Result<Record, Refused>> + Send + 'static,
    {
        let hash = id.hash();
        let (tell, told) = watch::channel(None);
        {
            let mut running = self.renewals.0.lock().unwrap_or_else(PoisonError::into_inner);
            running.retain(|_, waiting| !matches!(waiting, Waiting::Failed(when) if when.elapsed() >= RESPITE));
            match running.get(&hash) {
                Some(Waiting::Running(told)) => return told.clone(),
                Some(Waiting::Failed(_)) => {
                    tell.send_replace(Some(Renewal::Unchanged));
                    return told;
                }
                None => running.insert(hash, Waiting::Running(told.clone())),
            };
        }
        let (sessions, id, session) = (self.clone(), id.clone(), Arc::clone(session));
        self.background.spawn(async move {
            let outcome = sessions.renew_alone(&id, &hash, &session, refresh).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "a session could not be renewed");
                Renewal::Unchanged
            });
            metrics::session(outcome.name());
            let mut running = sessions.renewals.0.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(outcome, Renewal::Unchanged) {
                running.insert(hash, Waiting::Failed(Instant::now()));
            } else {
                running.remove(&hash);
            }
            tell.send_replace(Some(outcome));
        });
        told
    }

    /// Renews under a lease that all replicas respect.
    async fn renew_alone<F, R>(
        &self,
        id: &Id,
        hash: &Hash,
        session: &Arc<Session>,
        refresh: F,
    ) -> Result<Renewal, Error>
    where
        F: FnOnce(Record) -> R + Send + 'static,
        R: Future<Output = Result<Record, Refused>> + Send + 'static,
    {
        let lease = Lease { key: format!("renewal:{hash}"), owner: random::text().ok_or(Error::Random)? };
        let deadline = Instant::now() + PATIENCE;
        while !self.store.put_new(&lease.key, lease.owner.as_bytes(), LEASE).await? {
            match self.current(id, hash, session).await? {
                Current::Changed(changed) => return Ok(changed),
                Current::Same(_) if Instant::now() >= deadline => return Ok(Renewal::Unchanged),
                Current::Same(_) => sleep(GLANCE).await,
            }
        }
        let outcome = match self.current(id, hash, session).await {
            // Somebody else was faster, between our look at the session and the lease.
            Ok(Current::Changed(changed)) => Ok(changed),
            Ok(Current::Same(stored)) => self.exchange(id, hash, (session, &stored), &lease, refresh).await,
            Err(error) => Err(error),
        };
        let (key, owner) = (lease.key.as_str(), lease.owner.as_bytes());
        // Should this fail, the lease ends by itself.
        let _ = self.store.swap(key, owner, owner, Duration::from_millis(1)).await;
        outcome
    }

    async fn exchange<F, R>(
        &self,
        id: &Id,
        hash: &Hash,
        (session, stored): (&Arc<Session>, &Bytes),
        lease: &Lease,
        refresh: F,
    ) -> Result<Renewal, Error>
    where
        F: FnOnce(Record) -> R + Send + 'static,
        R: Future<Output = Result<Record, Refused>> + Send + 'static,
    {
        let Some(record) = Record::open(id, stored) else { return Ok(Renewal::Ended) };
        let refreshed = tokio::select! {
            refreshed = refresh(record) => refreshed,
            never = self.hold(lease) => match never {},
        };
        match refreshed {
            // Nobody may use the old refresh token meanwhile: it is spent.
            Ok(record) => tokio::select! {
                replaced = self.replace(id, hash, (session, stored), record) => replaced,
                never = self.hold(lease) => match never {},
            },
            Err(Refused::Unavailable(reason)) => {
                tracing::warn!(reason, "a provider did not renew a session");
                Ok(Renewal::Unchanged)
            }
            Err(Refused::Final(reason)) => {
                tracing::debug!(reason, "a provider ended a session");
                let deadline = Instant::now() + DOUBT;
                while Instant::now() < deadline {
                    if let Current::Changed(changed) = self.current(id, hash, session).await? {
                        return Ok(changed);
                    }
                    sleep(GLANCE).await;
                }
                self.end_hash(hash).await?;
                Ok(Renewal::Ended)
            }
        }
    }

    /// Keeps the lease for as long as it is polled.
    async fn hold(&self, lease: &Lease) -> std::convert::Infallible {
        let mut beat = interval(LEASE / 3);
        loop {
            beat.tick().await;
            let owner = lease.owner.as_bytes();
            if let Err(error) = self.store.swap(&lease.key, owner, owner, LEASE).await {
                tracing::warn!(%error, "the lease of a session's renewal was not prolonged");
            }
        }
    }

    /// Puts the new tokens in the place of the old; a session that ended meanwhile stays ended.
    async fn replace(
        &self,
        id: &Id,
        hash: &Hash,
        (old, old_stored): (&Arc<Session>, &Bytes),
        record: Record,
    ) -> Result<Renewal, Error> {
        let stored = Bytes::from(seal(id, &record)?);
        let ttl = Duration::from_secs(record.expires.saturating_sub(record.renewed));
        let deadline = Instant::now() + OFFERS;
        let replaced = loop {
            match self.store.swap(&hash.key(), old_stored, &stored, ttl).await {
                Ok(replaced) => break replaced,
                // The old refresh token is spent: the new one must not be lost.
                Err(error) if Instant::now() < deadline => {
                    tracing::warn!(%error, "new tokens could not be stored yet");
                    sleep(GLANCE).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        // An offer that seemed to fail may have been taken.
        if !replaced && self.store.get(&hash.key()).await?.as_ref() != Some(&stored) {
            return Ok(match self.current(id, hash, old).await? {
                Current::Changed(changed) => changed,
                Current::Same(_) => Renewal::Ended,
            });
        }
        self.enlist(hash, &record, ttl).await?;
        self.changed(hash).await;
        Ok(renewed(record, &stored).unwrap_or(Renewal::Unchanged))
    }

    /// What has become of the session in the store.
    async fn current(&self, id: &Id, hash: &Hash, known: &Arc<Session>) -> Result<Current, Error> {
        let Some(stored) = self.store.get(&hash.key()).await? else { return Ok(Current::Changed(Renewal::Ended)) };
        if version(&stored) == known.version {
            return Ok(Current::Same(stored));
        }
        forget(&self.cache, *hash).await;
        let renewed = Record::open(id, &stored).and_then(|record| renewed(record, &stored));
        Ok(Current::Changed(renewed.unwrap_or(Renewal::Ended)))
    }
}

/// Whoever waits may need the tokens.
fn renewed(record: Record, stored: &[u8]) -> Option<Renewal> {
    Session::of(record, version(stored), Keep::Tokens).map(|session| Renewal::Renewed(Arc::new(session)))
}

/// A session as the store has it.
enum Current {
    /// It is the one that is known; these are its bytes.
    Same(Bytes),
    Changed(Renewal),
}

struct Lease {
    key: String,
    owner: String,
}

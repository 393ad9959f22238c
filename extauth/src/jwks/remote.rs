//! Key sets that issuers publish: fetched in the background, ahead of their age, and kept for as long as no newer one comes.

mod address;
mod demand;

use std::collections::HashMap;
use std::str;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use proto::extauth::Backends;
use rand::Rng as _;
use tokio::sync::{Notify, watch};

pub(crate) use self::address::uri;
pub use self::address::{Address, Error as AddressError};
use self::demand::Demand;
use super::{ALGORITHMS, Error as KeySetError, KeySet};
use crate::background::Background;
use crate::fetch::{self, Fetch, Unusable};
use crate::metrics;

/// How long a request waits for a fetch at most.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// The first pause after a fetch that failed; it doubles with each that follows.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause after a fetch that failed.
const LAST_RETRY: Duration = Duration::from_secs(16);

/// Why a key set did not come.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or none that can be read.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    /// Redirects are not followed either.
    #[error("was answered by {0}")]
    Status(StatusCode),
    /// No discovery document, or one of another issuer.
    #[error("the discovery document {0}")]
    Discovery(String),
    /// The answer is no text.
    #[error("the answer is not UTF-8")]
    Encoding,
    /// See [`KeySetError`].
    #[error("the answer {0}")]
    KeySet(#[from] KeySetError),
}

/// The key sets that policies of this process use; those that fetch the same one share it.
#[derive(Clone, Debug)]
pub struct Remotes {
    fetch: Fetch,
    background: Background,
    known: Arc<Mutex<Known>>,
}

/// By address, by who answers there, and by how old it may become.
type Known = HashMap<(Address, Option<Backends>, Duration), Weak<Remote>>;

/// One published key set.
#[derive(Debug)]
pub struct Remote {
    address: Address,
    cache_duration: Duration,
    keys: ArcSwapOption<KeySet>,
    /// Which fetches were asked for, and which key ids the issuer does not know.
    demand: Mutex<Demand>,
    /// Wakes the task that fetches.
    wake: Arc<Notify>,
    /// Changes with the end of each fetch.
    fetched: watch::Sender<u64>,
    status: metrics::KeySet,
}

impl Remotes {
    /// Fetches nothing yet.
    pub fn new(fetch: Fetch, background: Background) -> Self {
        Self { fetch, background, known: Arc::default() }
    }

    /// The key set at an address, fetched from now on until nobody holds it any more: from the hosts in URLs, or from
    /// `backends`. The error names the field of those that cannot be used.
    pub fn follow(
        &self,
        address: Address,
        backends: Option<Backends>,
        cache_duration: Duration,
    ) -> Result<Arc<Remote>, Unusable> {
        let fetch = match &backends {
            Some(backends) => self.fetch.at(backends)?,
            None => self.fetch.clone(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, remote| remote.strong_count() > 0);
        let key = (address, backends, cache_duration);
        if let Some(remote) = known.get(&key).and_then(Weak::upgrade) {
            return Ok(remote);
        }
        let remote = Arc::new(Remote::new(key.0.clone(), cache_duration));
        known.insert(key, Arc::downgrade(&remote));
        self.background.spawn(follow(Arc::downgrade(&remote), fetch));
        Ok(remote)
    }
}

impl Remote {
    fn new(address: Address, cache_duration: Duration) -> Self {
        Self {
            status: metrics::KeySet::new(&address.to_string()),
            address,
            cache_duration,
            keys: ArcSwapOption::empty(),
            demand: Mutex::new(Demand::fetching()),
            wake: Arc::default(),
            fetched: watch::Sender::new(0),
        }
    }

    /// The last good key set, if there ever was one.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.keys.load_full()
    }

    /// The key set after a fetch that is under way, for at most [`PATIENCE`]; while none is, the last good one.
    pub async fn settled(&self) -> Option<Arc<KeySet>> {
        self.wait(|demand| demand.is_fetching()).await;
        self.current()
    }

    /// The key set after it was fetched again for a key id that it lacks, at a bounded rate.
    pub async fn refetched(&self, kid: Option<&str>) -> Option<Arc<KeySet>> {
        let waits = |demand: &mut Demand| {
            let (waits, wakes) = demand.unknown(kid, Instant::now());
            if wakes {
                self.wake.notify_one();
            }
            waits
        };
        self.wait(waits).await;
        self.current()
    }

    /// Remembers that the issuer does not know a key id even now.
    pub fn unknown(&self, kid: Option<&str>) {
        self.demand().forget(kid, Instant::now());
    }

    async fn wait(&self, waits: impl FnOnce(&mut Demand) -> bool) {
        let mut fetched = {
            let mut demand = self.demand();
            if !waits(&mut demand) {
                return;
            }
            self.fetched.subscribe()
        };
        // Whichever ends first: what is known then has to do.
        let _ = tokio::time::timeout(PATIENCE, fetched.changed()).await;
    }

    fn demand(&self) -> std::sync::MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a fetch brought; yields how long to wait for the next one.
    fn settle(&self, outcome: Result<KeySet, Error>, failures: &mut u32) -> Duration {
        let pause = match outcome {
            Ok(keys) => {
                if *failures > 0 {
                    tracing::info!(key_set = %self.address, "fetched again");
                }
                *failures = 0;
                self.status.fetched(keys.len());
                self.keys.store(Some(Arc::new(keys)));
                // Ahead of its age, and not at once with all other replicas.
                self.cache_duration.mul_f64(rand::rng().random_range(0.7..0.9))
            }
            Err(error) => {
                let keeps = if self.keys.load().is_some() { "the last good keys stay" } else { "there are no keys" };
                tracing::warn!(key_set = %self.address, %error, failures, "fetching failed; {keeps}");
                self.status.failed();
                let doubled = FIRST_RETRY.saturating_mul(1 << (*failures).min(8)).min(LAST_RETRY);
                *failures = failures.saturating_add(1);
                doubled.mul_f64(rand::rng().random_range(0.75..1.25))
            }
        };
        self.demand().fetched();
        self.fetched.send_modify(|count| *count += 1);
        pause
    }
}

/// Lets the task end that fetches for it.
impl Drop for Remote {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Fetches for as long as somebody holds the key set. One task a key set: no two fetches run at once.
async fn follow(remote: Weak<Remote>, fetch: Fetch) {
    let mut failures = 0;
    loop {
        let Some(address) = remote.upgrade().map(|remote| remote.address.clone()) else { return };
        let outcome = load(&address, &fetch).await;
        let Some((pause, wake)) = remote.upgrade().map(|remote| {
            let pause = remote.settle(outcome, &mut failures);
            (pause, Arc::clone(&remote.wake))
        }) else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {
                if let Some(remote) = remote.upgrade() { remote.demand().start() }
            }
            () = wake.notified() => {}
        }
    }
}

async fn load(address: &Address, fetch: &Fetch) -> Result<KeySet, Error> {
    let body = get(fetch, &address.key_set(fetch).await?).await?;
    Ok(KeySet::parse(str::from_utf8(&body).map_err(|_| Error::Encoding)?, &ALGORITHMS)?)
}

async fn get(fetch: &Fetch, uri: &Uri) -> Result<Bytes, Error> {
    let mut request = Request::new(Bytes::new());
    uri.clone_into(request.uri_mut());
    let answer = fetch.send(request).await?;
    if answer.status() == StatusCode::OK { Ok(answer.into_body()) } else { Err(Error::Status(answer.status())) }
}

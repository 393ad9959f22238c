//! Slow hashes: paid once for a password that was right, on few threads, and never by those who serve.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::htpasswd::Hash;
use crate::background::Background;

/// Different passwords that are hashed or wait for it.
const LONGEST_QUEUE: usize = 64;
/// Passwords that were right, about 100 bytes each.
const CAPACITY: u64 = 100_000;
/// The longest time for which any of them is remembered.
pub(super) const LONGEST_CACHE: u64 = 3600;

/// Too many passwords are to be hashed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are to be hashed")]
pub struct Busy;

/// Checks passwords; clones share the threads and what was right before.
#[derive(Clone)]
pub struct Passwords {
    shared: Arc<Shared>,
    background: Background,
}

struct Shared {
    /// Random: what is remembered says nothing about passwords outside this process.
    key: hmac::Key,
    verified: Cache<Digest, u64, ahash::RandomState>,
    running: Mutex<HashMap<Digest, watch::Receiver<Option<bool>>, ahash::RandomState>>,
    threads: Semaphore,
}

/// Of a user, a password, and the hash that the user's password has.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

/// There are no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("there are no random numbers to be had")]
pub struct NoRandom;

impl Passwords {
    /// Hashes on half the cores.
    pub fn new(background: Background) -> Result<Self, NoRandom> {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| NoRandom)?;
        let verified = Cache::builder()
            .max_capacity(CAPACITY)
            .time_to_live(Duration::from_secs(LONGEST_CACHE))
            .build_with_hasher(ahash::RandomState::default());
        let threads = Semaphore::new((cores / 2).max(1));
        let shared = Shared { key, verified, running: Mutex::default(), threads };
        Ok(Self { shared: Arc::new(shared), background })
    }

    /// A number that belongs to a name, and that nobody can foresee.
    pub(super) fn number(&self, name: &str) -> u64 {
        let tag = hmac::sign(&self.shared.key, name.as_bytes());
        tag.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    pub(super) fn digest(&self, hash: &Hash, user: &str, password: &str) -> Digest {
        let mut context = hmac::Context::with_key(&self.shared.key);
        for text in [hash.text(), user, password] {
            context.update(&text.len().to_be_bytes());
            context.update(text.as_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        Digest(digest)
    }

    /// Whether it was right before, and is to be remembered still, at this second.
    pub(super) fn remembers(&self, digest: &Digest, now: u64) -> bool {
        self.shared.verified.get(digest).is_some_and(|until| now < until)
    }

    pub(super) fn remember(&self, digest: &Digest, until: u64) {
        self.shared.verified.insert(*digest, until);
    }

    /// Hashes on a thread of its own. Whoever asks the same meanwhile waits for the same answer; given up by all, it goes on.
    pub(super) async fn verify(&self, digest: Digest, hash: &Hash, password: &str) -> Result<bool, Busy> {
        let mut answer = self.start(digest, hash, password)?;
        let answer = answer.wait_for(Option::is_some).await;
        answer.map_or(Err(Busy), |right| right.ok_or(Busy))
    }

    fn start(&self, digest: Digest, hash: &Hash, password: &str) -> Result<watch::Receiver<Option<bool>>, Busy> {
        let mut running = self.shared.running.lock();
        if let Some(answer) = running.get(&digest) {
            return Ok(answer.clone());
        }
        if running.len() >= LONGEST_QUEUE {
            return Err(Busy);
        }
        let (done, answer) = watch::channel(None);
        running.insert(digest, answer.clone());
        let (hash, password) = (hash.clone(), secrecy::SecretString::from(password));
        let shared = Arc::clone(&self.shared);
        self.background.spawn(async move {
            let right = shared.hash(hash, password).await;
            shared.running.lock().remove(&digest);
            done.send_replace(right);
        });
        Ok(answer)
    }
}

impl Shared {
    async fn hash(&self, hash: Hash, password: secrecy::SecretString) -> Option<bool> {
        let _thread = self.threads.acquire().await.ok()?;
        let hashing = tokio::task::spawn_blocking(move || hash.verify(secrecy::ExposeSecret::expose_secret(&password)));
        hashing.await.ok()
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Passwords").finish_non_exhaustive()
    }
}

//! What replicas share and what must survive a reload: bytes under keys that expire, sets of them, and announcements.
//!
//! Each call has a bound in time. A store that cannot answer says so: an error never looks like an absent key.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use crate::metrics;

pub use self::memory::{Bounds, Memory};
pub use self::redis::Redis;

pub mod memory;
pub mod redis;

/// Announcements that a slow listener may be behind; beyond, it is told that it missed some.
const BACKLOG: usize = 1024;
/// No entry lives longer: a hundred years, for what has no end of its own.
pub const FOREVER: Duration = Duration::from_hours(100 * 365 * 24);

/// Why a store did not do what it was asked for. Whether it took effect is unknown, except for [`Error::Full`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No answer in time.
    #[error("the store did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Redis refuses, or cannot be reached.
    #[error("the store failed: {0}")]
    Redis(#[from] ::redis::RedisError),
    /// The memory set aside for the store is used up by entries that have not expired.
    #[error("the store is full")]
    Full,
    /// This process ends.
    #[error("given up at the end of the process")]
    Ended,
}

/// A place for entries; clones share it. All of it can be used from any runtime.
#[derive(Clone, Debug)]
pub enum Store {
    /// In this process, and gone with it.
    Memory(Memory),
    /// Shared by all replicas.
    Redis(Redis),
}

/// What a [`Listener`] hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Something was announced.
    Message(Bytes),
    /// From here on announcements are heard; what was announced before may have been missed. Always the first news.
    Missed,
}

/// Hears what is announced on one topic until it is dropped. A lost connection comes back by itself. It hears nothing more
/// once the last clone of its store is gone.
#[derive(Debug)]
pub struct Listener {
    news: broadcast::Receiver<News>,
    /// Keeps the channel open.
    _sender: broadcast::Sender<News>,
    /// What feeds it, if that is a task of its own.
    _task: Option<Arc<Abort>>,
}

#[derive(Debug)]
struct Abort(AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    /// Waits for the next news. May be given up and called again.
    pub async fn next(&mut self) -> News {
        match self.news.recv().await {
            Ok(news) => news,
            Err(broadcast::error::RecvError::Lagged(_)) => News::Missed,
            // It holds a sender itself.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Passes a call on to whichever store it is.
macro_rules! either {
    ($store:expr, $name:ident($($argument:expr),*)) => {
        {
            let outcome = match $store {
                Store::Memory(memory) => memory.$name($($argument),*),
                Store::Redis(redis) => redis.$name($($argument),*).await,
            };
            if outcome.is_err() {
                metrics::store_failed(stringify!($name));
            }
            outcome
        }
    };
}

impl Store {
    /// The value of a key.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        either!(self, get(key))
    }

    /// Sets a key's value for `ttl` from now, at least a millisecond and [`FOREVER`] at most.
    pub async fn put(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), Error> {
        either!(self, put(key, value, ttl))
    }

    /// The same, if the key has no value; says whether it had none.
    pub async fn put_new(&self, key: &str, value: &[u8], ttl: Duration) -> Result<bool, Error> {
        either!(self, put_new(key, value, ttl))
    }

    /// The same, if the key's value is `old`; says whether it was.
    pub async fn swap(&self, key: &str, old: &[u8], new: &[u8], ttl: Duration) -> Result<bool, Error> {
        either!(self, swap(key, old, new, ttl))
    }

    /// Takes a key's value away; of many who take, one gets it.
    pub async fn take(&self, key: &str) -> Result<Option<Bytes>, Error> {
        either!(self, take(key))
    }

    /// Removes a key, whatever it holds; says whether there was one.
    pub async fn remove(&self, key: &str) -> Result<bool, Error> {
        either!(self, remove(key))
    }

    /// Puts a member into a set for `ttl` from now; each member expires by itself.
    pub async fn add(&self, set: &str, member: &[u8], ttl: Duration) -> Result<(), Error> {
        either!(self, add(set, member, ttl))
    }

    /// Takes a member out of a set; says whether it was there.
    pub async fn discard(&self, set: &str, member: &[u8]) -> Result<bool, Error> {
        either!(self, discard(set, member))
    }

    /// All members of a set.
    pub async fn members(&self, set: &str) -> Result<Vec<Bytes>, Error> {
        either!(self, members(set))
    }

    /// Tells all who listen to the topic now, on every replica.
    pub async fn announce(&self, topic: &str, message: &[u8]) -> Result<(), Error> {
        either!(self, announce(topic, message))
    }

    /// Hears what is announced from now on; [`News::Missed`] says when "now" is.
    pub fn listen(&self, topic: &str) -> Listener {
        match self {
            Self::Memory(memory) => memory.listen(topic),
            Self::Redis(redis) => redis.listen(topic),
        }
    }
}

fn bounded(ttl: Duration) -> Duration {
    ttl.clamp(Duration::from_millis(1), FOREVER)
}

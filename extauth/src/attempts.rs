//! Failed attempts, so that nobody can guess for long: counted by client address, and by the key or user that was tried.
//!
//! What is counted by address are different wrong credentials: a client that repeats one wrong key does not shut out those
//! who share its address. A key or user under attack stays usable for everybody else: an address that has not failed
//! itself may always try once.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;
use proto::extauth::FailedAttempts as Bounds;

use crate::check::Check;
use crate::metrics;

/// Attempts are counted for so many seconds, then anew.
pub const WINDOW: u64 = 60;
/// Addresses and credentials that are remembered at most, about 100 bytes each.
const CAPACITY: u64 = 100_000;
/// The last different credentials that are remembered of an address.
const REMEMBERED: usize = 4;

/// Too many attempts; the next may come after so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many failed attempts")]
pub struct TooMany(pub u64);

/// What is known about failures; clones share it.
#[derive(Clone)]
pub struct Attempts {
    counts: Cache<u64, Arc<Mutex<Count>>, ahash::RandomState>,
    /// Keyed at random, so that nobody can choose addresses that are counted together.
    hasher: ahash::RandomState,
    /// The last window in which anybody failed.
    last: Arc<AtomicU64>,
    counted: metrics::Attempts,
}

#[derive(Default)]
struct Count {
    window: u64,
    failures: u32,
    recent: [u64; REMEMBERED],
}

/// One attempt before its credential is looked at.
#[derive(Debug)]
pub struct Attempt<'a> {
    attempts: &'a Attempts,
    bounds: Bounds,
    window: u64,
    rehearsal: bool,
    /// Nobody is shut out whom Envoy does not name: they would all be one.
    address: Option<u64>,
    credential: Option<u64>,
}

impl Default for Attempts {
    fn default() -> Self {
        let counts = Cache::builder()
            .max_capacity(CAPACITY)
            .time_to_idle(Duration::from_secs(2 * WINDOW))
            .build_with_hasher(ahash::RandomState::default());
        Self {
            counts,
            hasher: ahash::RandomState::default(),
            last: Arc::default(),
            counted: metrics::Attempts::default(),
        }
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Attempts").field("counts", &self.counts.entry_count()).finish_non_exhaustive()
    }
}

impl Attempts {
    /// Starts an attempt at `credential`: what is tried without the secret part, such as a user or a key's id. Refused when
    /// there were too many.
    pub fn start<'a>(
        &'a self,
        bounds: &Bounds,
        check: &Check<'_>,
        credential: Option<&str>,
    ) -> Result<Attempt<'a>, TooMany> {
        let window = check.now() / WINDOW + 1;
        let attempt = Attempt {
            attempts: self,
            bounds: *bounds,
            window,
            rehearsal: check.is_rehearsal(),
            address: client(check, bounds.trusted_hops).map(|address| self.hash(("address", address))),
            credential: credential.map(|name| self.hash(("credential", name))),
        };
        // Most of the time nobody has failed lately.
        if self.last.load(Ordering::Relaxed) != window {
            return Ok(attempt);
        }
        let failures = |place: Option<u64>| place.map_or(0, |place| self.failures(place, window));
        let (failed, tried) = (failures(attempt.address), failures(attempt.credential));
        let by_address = bounds.per_address > 0 && failed >= bounds.per_address;
        let by_credential = bounds.per_credential > 0 && tried >= bounds.per_credential && failed > 0;
        if by_address || by_credential {
            if !attempt.rehearsal {
                self.counted.refused.increment(1);
            }
            return Err(TooMany(window * WINDOW - check.now()));
        }
        Ok(attempt)
    }

    fn failures(&self, place: u64, window: u64) -> u32 {
        self.counts.get(&place).map_or(0, |count| {
            let count = count.lock();
            if count.window == window { count.failures } else { 0 }
        })
    }

    fn fail(&self, place: u64, window: u64, tried: Option<u64>) {
        let count = self.counts.get_with(place, Arc::default);
        let mut count = count.lock();
        if count.window != window {
            *count = Count { window, ..Count::default() };
        }
        if let Some(tried) = tried {
            if count.recent.contains(&tried) {
                return;
            }
            count.recent.rotate_right(1);
            if let Some(first) = count.recent.first_mut() {
                *first = tried;
            }
        }
        count.failures = count.failures.saturating_add(1);
    }

    fn hash(&self, what: impl Hash) -> u64 {
        self.hasher.hash_one(what)
    }
}

impl Attempt<'_> {
    /// It failed with this secret.
    pub fn failed(self, secret: &str) {
        if self.rehearsal {
            return;
        }
        let Self { attempts, window, address, credential, .. } = self;
        attempts.counted.failed.increment(1);
        if let Some(address) = address {
            attempts.last.store(window, Ordering::Relaxed);
            attempts.fail(address, window, Some(attempts.hash((credential, secret))));
        }
        if let Some(credential) = credential.filter(|_| self.bounds.per_credential > 0) {
            attempts.fail(credential, window, None);
        }
    }
}

/// Whose failures are counted together: an IPv6 client has a network of 64 bits at least.
pub(crate) fn client(check: &Check<'_>, trusted_hops: u8) -> Option<IpAddr> {
    let forwarded = if trusted_hops > 0 { check.forwarded(trusted_hops) } else { None };
    Some(match forwarded.or_else(|| check.source())? {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    })
}

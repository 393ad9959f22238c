//! Logins that were started lately, counted so that nobody can fill the store with them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::extauth::StartedLogins as Bounds;

use crate::attempts::{TooMany, client};
use crate::check::Check;

/// What this process has started; clones share it.
#[derive(Clone, Default)]
pub struct Started(Arc<Mutex<Logins>>);

/// 32 bytes each, and no more of them than the bounds say.
#[derive(Default)]
struct Logins {
    /// When each is forgotten, in seconds since 1970, and whose it is.
    order: VecDeque<(u64, Option<IpAddr>)>,
    by_address: HashMap<IpAddr, u32, ahash::RandomState>,
}

impl Started {
    /// Notes a login that is remembered for so many seconds. Refused when there are too many.
    pub(super) fn note(&self, bounds: &Bounds, check: &Check<'_>, seconds: u64) -> Result<(), TooMany> {
        let now = check.now();
        let address = client(check, bounds.trusted_hops);
        let mut logins = self.0.lock();
        logins.forget(now);
        let full = bounds.total > 0 && logins.order.len() >= bounds.total as usize;
        let own = address.and_then(|address| logins.by_address.get(&address)).copied().unwrap_or_default();
        if full || (bounds.per_address > 0 && own >= bounds.per_address) {
            let of_whom = |(_, other): &&(u64, Option<IpAddr>)| full || *other == address;
            let next = logins.order.iter().find(of_whom).map_or(now, |(until, _)| *until);
            return Err(TooMany(next.saturating_sub(now).max(1)));
        }
        logins.order.push_back((now.saturating_add(seconds), address));
        if let Some(address) = address {
            *logins.by_address.entry(address).or_default() += 1;
        }
        Ok(())
    }
}

impl Logins {
    fn forget(&mut self, now: u64) {
        while let Some(&(until, address)) = self.order.front()
            && until <= now
        {
            self.order.pop_front();
            if let Some(address) = address
                && let Some(count) = self.by_address.get_mut(&address)
            {
                *count -= 1;
                if *count == 0 {
                    self.by_address.remove(&address);
                }
            }
        }
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Started").field("logins", &self.0.lock().order.len()).finish_non_exhaustive()
    }
}

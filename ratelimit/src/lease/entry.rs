//! What a replica knows of one counter.

use super::{Millis, window_millis, window_number};

/// For how long a lease should last, and how long one lies idle before it is given back.
pub(crate) const HOLD: Millis = 1000;
/// Shorter spans say too little about demand. A lease grows at most by `HOLD / LEAST_SPAN` at a time.
const LEAST_SPAN: Millis = 125;

/// One counter's running window, as far as this replica had a part in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    limit: u32,
    number: u64,
    /// When the window is over at the latest by the replica's clock.
    ends: Millis,
    /// The authority's count when last heard, leases of all replicas included.
    count: u64,
    /// What this replica has debited in the window, and not given back, with what it admitted alone.
    ledger: u64,
    /// What of it was admitted without the authority.
    alone: u64,
    /// What of it may still be spent.
    left: u64,
    /// Hits asked for since `since`.
    used: u64,
    since: Millis,
    last_used: Millis,
}

/// A moment of a counter, told by the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The window it was charged in.
    pub number: u64,
    /// End of that window on the replica's clock, or a little before.
    pub ends: Millis,
    /// Hits in that window.
    pub count: u64,
}

/// How far local knowledge reaches for a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// The limit is used up until the window ends.
    Over {
        /// The authority's count.
        count: u64,
    },
    /// So many of the hits are taken from the lease. They must be spent or put back.
    Taken(u64),
}

impl Heard {
    /// `sent` is the replica's clock before it sent the charge, so whatever time the message took only shortens the lease.
    pub fn new(sent: Millis, authority_now: Millis, window: u32, count: u64) -> Self {
        let number = window_number(authority_now, window);
        let ends = sent + (number + 1) * window_millis(window) - authority_now;
        Self { number, ends, count }
    }
}

impl Entry {
    /// A counter heard of for the first time.
    pub fn new(limit: u32, heard: Heard, now: Millis) -> Self {
        Self {
            limit,
            number: heard.number,
            ends: heard.ends,
            count: heard.count,
            ledger: 0,
            alone: 0,
            left: 0,
            used: 0,
            since: now,
            last_used: now,
        }
    }

    /// The limit in force from now on.
    pub fn limit_to(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Whether the window still runs.
    pub fn runs(&self, now: Millis) -> bool {
        now < self.ends
    }

    /// Takes hits from the lease, as many as there are.
    pub fn cover(&mut self, hits: u64, now: Millis) -> Cover {
        if !self.runs(now) {
            return Cover::Taken(0);
        }
        self.used = self.used.saturating_add(hits);
        self.last_used = now;
        if hits > 0 && self.left == 0 && self.count >= u64::from(self.limit) {
            return Cover::Over { count: self.count };
        }
        let taken = hits.min(self.left);
        self.left -= taken;
        Cover::Taken(taken)
    }

    /// Puts back what [`Self::cover`] took in window `number` and nobody spent.
    pub fn put_back(&mut self, taken: u64, number: u64) {
        if self.number == number {
            self.left += taken;
        }
    }

    /// Takes note of a charge of which `kept` hits stay counted. Of them `leased` are for later.
    /// What came too late, from a window that is over, is dropped.
    pub fn hear(&mut self, limit: u32, heard: Heard, kept: u64, leased: u64, now: Millis) {
        if heard.number < self.number {
            return;
        }
        if heard.number > self.number {
            *self = Self { used: self.used, since: self.since, ..Self::new(limit, heard, now) };
        }
        self.limit = limit;
        self.ends = self.ends.min(heard.ends);
        self.count = heard.count;
        self.ledger += kept;
        self.left += leased;
    }

    /// Hits given back to the counter by a request. It may have room again.
    pub fn refund(&mut self, hits: u64, heard: Heard) {
        if heard.number == self.number {
            self.count = heard.count;
            self.ledger = self.ledger.saturating_sub(hits).max(self.left);
        }
    }

    /// Takes note of hits that were admitted without the authority, to be asserted in its next epoch.
    pub fn remember(&mut self, hits: u64) {
        self.ledger += hits;
        self.alone += hits;
    }

    /// Largest lease to ask for: with what is left no more than half of an even share in what remains, so that leases shrink to
    /// nothing as the limit comes near, and no crash strands more than that.
    pub fn share(&self, now: Millis, replicas: u32) -> u64 {
        if !self.runs(now) {
            return 0;
        }
        let remaining = u64::from(self.limit).saturating_sub(self.count);
        (remaining / (2 * u64::from(replicas)).max(1)).saturating_sub(self.left)
    }

    /// Size of the lease to ask for, zero for none: its share, but no more than is used in [`HOLD`].
    pub fn wanted(&self, now: Millis, replicas: u32) -> u64 {
        let span = now.saturating_sub(self.since).max(LEAST_SPAN);
        let demand = self.used.saturating_mul(HOLD) / span;
        if demand < 2 { 0 } else { self.share(now, replicas).min(demand.saturating_sub(self.left)) }
    }

    /// Begins to measure demand anew, as a lease is asked for.
    pub fn measure(&mut self, now: Millis) {
        self.used = 0;
        self.since = now;
    }

    /// Takes what has lain idle out of the lease and out of the ledger, for the authority to take back. From here on it is
    /// lost to this replica, whatever becomes of the message.
    pub fn release(&mut self) -> u64 {
        self.ledger -= self.left;
        std::mem::take(&mut self.left)
    }

    /// Whether nothing was asked of it for [`HOLD`].
    pub fn is_idle(&self, now: Millis) -> bool {
        now.saturating_sub(self.last_used) >= HOLD
    }

    /// The window's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What this replica has debited in the window, and not given back, with what it admitted alone.
    pub fn ledger(&self) -> u64 {
        self.ledger
    }

    /// The same without what it admitted alone.
    pub fn debited(&self) -> u64 {
        self.ledger.saturating_sub(self.alone)
    }

    /// What may still be spent.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Hits used of the limit, as far as known here: what other replicas hold counts as used.
    pub fn count(&self) -> u64 {
        self.count.saturating_sub(self.left)
    }

    /// When the window ends on the replica's clock.
    pub fn ends(&self) -> Millis {
        self.ends
    }
}

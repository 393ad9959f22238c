//! Hits that a replica debits from the shared counter before it admits anything with them. No IO, no clock.
//!
//! The authority (Redis, or [`Authority`] in tests) counts; a replica charges a counter for more hits than it needs at once and
//! spends the rest by itself. Whatever is lost on the way has been counted already, so faults can only admit less. Three
//! mechanisms keep that true when the authority loses counts, as Redis does in a failover or a restart:
//!
//! - **Re-assert.** Each replica keeps a ledger of what it has debited in the running window, and tells it to an authority of
//!   a new [`Epoch`], which then counts at least the sum.
//! - **Learn.** Until all members have done so, or their membership lapses, the authority charges nothing.
//! - **Fence.** A charge names the epoch that it was made in. The authority refuses one of another epoch, and a replica that
//!   has moved on drops replies to what it sent before, for its ledger did not hold them when it was asserted.
//!
//! Leases shrink as the limit comes near ([`Entry::wanted`]), down to none: the last hits are charged one by one.
//!
//! What can be admitted above a limit in one window, all of it by hits that no living replica and no copy of the counters
//! remembers: nothing while the authority keeps its counts, whatever becomes of messages and replicas; nothing in a failover
//! that all replicas survive; with the replicas of a set lost at the same time, at most what that set debited in the window,
//! and not more than all debits that had not been copied.

pub use self::{
    authority::{Authority, Greeting, Refusal, Timing, Welcome},
    entry::{Cover, Entry, Heard},
    fence::Fence,
};

mod authority;
mod entry;
mod fence;

/// Milliseconds: on the authority's clock since the Unix epoch, on a replica's since some moment of its own.
pub type Millis = u64;

/// One process, for as long as it runs. Chosen at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

/// One life of the authority's counts. Another one begins when they may have been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Number of a fixed window since the Unix epoch.
pub fn window_number(now: Millis, window: u32) -> u64 {
    now / window_millis(window)
}

fn window_millis(window: u32) -> Millis {
    u64::from(window.max(1)) * 1000
}

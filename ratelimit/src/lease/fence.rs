//! Which epoch a replica lives in.

use super::Epoch;

/// A replica's view of the authority: nothing is charged before its ledger stands in the epoch and the epoch is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fence {
    epoch: Option<Epoch>,
    asserted: bool,
    open: bool,
}

impl Fence {
    /// Takes note of the authority's epoch. From here on replies to what was sent in another one are worth nothing.
    pub fn hear(&mut self, epoch: Epoch, open: bool) {
        if self.epoch == Some(epoch) {
            self.open = open;
        } else {
            *self = Self { epoch: Some(epoch), asserted: false, open };
        }
    }

    /// The authority has the whole ledger as it stood when this epoch was first heard of.
    pub fn assert(&mut self, epoch: Epoch) {
        self.asserted |= self.epoch == Some(epoch);
    }

    /// The epoch last heard of.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The epoch to charge in, `None` while nothing may be charged.
    pub fn charging(&self) -> Option<Epoch> {
        self.epoch.filter(|_| self.asserted && self.open)
    }

    /// The epoch in which the ledger has to be asserted first.
    pub fn unasserted(&self) -> Option<Epoch> {
        self.epoch.filter(|_| !self.asserted)
    }

    /// The epoch in which the authority has the ledger.
    pub fn asserted(&self) -> Option<Epoch> {
        self.epoch.filter(|_| self.asserted)
    }

    /// Whether a reply to what was sent in `epoch` still counts.
    pub fn admits(&self, epoch: Epoch) -> bool {
        self.epoch == Some(epoch)
    }
}

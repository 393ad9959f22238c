//! What Redis does for leases, as plain data. `store/lease/*.lua` is the same for Redis, and a test compares the two.

use std::collections::BTreeMap;

use super::{Epoch, Millis, ReplicaId, window_number};
use crate::{
    key::Key,
    store::{self, Charge, Outcome},
};

/// How long the authority waits for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// A replica not heard of for so long is no member any more.
    pub membership: Millis,
    /// An epoch opens no earlier than this after it began: who is not known as a member has so long to be heard.
    pub settle: Millis,
}

/// Fixed windows, with the epoch that guards them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    timing: Timing,
    /// Names the history of the counts: another one after a restart, and after a copy took over.
    run: u64,
    state: Option<State>,
    counts: BTreeMap<(Key, u64), u64>,
    assertions: BTreeMap<(Key, u64), Assertion>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    run: u64,
    epoch: Epoch,
    began: Millis,
    /// The counts began at nothing, so what is asserted comes on top.
    empty: bool,
    open: bool,
    members: BTreeMap<ReplicaId, Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Member {
    expires: Millis,
    /// The epoch in which its ledger stands.
    asserted: Option<Epoch>,
    /// Number of its last return.
    returned: u64,
}

/// Ledgers of one counter's window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Assertion {
    epoch: Epoch,
    /// The count before the first of them.
    base: u64,
    ledgers: BTreeMap<ReplicaId, u64>,
}

/// What a replica says of itself, now and then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Greeting {
    /// Who.
    pub replica: ReplicaId,
    /// The epoch in which it has asserted its ledger.
    pub asserted: Option<Epoch>,
    /// Number of the last return it has sent.
    pub returned: u64,
    /// The members it knows of.
    pub knows: Vec<ReplicaId>,
}

/// The authority's answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Welcome {
    /// The epoch that runs.
    pub epoch: Epoch,
    /// Whether charges are taken.
    pub open: bool,
    /// All members.
    pub members: Vec<ReplicaId>,
}

/// Why a charge was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Another epoch runs.
    Epoch(Epoch),
    /// The epoch is right, and not open yet.
    Learning,
}

impl Authority {
    /// One without counts.
    pub fn new(timing: Timing, run: u64) -> Self {
        Self { timing, run, state: None, counts: BTreeMap::new(), assertions: BTreeMap::new() }
    }

    /// Goes on under another name, as a copy that takes over does.
    pub fn take_over(&mut self, run: u64) {
        self.run = run;
    }

    /// Falls back to an earlier count, as a copy may have it.
    pub fn lose(&mut self, now: Millis, key: Key, window: u32, count: u64) {
        self.counts.insert((key, window_number(now, window)), count);
    }

    /// The epoch of the counts as they are now, once somebody has asked.
    pub fn epoch(&self) -> Option<Epoch> {
        self.state.as_ref().filter(|state| state.run == self.run).map(|state| state.epoch)
    }

    /// The epoch that charges are taken in.
    pub fn open_epoch(&self) -> Option<Epoch> {
        self.state.as_ref().filter(|state| state.run == self.run && state.open).map(|state| state.epoch)
    }

    /// The state, in a new epoch if this is another run than the last, or the state is lost.
    fn enter(&mut self, now: Millis) -> &mut State {
        let run = self.run;
        let renewed = match self.state.take() {
            Some(state) if state.run == run => state,
            Some(state) => {
                let epoch = Epoch((state.epoch.0 + 1).max(now));
                State { run, epoch, began: now, empty: false, open: false, ..state }
            }
            None => State { run, epoch: Epoch(now), began: now, empty: true, open: false, members: BTreeMap::new() },
        };
        self.state.insert(renewed)
    }

    /// Keeps a replica a member, and opens the epoch once all members' ledgers stand.
    pub fn greet(&mut self, now: Millis, greeting: &Greeting) -> Welcome {
        let Timing { membership, settle } = self.timing;
        let state = self.enter(now);
        let new = Member { expires: 0, asserted: None, returned: 0 };
        let member = state.members.entry(greeting.replica).or_insert(new);
        member.expires = now + membership;
        member.returned = member.returned.max(greeting.returned);
        member.asserted = greeting.asserted;
        if !state.open {
            for known in &greeting.knows {
                state.members.entry(*known).or_insert(new);
            }
        }
        // While there was no authority nobody could be heard of, so an epoch waits for all that it knows.
        state.members.retain(|_, member| member.expires.max(state.began + membership) > now);
        let all_stand = state.members.values().all(|member| member.asserted == Some(state.epoch));
        state.open |= all_stand && now >= state.began + settle;
        Welcome { epoch: state.epoch, open: state.open, members: state.members.keys().copied().collect() }
    }

    /// Counts at least what the ledgers say. `ledger` is absolute, so hearing it twice changes nothing.
    pub fn assert(
        &mut self,
        now: Millis,
        replica: ReplicaId,
        epoch: Epoch,
        ledgers: &[(Key, u32, u64, u64)],
    ) -> Result<(), Refusal> {
        let state = self.enter(now);
        if state.epoch != epoch {
            return Err(Refusal::Epoch(state.epoch));
        }
        let empty = state.empty;
        for &(key, window, number, ledger) in ledgers {
            if number != window_number(now, window) {
                continue;
            }
            let count = self.counts.entry((key, number)).or_default();
            let fresh = || Assertion { epoch, base: if empty { 0 } else { *count }, ledgers: BTreeMap::new() };
            let assertion = self.assertions.entry((key, number)).or_insert_with(fresh);
            if assertion.epoch != epoch {
                *assertion = fresh();
            }
            let before = assertion.least();
            let ledger_before = assertion.ledgers.entry(replica).or_default();
            *ledger_before = ledger.max(*ledger_before);
            *count += assertion.least() - before;
        }
        Ok(())
    }

    /// Charges all, or what their undo leaves of them when they deny the request.
    pub fn charge(&mut self, now: Millis, epoch: Epoch, charges: &[Charge]) -> Result<Vec<Outcome>, Refusal> {
        self.admit(now, epoch)?;
        let counts: Vec<_> =
            charges.iter().map(|charge| self.add(now, charge.key, charge.window, charge.hits)).collect();
        let denied = store::is_denied(charges, &counts);
        let seconds_left = |window: u32| {
            let elapsed = now / 1000 % u64::from(window.max(1));
            window - u32::try_from(elapsed).unwrap_or_default()
        };
        let outcome = |(charge, count): (&Charge, _)| charge.outcome(count, denied, seconds_left(charge.window));
        let outcomes: Vec<_> = charges.iter().zip(counts).map(outcome).collect();
        for (charge, _) in charges.iter().zip(&outcomes).filter(|(charge, outcome)| !outcome.charged && charge.hits > 0)
        {
            self.add(now, charge.key, charge.window, -charge.hits);
        }
        Ok(outcomes)
    }

    /// Takes hits back that a member did not spend. `sequence` numbers a replica's returns, so each counts once and in order.
    pub fn take_back(
        &mut self,
        now: Millis,
        replica: ReplicaId,
        epoch: Epoch,
        sequence: u64,
        returns: &[(Key, u32, u64, u64)],
    ) -> Result<(), Refusal> {
        let state = self.admit(now, epoch)?;
        match state.members.get_mut(&replica) {
            Some(member) if member.returned < sequence => member.returned = sequence,
            _ => return Ok(()),
        }
        for &(key, window, number, hits) in returns {
            if number == window_number(now, window) {
                self.add(now, key, window, -i64::try_from(hits).unwrap_or(i64::MAX));
            }
        }
        Ok(())
    }

    /// Hits in the counter's window that runs now.
    pub fn count(&self, now: Millis, key: Key, window: u32) -> u64 {
        self.counts.get(&(key, window_number(now, window))).copied().unwrap_or_default()
    }

    fn admit(&mut self, now: Millis, epoch: Epoch) -> Result<&mut State, Refusal> {
        let state = self.enter(now);
        match state.open {
            _ if state.epoch != epoch => Err(Refusal::Epoch(state.epoch)),
            true => Ok(state),
            false => Err(Refusal::Learning),
        }
    }

    fn add(&mut self, now: Millis, key: Key, window: u32, hits: i64) -> u64 {
        let count = self.counts.entry((key, window_number(now, window))).or_default();
        *count = count.saturating_add_signed(hits);
        *count
    }
}

impl Assertion {
    fn least(&self) -> u64 {
        self.base.max(self.ledgers.values().sum())
    }
}

//! One state of the world: the authority, its copy, the replicas, what is on the wire.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry as DescriptorEntry;
use ratelimit::{
    key::Key,
    lease::{
        Authority, Cover, Entry, Epoch, Fence, Greeting, Heard, Millis, ReplicaId, Timing, Welcome, window_number,
    },
    store::{Algorithm, Charge, Denies, OnStoreLoss, Undo},
};

/// What can happen, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) replicas: u64,
    pub(super) limit: u32,
    /// Length of the window in seconds.
    pub(super) window: u32,
    pub(super) timing: Timing,
    /// Messages of one replica that are on the wire at once.
    pub(super) in_flight: usize,
    /// How often leases are given back.
    pub(super) returns: u8,
    /// How often the clock moves on by half a second.
    pub(super) ticks: u8,
    /// A copy with the counts of some earlier moment takes over.
    pub(super) failovers: u8,
    /// The authority starts again without counts.
    pub(super) restarts: u8,
    pub(super) crashes: u8,
    /// Hits that replicas admit without the authority, each within its even part of the limit, as `share` does. The authority is
    /// then away for a while before it loses its counts.
    pub(super) alone: u8,
    pub(super) without: Without,
    /// However long it takes.
    pub(super) exhaustive: bool,
}

/// The mechanism that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    Assertion,
    Learning,
    Fence,
    Shrinking,
    Debit,
    Sequence,
    SendInstant,
    Memory,
    Seal,
}

const TICK: Millis = 500;
/// A whole number of the windows used.
const START: Millis = 1_000_000;

impl Setup {
    /// Messages may be late, lost and duplicated; nothing else goes wrong, and the window does not end.
    pub(super) const CALM: Self = Self {
        replicas: 2,
        limit: 4,
        window: 1000,
        timing: Timing { membership: 1_000_000, settle: 0 },
        in_flight: 1,
        returns: 1,
        ticks: 0,
        failovers: 0,
        restarts: 0,
        crashes: 0,
        alone: 0,
        without: Without::Nothing,
        exhaustive: false,
    };
    /// Windows of a second that end.
    pub(super) const ROLLING: Self = Self { window: 1, ticks: 3, limit: 2, ..Self::CALM };
    /// Members that are not heard of lapse.
    pub(super) const TIMED: Self =
        Self { timing: Timing { membership: 2 * TICK, settle: TICK }, ticks: 3, ..Self::CALM };

    pub(super) fn max_states(&self) -> usize {
        if self.exhaustive { usize::MAX } else { 250_000 }
    }

    fn timing(&self) -> Timing {
        match self.without {
            Without::Learning => Timing { membership: 0, settle: 0 },
            _ => self.timing,
        }
    }

    /// What a replica may admit of the limit by itself.
    fn part(&self, id: usize) -> u64 {
        let (limit, id) = (u64::from(self.limit), id as u64);
        limit / self.replicas + u64::from(id < limit % self.replicas)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    now: Millis,
    primary: Authority,
    /// Counts of an earlier moment, which a copy of the authority has.
    copy: Option<Authority>,
    runs: u64,
    replicas: Vec<Replica>,
    wire: Vec<Message>,
    /// Hits admitted, by window.
    spent: BTreeMap<u64, u64>,
    /// What crashed replicas had debited.
    forgotten: u64,
    /// The authority does not answer.
    away: bool,
    /// Hits that may still be admitted without it.
    alone: u8,
    returns: u8,
    ticks: u8,
    failovers: u8,
    restarts: u8,
    crashes: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Replica {
    alive: bool,
    fence: Fence,
    entry: Option<Entry>,
    returned: u64,
    /// When it was last told that it is a member.
    heard: Millis,
    /// It has told its ledger, or is about to, and adds nothing to it that the authority does not count.
    sealed: bool,
    /// What it had debited above its part of the limit in the life of the counts that was lost, by charges too that were
    /// answered after it had admitted something alone.
    above: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Message {
    from: usize,
    sent: Millis,
    epoch: Option<Epoch>,
    body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Body {
    Greet { asserted: Option<Epoch>, returned: u64 },
    Welcome { epoch: Epoch, open: bool },
    Assert { number: u64, ledger: u64 },
    Asserted { ledger: u64 },
    Charge { hits: u64, lease: bool },
    Charged { hits: u64, lease: bool, now: Millis, count: u64, kept: bool },
    Return { sequence: u64, number: u64, hits: u64, again: bool },
}

impl Body {
    fn is_for_the_authority(&self) -> bool {
        matches!(
            self,
            Self::Greet { .. } | Self::Assert { .. } | Self::Charge { .. } | Self::Return { again: true, .. }
        )
    }
}

fn key() -> Key {
    Key::new("model", 3600, Algorithm::FixedWindow, &[DescriptorEntry { key: "a".into(), value: "b".into() }], &[])
}

fn charge(setup: &Setup, hits: u64) -> Charge {
    Charge {
        key: key(),
        hits: i64::try_from(hits).unwrap(),
        limit: setup.limit,
        denies: Denies::Alone,
        undo: Undo::Denied,
        algorithm: Algorithm::FixedWindow,
        window: setup.window,
        on_store_loss: OnStoreLoss::Error,
        leases: true,
    }
}

/// A counter that has been looked at, at the beginning of its window.
fn fresh(setup: &Setup) -> Entry {
    Entry::new(setup.limit, Heard::new(START, START, setup.window, 0), START)
}

impl World {
    /// All replicas are members of an open epoch.
    pub(super) fn new(setup: &Setup) -> Self {
        let mut primary = Authority::new(setup.timing(), 0);
        // A reply that is late to begin with is what measures a window wrongly.
        let entry = (setup.without != Without::SendInstant).then(|| fresh(setup));
        let member =
            Replica { alive: true, fence: Fence::default(), entry, returned: 0, heard: START, sealed: false, above: 0 };
        let mut replicas: Vec<_> = (0..setup.replicas).map(|_| member.clone()).collect();
        for _ in 0..2 {
            for (id, replica) in (0..).zip(&mut replicas) {
                let asserted = replica.fence.asserted();
                let greeting = Greeting { replica: ReplicaId(id), asserted, returned: 0, knows: vec![] };
                let mut welcome = primary.greet(START - setup.timing.settle, &greeting);
                welcome = Welcome { open: primary.greet(START, &greeting).open, ..welcome };
                replica.fence.hear(welcome.epoch, welcome.open);
                replica.fence.assert(welcome.epoch);
            }
        }
        for (id, replica) in (0..).zip(&mut replicas) {
            let asserted = replica.fence.asserted();
            let greeting = Greeting { replica: ReplicaId(id), asserted, returned: 0, knows: vec![] };
            let welcome = primary.greet(START, &greeting);
            replica.fence.hear(welcome.epoch, welcome.open);
            assert!(replica.fence.charging().is_some());
        }
        Self {
            now: START,
            copy: None,
            primary,
            runs: 0,
            replicas,
            wire: vec![],
            spent: BTreeMap::new(),
            forgotten: 0,
            away: false,
            alone: setup.alone,
            returns: setup.returns,
            ticks: setup.ticks,
            failovers: setup.failovers,
            restarts: setup.restarts,
            crashes: setup.crashes,
        }
    }

    /// How far a promise is broken.
    pub(super) fn excess(&self, setup: &Setup) -> Option<u64> {
        let lost_counts = self.runs > 0;
        let above: u64 = self.replicas.iter().map(|replica| replica.above).sum();
        let above = above.min((setup.alone - self.alone).into());
        let allowed = u64::from(setup.limit) + above + if lost_counts { self.forgotten } else { 0 };
        let spent = self.spent.values().copied().max().unwrap_or_default();
        let most_held = self.replicas.iter().filter_map(|replica| Some(replica.entry.as_ref()?.left())).max();
        let stranded = most_held.unwrap_or_default().saturating_sub(u64::from(setup.limit) / 2);
        (spent > allowed || stranded > 0).then(|| spent.saturating_sub(allowed) + stranded)
    }

    pub(super) fn successors(&self, setup: &Setup) -> Vec<Self> {
        let mut all = Vec::new();
        for id in 0..self.replicas.len() {
            if self.replicas[id].alive {
                self.requests(setup, id, &mut all);
                self.decide_alone(setup, id, &mut all);
                self.greetings(setup, id, &mut all);
            }
        }
        for at in 0..self.wire.len() {
            let mut after = self.clone();
            let message = after.wire.remove(at);
            if matches!(message.body, Body::Assert { .. } | Body::Asserted { .. }) {
                after.replicas[message.from].sealed = false;
            }
            all.push(after.clone());
            if self.away && message.body.is_for_the_authority() {
                continue;
            }
            after.replicas[message.from].sealed = self.replicas[message.from].sealed;
            after.deliver(setup, message);
            all.push(after);
        }
        self.faults(setup, &mut all);
        for world in &mut all {
            world.forget(setup);
            world.note_lost_debits(setup);
            for entry in world.replicas.iter_mut().filter_map(|replica| replica.entry.as_mut()) {
                entry.measure(0);
            }
        }
        all
    }

    /// Drops what makes no difference any more, so that fewer states are told apart.
    fn forget(&mut self, setup: &Setup) {
        let replicas = &self.replicas;
        self.wire.retain(|message| match (&message.body, message.epoch) {
            (Body::Charged { .. } | Body::Asserted { .. }, Some(epoch)) => {
                let replica = &replicas[message.from];
                replica.alive && (replica.fence.admits(epoch) || setup.without == Without::Fence)
            }
            (Body::Welcome { .. }, _) => replicas[message.from].alive,
            _ => true,
        });
        self.wire.sort();
    }

    /// What is debited in the life of the counts that is, or will be, lost.
    fn note_lost_debits(&mut self, setup: &Setup) {
        if setup.alone == 0 {
            return;
        }
        let now_counting = if self.runs == 0 { None } else { self.primary.epoch() };
        for (id, replica) in self.replicas.iter_mut().enumerate() {
            if now_counting.is_none() || replica.fence.epoch() != now_counting {
                replica.above = replica.entry.as_ref().map_or(0, Entry::ledger).saturating_sub(setup.part(id));
            }
        }
    }

    fn faults(&self, setup: &Setup, all: &mut Vec<Self>) {
        if setup.alone > 0 && !self.away && (self.restarts > 0 || self.copy.is_some()) {
            all.push(Self { away: true, ..self.clone() });
        }
        if self.failovers > 0 && self.copy.is_none() {
            all.push(Self { copy: Some(self.primary.clone()), ..self.clone() });
        }
        if let Some(mut primary) = self.copy.clone() {
            let runs = self.runs + 1;
            primary.take_over(runs);
            all.push(Self {
                failovers: self.failovers - 1,
                runs,
                now: self.now + 1,
                primary,
                copy: None,
                away: false,
                ..self.clone()
            });
        }
        if self.restarts > 0 {
            let runs = self.runs + 1;
            let primary = Authority::new(setup.timing(), runs);
            let now = self.now + 1;
            all.push(Self { restarts: self.restarts - 1, runs, primary, now, away: false, ..self.clone() });
        }
        for (id, replica) in self.replicas.iter().enumerate().filter(|(_, replica)| self.crashes > 0 && replica.alive) {
            let mut after = Self { crashes: self.crashes - 1, ..self.clone() };
            after.forgotten += replica.entry.as_ref().map_or(0, Entry::ledger);
            after.replicas[id] = Replica { alive: false, entry: None, ..replica.clone() };
            all.push(after);
        }
        // A living replica is heard of before its membership lapses; else it counts as crashed.
        let in_time = |replica: &Replica| !replica.alive || self.now + TICK < replica.heard + setup.timing.membership;
        if self.ticks > 0 && self.replicas.iter().all(in_time) {
            all.push(Self { ticks: self.ticks - 1, now: self.now + TICK, ..self.clone() });
        }
    }

    fn in_flight(&self, id: usize) -> usize {
        self.wire.iter().filter(|message| message.from == id).count()
    }

    fn send(&mut self, id: usize, epoch: Option<Epoch>, body: Body) {
        self.wire.push(Message { from: id, sent: self.now, epoch, body });
    }

    /// A hit comes in, or a lease is asked for or given back.
    fn requests(&self, setup: &Setup, id: usize, all: &mut Vec<Self>) {
        let charging = self.replicas[id].fence.charging().filter(|_| self.in_flight(id) < setup.in_flight);
        let mut after = self.clone();
        let covered = after.replicas[id].entry.as_mut().map(|entry| entry.cover(1, self.now));
        let debit = setup.without != Without::Debit;
        match (covered, charging) {
            (Some(Cover::Over { .. }), _) => return,
            (Some(Cover::Taken(1)), _) => after.spend(setup, 1),
            (_, Some(epoch)) => {
                after.send(id, Some(epoch), Body::Charge { hits: 1, lease: false });
                if !debit {
                    after.spend(setup, 1);
                }
            }
            _ => return,
        }
        all.push(after);
        let Some(epoch) = charging else { return };
        let Some(entry) = &self.replicas[id].entry else { return };
        // Any number of replicas is safe to assume; with one, leases are largest.
        let hits = entry.share(self.now, u32::from(setup.without != Without::Shrinking));
        if hits > 0 {
            let mut after = self.clone();
            after.send(id, Some(epoch), Body::Charge { hits, lease: true });
            all.push(after);
        }
        if entry.left() > 0 && self.returns > 0 {
            let mut after = Self { returns: self.returns - 1, ..self.clone() };
            let replica = &mut after.replicas[id];
            replica.returned += 1;
            let (sequence, number) = (replica.returned, entry.number());
            let hits = replica.entry.as_mut().unwrap().release();
            after.send(id, Some(epoch), Body::Return { sequence, number, hits, again: true });
            all.push(after);
        }
    }

    /// A hit that the authority does not take, or does not answer. It waits for nobody, and for no message on its way.
    fn decide_alone(&self, setup: &Setup, id: usize, all: &mut Vec<Self>) {
        let replica = &self.replicas[id];
        let is_taken = replica.fence.charging().is_some() && replica.fence.charging() == self.primary.open_epoch();
        if self.alone == 0 || (is_taken && !self.away) {
            return;
        }
        let telling = |message: &Message| {
            message.from == id && matches!(message.body, Body::Assert { .. } | Body::Asserted { .. })
        };
        if replica.sealed && self.wire.iter().any(telling) {
            // It has waited long enough to be told that the ledger stands, and does not listen any more.
            let mut after = self.clone();
            after.replicas[id].sealed = false;
            all.push(after);
        }
        let mut after = Self { alone: self.alone - 1, ..self.clone() };
        let entry = after.replicas[id]
            .entry
            .get_or_insert_with(|| Entry::new(setup.limit, Heard::new(self.now, self.now, setup.window, 0), self.now));
        let is_covered = !matches!(entry.cover(1, self.now), Cover::Taken(0));
        if is_covered || entry.ledger() >= setup.part(id) || (replica.sealed && setup.without != Without::Seal) {
            return;
        }
        if setup.without != Without::Memory {
            entry.remember(1);
        }
        after.spend(setup, 1);
        all.push(after);
    }

    /// What a replica does to be a member of the running epoch.
    fn greetings(&self, setup: &Setup, id: usize, all: &mut Vec<Self>) {
        if self.in_flight(id) >= setup.in_flight || (self.runs == 0 && setup.timing.settle == 0) {
            return;
        }
        let replica = &self.replicas[id];
        if setup.timing.settle > 0 && replica.fence.charging().is_some() && replica.heard == self.now {
            return;
        }
        let is_in_touch = replica.fence.charging().is_some_and(|epoch| self.primary.open_epoch() == Some(epoch));
        if is_in_touch && setup.timing.settle == 0 {
            return;
        }
        let mut after = self.clone();
        if let Some(epoch) = replica.fence.unasserted() {
            match &replica.entry {
                Some(entry) if setup.without != Without::Assertion => {
                    let (number, ledger) = (entry.number(), entry.ledger());
                    after.replicas[id].sealed = true;
                    after.send(id, Some(epoch), Body::Assert { number, ledger });
                }
                _ => {
                    after.replicas[id].sealed = true;
                    after.replicas[id].fence.assert(epoch);
                }
            }
        } else {
            let (asserted, returned) = (replica.fence.asserted(), replica.returned);
            after.send(id, None, Body::Greet { asserted, returned });
            if self.wire.iter().any(|message| message.from == id && matches!(message.body, Body::Greet { .. })) {
                return;
            }
        }
        all.push(after);
    }

    fn spend(&mut self, setup: &Setup, hits: u64) {
        *self.spent.entry(window_number(self.now, setup.window)).or_default() += hits;
    }

    fn deliver(&mut self, setup: &Setup, message: Message) {
        let Message { from, sent, epoch, body } = message;
        let replica = ReplicaId(from as u64);
        let now = self.now;
        let answer = match body {
            Body::Greet { asserted, returned } => {
                let knows = (0..setup.replicas).map(ReplicaId).collect();
                let welcome = self.primary.greet(now, &Greeting { replica, asserted, returned, knows });
                Some(Body::Welcome { epoch: welcome.epoch, open: welcome.open })
            }
            Body::Assert { number, ledger } => {
                let asserted =
                    self.primary.assert(now, replica, epoch.unwrap(), &[(key(), setup.window, number, ledger)]);
                asserted.is_ok().then_some(Body::Asserted { ledger })
            }
            Body::Charge { hits, lease } => {
                let charged = self.primary.charge(now, epoch.unwrap(), &[charge(setup, hits)]);
                let outcome = charged.ok().map(|outcomes| outcomes[0]);
                outcome.map(|outcome| {
                    let count = if outcome.charged { outcome.count } else { outcome.count - hits };
                    Body::Charged { hits, lease, now, count, kept: outcome.charged }
                })
            }
            Body::Return { sequence, number, hits, again } => {
                let sequence = if setup.without == Without::Sequence && !again { sequence + 1 } else { sequence };
                let returns = [(key(), setup.window, number, hits)];
                let _ = self.primary.take_back(now, replica, epoch.unwrap(), sequence, &returns);
                again.then_some(Body::Return { sequence, number, hits, again: false })
            }
            body @ (Body::Welcome { .. } | Body::Asserted { .. } | Body::Charged { .. }) => {
                self.receive(setup, &Message { from, sent, epoch, body });
                None
            }
        };
        if let Some(body) = answer {
            self.wire.push(Message { from, sent, epoch, body });
        }
    }

    fn receive(&mut self, setup: &Setup, message: &Message) {
        let now = self.now;
        let replica = &mut self.replicas[message.from];
        if !replica.alive {
            return;
        }
        match message.body {
            Body::Welcome { epoch, open } => {
                replica.fence.hear(epoch, open);
                replica.heard = replica.heard.max(message.sent);
            }
            // Not the answer to what was told before the replica stopped to listen.
            Body::Asserted { ledger }
                if replica.sealed && replica.entry.as_ref().is_some_and(|entry| entry.ledger() == ledger) =>
            {
                replica.fence.assert(message.epoch.unwrap());
            }
            Body::Charged { hits, lease, now: authority_now, count, kept } => {
                if !replica.fence.admits(message.epoch.unwrap()) && setup.without != Without::Fence {
                    return;
                }
                let sent = if setup.without == Without::SendInstant { now } else { message.sent };
                let heard = Heard::new(sent, authority_now, setup.window, count);
                let entry = replica.entry.get_or_insert_with(|| Entry::new(setup.limit, heard, now));
                let kept = if kept { hits } else { 0 };
                entry.hear(setup.limit, heard, kept, if lease { kept } else { 0 }, now);
                // A charge is answered in the window that it was counted in.
                if kept > 0 && !lease && setup.without != Without::Debit {
                    *self.spent.entry(heard.number).or_default() += hits;
                }
            }
            _ => {}
        }
    }
}

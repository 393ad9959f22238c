//! What all runtimes of a process know of leases.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{TIMING, metrics::Metrics};
use crate::{
    key::Key,
    lease::{Cover, Entry, Epoch, Fence, Heard, Millis, ReplicaId},
    store::{
        Algorithm, Charge, Denies, Outcome, StoreError, Undo, is_denied,
        redis::{Charged, Counted, Moment},
    },
};

const SHARDS: usize = 64;
/// For so long after a replica told its ledger nothing is admitted without Redis: a membership, which is how long an epoch
/// waits at most, and a second in which connections come back.
const SEAL: Millis = TIMING.membership + 1000;

/// Entries by counter, behind short locks, and the epoch they live in.
#[derive(Debug)]
pub struct Table {
    pub(super) replica: ReplicaId,
    /// What people call it.
    pub(super) name: String,
    started: Instant,
    pub(super) fence: Mutex<Fence>,
    /// The epoch whose replies count.
    epoch: AtomicU64,
    /// The same, or zero while nothing may be charged in it.
    charging: Arc<AtomicU64>,
    /// Until when nothing may be added to the ledgers that Redis does not count.
    sealed_until: AtomicU64,
    /// Whether Redis answered the last greeting.
    pub(super) hears: AtomicBool,
    pub(super) members: AtomicU32,
    shards: Vec<Mutex<HashMap<Key, Slot>>>,
    max_counters: usize,
    pub(super) hurry: Notify,
    pub(super) metrics: Metrics,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    window: u32,
    /// A lease is being asked for.
    renewing: bool,
    /// With no more than this left, the next lease is asked for.
    low: u64,
    /// Hits above the limit that the metrics have.
    overshoot: u64,
}

/// What is known here of one charge.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// Its counter is used up.
    Over { count: u64, ends: Millis },
    /// So many of its hits are taken from the lease.
    Taken { hits: u64, number: u64, count: u64, ends: Millis },
    /// Only Redis can tell.
    Unknown,
}

/// What the table holds, summed up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) counters: usize,
    pub(super) outstanding: u64,
    pub(super) ledger: u64,
}

impl Part {
    /// What of the charge is left for Redis.
    pub(super) fn rest(&self, charge: &Charge) -> Charge {
        let taken = i64::try_from(self.taken()).unwrap_or(i64::MAX);
        Charge { hits: charge.hits - taken, ..*charge }
    }

    fn taken(&self) -> u64 {
        match self {
            Self::Taken { hits, .. } => *hits,
            Self::Over { .. } | Self::Unknown => 0,
        }
    }
}

impl Table {
    /// Remembers at most about so many counters, about 200 bytes each.
    pub fn new(max_counters: usize) -> Self {
        let replica = ReplicaId(rand::random());
        Self {
            name: format!("{:016x}", replica.0),
            replica,
            started: Instant::now(),
            fence: Mutex::default(),
            epoch: AtomicU64::new(0),
            charging: Arc::default(),
            sealed_until: AtomicU64::new(0),
            hears: AtomicBool::new(false),
            members: AtomicU32::new(1),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            max_counters,
            hurry: Notify::new(),
            metrics: Metrics::new(),
        }
    }

    /// What explanations call this replica, instead of a random number.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    pub(super) fn charging(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.charging)
    }

    /// Whether charges are taken.
    pub fn is_open(&self) -> bool {
        self.charging.load(Ordering::SeqCst) > 0
    }

    /// Wakes who tends to the epoch.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    pub(super) fn now(&self) -> Millis {
        self.since_start(Instant::now())
    }

    fn since_start(&self, instant: Instant) -> Millis {
        instant.saturating_duration_since(self.started).as_millis().try_into().unwrap_or(Millis::MAX)
    }

    /// Changes the fence. Whoever holds a shard's lock afterwards sees the change.
    pub(super) fn change_fence<T>(&self, change: impl FnOnce(&mut Fence) -> T) -> T {
        let mut fence = self.fence.lock();
        let before = fence.epoch();
        let changed = change(&mut fence);
        if fence.epoch() != before {
            self.metrics.epochs.increment(1);
        }
        self.epoch.store(fence.epoch().map_or(0, |epoch| epoch.0), Ordering::SeqCst);
        self.charging.store(fence.charging().map_or(0, |epoch| epoch.0), Ordering::SeqCst);
        changed
    }

    fn shard(&self, key: Key) -> Option<&Mutex<HashMap<Key, Slot>>> {
        self.shards.get((key.0 % SHARDS as u128) as usize)
    }

    /// Hits of a charge's counter that are debited and not used.
    pub(super) fn held(&self, charge: &Charge) -> u64 {
        if charge.algorithm == Algorithm::FixedWindow { self.held_of(charge.key) } else { 0 }
    }

    /// Hits of a counter that are debited and not used.
    pub(super) fn held_of(&self, key: Key) -> u64 {
        let now = self.now();
        let Some(shard) = self.shard(key) else { return 0 };
        let slots = shard.lock();
        slots.get(&key).filter(|slot| slot.entry.runs(now)).map_or(0, |slot| slot.entry.left())
    }

    /// Takes from the leases what there is, and says what to charge for new ones.
    pub(super) fn cover(&self, charges: &[Charge], now: Millis) -> (Vec<Part>, Vec<Charge>) {
        let mut renewals = Vec::new();
        let parts = charges.iter().map(|charge| self.cover_one(charge, now, &mut renewals)).collect();
        (parts, renewals)
    }

    fn cover_one(&self, charge: &Charge, now: Millis, renewals: &mut Vec<Charge>) -> Part {
        let hits = u64::try_from(charge.hits).unwrap_or_default();
        if charge.algorithm != Algorithm::FixedWindow || hits == 0 || !charge.leases {
            return Part::Unknown;
        }
        let Some(shard) = self.shard(charge.key) else { return Part::Unknown };
        let mut slots = shard.lock();
        let Some(slot) = slots.get_mut(&charge.key).filter(|slot| slot.entry.runs(now)) else { return Part::Unknown };
        slot.entry.limit_to(charge.limit);
        let ends = slot.entry.ends();
        let part = match slot.entry.cover(hits, now) {
            Cover::Over { count } => Part::Over { count: count.saturating_add(hits), ends },
            Cover::Taken(hits) => Part::Taken { hits, number: slot.entry.number(), count: slot.entry.count(), ends },
        };
        if !slot.renewing && slot.entry.left() <= slot.low && self.is_open() {
            let wanted = slot.entry.wanted(now, self.members.load(Ordering::Relaxed));
            if wanted > 0 {
                slot.renewing = true;
                slot.entry.measure(now);
                let hits = i64::try_from(wanted).unwrap_or(i64::MAX);
                renewals.push(Charge { hits, denies: Denies::Alone, undo: Undo::Denied, ..*charge });
            }
        }
        part
    }

    /// The outcomes, if they can be told without Redis. Else nothing has changed.
    pub(super) fn decide(&self, charges: &[Charge], parts: &[Part], now: Millis) -> Option<Vec<Outcome>> {
        let pairs = || charges.iter().zip(parts);
        let covered = pairs()
            .all(|(charge, part)| matches!(part, Part::Taken { hits, .. } if i64::try_from(*hits) == Ok(charge.hits)));
        let over = pairs().any(|(charge, part)| matches!(part, Part::Over { .. }) && charge.denies == Denies::Alone);
        let costs_nothing = |(charge, part): (&Charge, &Part)| match charge.undo {
            Undo::Never => false,
            Undo::Denied => charge.hits > 0,
            Undo::DeniedByOthers => matches!(part, Part::Over { .. }),
        };
        let denied_for_nothing = over && pairs().all(costs_nothing);
        if !covered && !denied_for_nothing {
            return None;
        }
        let told = |(charge, part): (&Charge, &Part)| match part {
            Part::Over { count, ends } => (*count, *ends),
            Part::Taken { hits, count, ends, .. } => {
                (count + u64::try_from(charge.hits).unwrap_or_default().saturating_sub(*hits), *ends)
            }
            Part::Unknown => (u64::try_from(charge.hits).unwrap_or_default().min(charge.limit.into()), now),
        };
        let counters: Vec<_> = pairs().map(told).collect();
        let counts: Vec<_> = counters.iter().map(|(count, _)| *count).collect();
        let denied = over || is_denied(charges, &counts);
        let decided = if denied { &self.metrics.by_denial } else { &self.metrics.by_lease };
        decided.increment(1);
        let outcomes = pairs().zip(counters).map(|((charge, part), (count, ends))| {
            let seconds = ends.saturating_sub(now).div_ceil(1000).max(1);
            let outcome = charge.outcome(count, denied, u32::try_from(seconds).unwrap_or(u32::MAX));
            if !outcome.charged {
                self.put_back(charge, part);
            }
            outcome
        });
        Some(outcomes.collect())
    }

    pub(super) fn put_back_all(&self, charges: &[Charge], parts: &[Part]) {
        for (charge, part) in charges.iter().zip(parts) {
            self.put_back(charge, part);
        }
    }

    fn put_back(&self, charge: &Charge, part: &Part) {
        if let Part::Taken { hits, number, .. } = part
            && let Some(shard) = self.shard(charge.key)
            && let Some(slot) = shard.lock().get_mut(&charge.key)
        {
            slot.entry.put_back(*hits, *number);
        }
    }

    /// Takes note of what Redis charged of a request, and tells the outcomes.
    pub(super) fn settle(
        &self,
        charges: &[Charge],
        parts: &[Part],
        rest: &[Charge],
        reply: &Charged,
    ) -> Result<Vec<Outcome>, StoreError> {
        let each = || charges.iter().zip(parts).zip(rest.iter().zip(&reply.counters));
        if reply.counters.len() != charges.len() {
            self.put_back_all(charges, parts);
            return Err(StoreError::Reply);
        }
        let mut outcomes = Vec::with_capacity(charges.len());
        let mut counts = true;
        for ((charge, part), (rest, &(count, seconds_left))) in each() {
            let stays = charge.outcome(count, reply.denied, seconds_left).charged;
            if !stays {
                self.put_back(charge, part);
            }
            let left = if charge.algorithm == Algorithm::FixedWindow {
                let kept = if stays { rest.hits } else { 0 };
                let after = if stays || rest.hits < 0 { count } else { count.saturating_add_signed(-rest.hits) };
                let noted = self.note(rest, reply.moment, after, kept, false);
                counts &= noted.is_some();
                noted.unwrap_or_default()
            } else {
                counts &= self.admits(reply.moment);
                0
            };
            let told = if count > u64::from(charge.limit) { count } else { count.saturating_sub(left) };
            outcomes.push(charge.outcome(told, reply.denied, seconds_left));
        }
        // What was charged in an epoch that is over may be forgotten there.
        if counts { Ok(outcomes) } else { Err(StoreError::Learning) }
    }

    /// Takes note of a lease that Redis granted, or did not.
    pub(super) fn renewed(&self, charge: &Charge, charged: Option<&Charged>) {
        if let Some(charged) = charged
            && let Some((count, _)) = charged.counters.first()
        {
            let granted = if charged.denied { 0 } else { charge.hits };
            let after = count.saturating_add_signed(granted - charge.hits);
            self.note(charge, charged.moment, after, granted, true);
        }
        if let Some(shard) = self.shard(charge.key)
            && let Some(slot) = shard.lock().get_mut(&charge.key)
        {
            slot.renewing = false;
        }
    }

    fn admits(&self, moment: Moment) -> bool {
        self.epoch.load(Ordering::SeqCst) == moment.epoch
    }

    /// Enters a counter's new state. Returns what is left of the lease, or nothing if the reply came too late to count.
    fn note(&self, charge: &Charge, moment: Moment, count: u64, kept: i64, leased: bool) -> Option<u64> {
        let heard = Heard::new(self.since_start(moment.sent), moment.now, charge.window, count);
        let now = self.now();
        let mut slots = self.shard(charge.key)?.lock();
        if !self.admits(moment) {
            return None;
        }
        let Some(slot) = self.slot(&mut slots, charge, heard, now) else { return Some(0) };
        if slot.entry.number() < heard.number {
            (slot.low, slot.overshoot) = (0, 0);
        }
        let gained = u64::try_from(kept).unwrap_or_default();
        slot.entry.hear(charge.limit, heard, gained, if leased { gained } else { 0 }, now);
        if kept < 0 {
            slot.entry.refund(kept.unsigned_abs(), heard);
        }
        if leased {
            slot.low = slot.entry.left() / 2;
        }
        let excess = count.saturating_sub(charge.limit.into());
        if charge.undo == Undo::Denied && excess > slot.overshoot {
            self.metrics.overshoot.increment(excess - slot.overshoot);
            slot.overshoot = excess;
        }
        Some(slot.entry.left())
    }

    /// The charge's counter, or nothing when there is no room for it.
    fn slot<'a>(
        &self,
        slots: &'a mut HashMap<Key, Slot>,
        charge: &Charge,
        heard: Heard,
        now: Millis,
    ) -> Option<&'a mut Slot> {
        let most = self.max_counters.div_ceil(SHARDS);
        if !slots.contains_key(&charge.key) && slots.len() >= most {
            slots.retain(|_, slot| slot.entry.runs(now));
            if slots.len() >= most {
                self.metrics.unremembered.increment(1);
                return None;
            }
        }
        Some(slots.entry(charge.key).or_insert_with(|| Slot {
            entry: Entry::new(charge.limit, heard, now),
            window: charge.window,
            renewing: false,
            low: 0,
            overshoot: 0,
        }))
    }

    /// What this replica has debited of the charge's counter in the window that runs.
    pub(super) fn debited(&self, charge: &Charge) -> u64 {
        let now = self.now();
        let Some(slots) = self.shard(charge.key).map(Mutex::lock) else { return 0 };
        slots.get(&charge.key).filter(|slot| slot.entry.runs(now)).map_or(0, |slot| slot.entry.debited())
    }

    /// Enters hits that were admitted at `authority_now` of Redis' clock, as far as it was known. False if the ledger must stay
    /// as it was told.
    pub(super) fn remember(&self, charge: &Charge, authority_now: Millis) -> bool {
        let now = self.now();
        let Some(mut slots) = self.shard(charge.key).map(Mutex::lock) else { return true };
        if now < self.sealed_until.load(Ordering::SeqCst) {
            return false;
        }
        let heard = Heard::new(now, authority_now, charge.window, 0);
        if let Some(slot) = self.slot(&mut slots, charge, heard, now) {
            if slot.entry.number() < heard.number {
                (slot.low, slot.overshoot) = (0, 0);
                slot.entry.hear(charge.limit, heard, 0, 0, now);
            }
            slot.entry.remember(charge.hits.try_into().unwrap_or_default());
        }
        true
    }

    /// Keeps ledgers from growing without Redis from here on. Whoever holds a shard's lock afterwards sees it.
    pub(super) fn seal(&self) {
        self.sealed_until.store(self.now() + SEAL, Ordering::SeqCst);
    }

    /// Redis did not take the ledgers, so they may grow.
    pub(super) fn unseal(&self) {
        self.sealed_until.store(0, Ordering::SeqCst);
    }

    /// Ledgers of all windows that run.
    pub(super) fn ledgers(&self) -> Vec<Counted> {
        let now = self.now();
        let mut ledgers = Vec::new();
        for shard in &self.shards {
            let slots = shard.lock();
            let running = slots.iter().filter(|(_, slot)| slot.entry.runs(now) && slot.entry.ledger() > 0);
            ledgers.extend(running.map(|(key, slot)| (*key, slot.window, slot.entry.number(), slot.entry.ledger())));
        }
        ledgers
    }

    /// Takes what lies idle, or everything, out of the leases, for Redis to take back.
    pub(super) fn release(&self, everything: bool) -> Vec<Counted> {
        let now = self.now();
        let mut released = Vec::new();
        for shard in &self.shards {
            for (key, slot) in shard.lock().iter_mut() {
                let entry = &mut slot.entry;
                if entry.left() > 0 && entry.runs(now) && !slot.renewing && (everything || entry.is_idle(now)) {
                    slot.low = 0;
                    released.push((*key, slot.window, entry.number(), entry.release()));
                }
            }
        }
        released
    }

    /// Whether any lease is being asked for.
    pub(super) fn is_renewing(&self) -> bool {
        self.shards.iter().any(|shard| shard.lock().values().any(|slot| slot.renewing))
    }

    /// Forgets windows that are over, and sums up the others.
    pub(super) fn sweep(&self) -> Sums {
        let now = self.now();
        let mut sums = Sums::default();
        for shard in &self.shards {
            let mut slots = shard.lock();
            slots.retain(|_, slot| slot.renewing || slot.entry.runs(now));
            sums.counters += slots.len();
            for slot in slots.values() {
                sums.outstanding += slot.entry.left();
                sums.ledger += slot.entry.ledger();
            }
        }
        sums
    }

    /// The epoch in which returns may be sent.
    pub(super) fn returning(&self) -> Option<Epoch> {
        self.fence.lock().charging()
    }
}

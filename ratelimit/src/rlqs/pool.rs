//! One limit, divided among those who report its bucket.

/// What there is to divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    /// Requests in each window; at least one.
    pub(super) requests: u32,
    /// The window, in seconds.
    pub(super) window: u32,
    /// Requests that all clients together may make at once, give or take one each.
    pub(super) burst: u32,
}

/// What one client may do: a token bucket that is filled by `requests` in each window and holds `burst`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Requests in each window; none denies all.
    pub(super) requests: u32,
    /// Tokens that the bucket holds, and starts with.
    pub(super) burst: u32,
}

/// How long assignments last, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// What clients are told.
    pub(super) ttl: u64,
    /// How long what they were told is reserved for them: longer, as they count from when they hear it.
    pub(super) hold: u64,
    /// How long they certainly still have it: shorter, as an answer that renews it takes its time too.
    pub(super) sure: u64,
}

/// Who shares: a stream, and the number of one of its buckets.
pub(super) type MemberId = (u64, u64);

/// The clients of one limit.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// In the order in which they came.
    members: Vec<Member>,
    /// Tokens that new token buckets may start with, refilled by the capacity in each window.
    starts: f64,
    /// When `starts` was refilled, in milliseconds; `None` before anything has been assigned.
    refilled: Option<u64>,
}

#[derive(Debug)]
struct Member {
    id: MemberId,
    live: bool,
    reported: u64,
    /// Requests a second, lately; `None` until there are two reports.
    demand: Option<f64>,
    share: Share,
    issued: u64,
    /// Requests that it may believe to have, and until when; what is later is less.
    held: Vec<(u32, u64)>,
}

/// Time over which demand is averaged, in milliseconds.
const DEMAND_MILLIS: f64 = 5000.0;

impl Pool {
    /// Clients, those that have gone but still hold a share included.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// What a client has asked for since its last report. The first one makes it a member.
    pub(super) fn report(&mut self, id: MemberId, requests: u64, now: u64) {
        let Some(member) = self.members.iter_mut().find(|member| member.id == id) else {
            let (share, held) = (Share::default(), vec![]);
            self.members.push(Member { id, live: true, reported: now, demand: None, share, issued: now, held });
            return;
        };
        let elapsed = millis(now.saturating_sub(member.reported));
        if elapsed > 0.0 {
            let rate = millis(requests) * 1000.0 / elapsed;
            let before = member.demand.unwrap_or(rate);
            member.demand = Some(before + (rate - before) * elapsed / (elapsed + DEMAND_MILLIS));
        }
        (member.live, member.reported) = (true, now);
    }

    /// A client has gone. Its share is free once it cannot believe to have it any more.
    pub(super) fn leave(&mut self, id: MemberId) {
        self.members.iter_mut().filter(|member| member.id == id).for_each(|member| member.live = false);
    }

    /// Forgets what is over, and who has gone and holds nothing.
    pub(super) fn expire(&mut self, now: u64) {
        self.members.iter_mut().for_each(|member| member.held.retain(|(_, until)| *until > now));
        self.members.retain(|member| member.live || !member.held.is_empty());
    }

    /// What a member may do from now on. Together with all that others may believe to have it is no more than the quota.
    pub(super) fn assign(&mut self, id: MemberId, quota: Quota, times: Times, now: u64) -> Share {
        self.expire(now);
        self.refill(quota, now);
        let (target, starving) = self.target(id, quota);
        let others: u64 = self.members.iter().filter(|other| other.id != id).map(|other| u64::from(other.held())).sum();
        let free = u32::try_from(u64::from(quota.requests).saturating_sub(others)).unwrap_or(u32::MAX);
        let Some(member) = self.members.iter_mut().find(|member| member.id == id) else { return Share::default() };

        let requests = member.settle(target.min(free), starving || member.share.requests > free);
        let best = burst_of(requests, quota);
        let affordable = whole(self.starts.min(f64::from(best)));
        // A client that may have lost its share begins a new token bucket even if it is told the same.
        let renewable = member.share.requests > 0 && member.share.requests <= free && now - member.issued <= times.sure;
        let same = member.share.requests == requests && (best / 2..=best).contains(&member.share.burst);
        let share = match (renewable, same) {
            _ if requests == 0 => Share::default(),
            (true, true) => member.share,
            (true, false) if affordable == 0 || (member.share.requests == requests && affordable < best) => {
                member.share
            }
            _ if affordable == 0 => Share::default(),
            _ => {
                self.starts -= f64::from(affordable);
                Share { requests, burst: affordable }
            }
        };
        member.hold(share, times, now);
        share
    }

    /// The part of the quota that fits a member's demand, and whether anyone has nothing.
    fn target(&self, id: MemberId, quota: Quota) -> (u32, bool) {
        let live: Vec<&Member> = self.members.iter().filter(|member| member.live).collect();
        let place = live.iter().position(|member| member.id == id).unwrap_or(usize::MAX);
        let count = u32::try_from(live.len()).unwrap_or(u32::MAX);
        if count > quota.requests {
            return (u32::from(u32::try_from(place).is_ok_and(|place| place < quota.requests)), true);
        }
        let starving = live.iter().any(|member| member.share.requests == 0);
        let known: Vec<f64> = live.iter().filter_map(|member| member.demand).collect();
        let unknown = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / millis(known.len() as u64) };
        let demand = |member: &&Member| member.demand.unwrap_or(unknown);
        let all: f64 = live.iter().map(demand).sum();
        let own = live.get(place).map_or(0.0, demand);
        let part = if all > 0.0 { own / all } else { 1.0 / f64::from(count.max(1)) };
        (1 + whole(f64::from(quota.requests - count) * part), starving)
    }

    /// All may begin with a quarter of the burst, and with two tokens each where that is more.
    fn refill(&mut self, quota: Quota, now: u64) {
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let capacity = f64::from(quota.burst.max(members.min(quota.requests).saturating_mul(2)));
        self.starts = match self.refilled {
            None => capacity,
            Some(then) => {
                let windows = millis(now.saturating_sub(then)) / (f64::from(quota.window) * 1000.0);
                (self.starts + capacity * windows).min(capacity)
            }
        };
        self.refilled = Some(now);
    }
}

impl Member {
    /// The most that it may believe to have.
    fn held(&self) -> u32 {
        self.held.iter().map(|(requests, _)| *requests).max().unwrap_or(0)
    }

    /// Steps of less than an eighth are not worth a new token bucket, unless what would be given up is needed.
    fn settle(&self, target: u32, needed: bool) -> u32 {
        let current = self.share.requests;
        let step = (current / 8).max(1);
        let raise = target > current && (current == 0 || target - current >= step);
        let lower = target < current && (needed || current - target > step);
        if raise || lower { target } else { current }
    }

    fn hold(&mut self, share: Share, times: Times, now: u64) {
        (self.share, self.issued) = (share, now);
        if share.requests > 0 {
            self.held.retain(|(requests, _)| *requests > share.requests);
            self.held.push((share.requests, now + times.hold));
        }
    }
}

/// A client's part of the burst; one token at least.
fn burst_of(requests: u32, quota: Quota) -> u32 {
    if requests == 0 {
        return 0;
    }
    let burst = u64::from(requests) * u64::from(quota.burst) / u64::from(quota.requests.max(1));
    u32::try_from(burst).unwrap_or(u32::MAX).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "times and demands are far below 2^52, or need not be exact")]
fn millis(millis: u64) -> f64 {
    millis as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what is wanted"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

//! What each algorithm promises, said in another way than the store does it: by looking through everything that was admitted.

/// A limit; the window is in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) algorithm: Algorithm,
    pub(super) limit: u64,
    pub(super) burst: u64,
    pub(super) window: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    FixedWindow,
    SlidingWindow,
    Gcra,
    Concurrency,
}

/// One counter's history.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) rule: Rule,
    /// When hits were admitted and how many, less those that were given back: of those that may have lapsed, as if they had.
    admitted: Vec<(u64, u64)>,
    /// The same, as if they had not.
    lingering: Vec<(u64, u64)>,
    /// Each hit that is still held by who made it, for slots that are given back.
    holders: Vec<u64>,
    /// The latest time it was charged at.
    seen: u64,
    /// The latest time that its buckets were shown: what has lapsed by then stays lapsed, also if that charge was denied.
    shown: u64,
}

impl Counter {
    pub(super) fn new(rule: Rule) -> Self {
        Self { rule, admitted: vec![], lingering: vec![], holders: vec![], seen: 0, shown: 0 }
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.admitted.first().map(|(at, _)| *at)
    }

    /// Whether the algorithm has room for so many more hits.
    pub(super) fn may_admit(&self, hits: u64, read: u64) -> bool {
        let now = read.max(self.seen).max(self.shown);
        let Rule { burst, window, .. } = self.rule;
        self.least(now) + hits <= burst
            && (self.rule.algorithm != Algorithm::Concurrency
                || self.holders.iter().filter(|held| now - **held <= window).count() as u64 + hits <= burst)
    }

    /// Whether the algorithm may be out of room for so many more hits.
    pub(super) fn may_deny(&self, hits: u64, read: u64) -> bool {
        let most = match self.rule.algorithm {
            Algorithm::FixedWindow | Algorithm::Gcra => self.least(read.max(self.seen)),
            Algorithm::SlidingWindow | Algorithm::Concurrency => younger_than(&self.lingering, self.longest(), read),
        };
        most + hits > self.rule.burst
    }

    pub(super) fn admit(&mut self, hits: u64, read: u64) {
        self.seen = read.max(self.seen);
        self.admitted.push((self.seen, hits));
        self.lingering.push((self.seen, hits));
        self.holders.extend((0..hits).map(|_| self.seen));
    }

    /// It was charged, whatever came of it.
    pub(super) fn show(&mut self, read: u64) {
        if matches!(self.rule.algorithm, Algorithm::SlidingWindow | Algorithm::Concurrency) {
            self.shown = read.max(self.shown);
        }
    }

    /// Whether somebody holds a slot that has not lapsed. One who gives it back later gives back what is another's by then.
    pub(super) fn can_release(&self, now: u64) -> bool {
        let mine = self.holders.last();
        self.rule.algorithm == Algorithm::Concurrency && mine.is_some_and(|held| now - held < self.rule.window)
    }

    /// The youngest holder gives back; the store frees the oldest slot.
    pub(super) fn release(&mut self, read: u64) {
        self.holders.pop();
        let (window, longest) = (self.rule.window, self.longest());
        // The store's time does not go back: what has lapsed at a later reading is not there to be freed.
        free(&mut self.admitted, window + 1, read.max(self.seen).max(self.shown));
        free(&mut self.lingering, longest, read);
        self.show(read);
    }

    /// No hit counts when it is as old as this: the window, and the bucket it came in.
    fn longest(&self) -> u64 {
        self.rule.window + self.rule.window.div_ceil(60)
    }

    /// Hits that must count, rounded up.
    fn least(&self, now: u64) -> u64 {
        let Rule { algorithm, limit, window, .. } = self.rule;
        match algorithm {
            Algorithm::FixedWindow => self.sum(|at| at / window == now / window),
            Algorithm::SlidingWindow | Algorithm::Concurrency => younger_than(&self.admitted, window + 1, now),
            Algorithm::Gcra => {
                let since = |first: u64| {
                    let came_back = limit * (now - first);
                    (self.sum(|at| at >= first) * window).saturating_sub(came_back).div_ceil(window)
                };
                self.admitted.iter().map(|(at, _)| since(*at)).max().unwrap_or(0)
            }
        }
    }

    fn sum(&self, counts: impl Fn(u64) -> bool) -> u64 {
        self.admitted.iter().filter(|(at, _)| counts(*at)).map(|(_, hits)| hits).sum()
    }
}

fn younger_than(hits: &[(u64, u64)], age: u64, now: u64) -> u64 {
    hits.iter().filter(|(at, _)| now.saturating_sub(*at) < age).map(|(_, hits)| hits).sum()
}

/// Takes one hit away, the oldest of those that are younger than this.
fn free(hits: &mut [(u64, u64)], age: u64, now: u64) {
    let oldest = hits.iter_mut().find(|(at, hits)| *hits > 0 && now.saturating_sub(*at) < age);
    if let Some((_, hits)) = oldest {
        *hits -= 1;
    }
}

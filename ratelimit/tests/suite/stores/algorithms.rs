//! What each algorithm promises. The clock is the store's own, so windows are short, and what is checked are times that a busy
//! machine can only stretch in the direction that does not matter.

use std::{collections::VecDeque, time::Duration};

use ratelimit::store::{Algorithm, Any, Charge, CounterStore, Outcome, Undo};
use tokio::time::{Instant, sleep};

use super::{HOUR, PATIENCE, charge, counts, strict};

const ALL: [Algorithm; 4] =
    [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::Gcra { per_window: 1 }, Algorithm::Concurrency];
const STEP: Duration = Duration::from_millis(2);

/// A hit that denies its request above the limit, and is then taken back.
fn hit(algorithm: Algorithm, limit: u32, window: u32) -> Charge {
    Charge { algorithm, window, ..strict(name(algorithm), limit) }
}

/// Counters of two algorithms have different keys.
fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::FixedWindow => "fixed window",
        Algorithm::SlidingWindow => "sliding window",
        Algorithm::Gcra { .. } => "gcra",
        Algorithm::Concurrency => "concurrency",
    }
}

async fn one(store: &Any, charge: Charge) -> Outcome {
    store.charge(&[charge]).await.unwrap()[0]
}

fn peek(charge: Charge) -> Charge {
    Charge { hits: 0, ..charge }
}

/// Waits until a counter stands at so much; returns the moment it was first seen to.
async fn await_count(store: &Any, charge: Charge, count: u64) -> Instant {
    let deadline = Instant::now() + PATIENCE;
    while one(store, peek(charge)).await.count != count {
        assert!(Instant::now() < deadline, "{charge:?} does not come to {count}");
        sleep(STEP).await;
    }
    Instant::now()
}

pub(super) async fn counters_of_every_algorithm_add_up(store: Any) {
    for algorithm in ALL {
        let by = |hits| Charge { hits, ..hit(algorithm, 100, HOUR) };
        assert_eq!(counts(&store, &[by(0), by(5), by(0)]).await, [0, 5, 5], "{algorithm:?}");
        assert_eq!(counts(&store, &[by(-2), by(3), by(-9), by(4)]).await, [3, 6, 0, 4], "{algorithm:?}");
        assert_eq!(counts(&store, &[by(0)]).await, [4], "{algorithm:?}");
    }
    let left = |algorithm| {
        let store = store.clone();
        async move { one(&store, hit(algorithm, 100, HOUR)).await.seconds_left }
    };
    assert!((1..=HOUR).contains(&left(Algorithm::FixedWindow).await));
    for by_age in [Algorithm::SlidingWindow, Algorithm::Concurrency] {
        let left = left(by_age).await;
        assert!((HOUR..=HOUR + HOUR / 60).contains(&left), "{by_age:?} {left}");
    }
    let left = left(Algorithm::Gcra { per_window: 3600 }).await;
    assert!((4..=5).contains(&left), "five hits of which one comes back each second, {left}");
}

pub(super) async fn a_denied_request_costs_nothing_of_any_algorithm(store: Any) {
    let all = ALL.map(|algorithm| hit(algorithm, 9, HOUR));
    for (last, algorithm) in ALL.into_iter().enumerate() {
        let before = counts(&store, &all.map(peek)).await;
        let narrow = Charge { limit: 0, ..strict("narrow", 0) };
        let mut request = all.to_vec();
        request.insert(last, Charge { algorithm, ..narrow });
        let outcomes = store.charge(&request).await.unwrap();
        assert!(outcomes.iter().all(|outcome| !outcome.charged), "{outcomes:?}");
        assert_eq!(counts(&store, &all.map(peek)).await, before);
        assert_eq!(counts(&store, &all).await, before.iter().map(|count| count + 1).collect::<Vec<_>>());
    }
}

pub(super) async fn concurrent_charges_of_every_algorithm_admit_exactly_the_limit(store: Any) {
    for algorithm in ALL {
        let charges = (0..300).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { one(&store, hit(algorithm, 50, HOUR)).await })
        });
        let mut admitted = 0;
        for outcome in charges.collect::<Vec<_>>() {
            let Outcome { count, charged, .. } = outcome.await.unwrap();
            assert_eq!(charged, count <= 50);
            admitted += u32::from(charged);
        }
        assert_eq!(admitted, 50, "{algorithm:?}");
    }
}

pub(super) async fn sliding_windows_forget_each_hit_when_it_is_old(store: Any) {
    let hit = hit(Algorithm::SlidingWindow, 9, 1);
    let begin = Instant::now();
    assert_eq!(one(&store, hit).await.count, 1);
    sleep(Duration::from_millis(300)).await;
    let second = Instant::now();
    if one(&store, hit).await.count == 2 {
        let forgotten = await_count(&store, hit, 1).await;
        assert!(forgotten - begin >= Duration::from_secs(1), "{:?}", forgotten - begin);
    }
    let forgotten = await_count(&store, hit, 0).await;
    assert!(forgotten - second >= Duration::from_secs(1), "{:?}", forgotten - second);
}

/// Hits come without pause. In whatever interval as long as the window one looks, there are no more than the limit.
pub(super) async fn sliding_windows_admit_the_limit_in_any_interval(store: Any) {
    const LIMIT: u32 = 7;
    let begin = Instant::now();
    let mut sent = VecDeque::new();
    let mut admitted = 0;
    while begin.elapsed() < Duration::from_millis(2500) {
        let at = Instant::now();
        if one(&store, hit(Algorithm::SlidingWindow, LIMIT, 1)).await.charged {
            sent.push_back(at);
            admitted += 1;
        }
        if sent.len() > LIMIT as usize {
            let before = sent.pop_front().unwrap();
            assert!(before.elapsed() >= Duration::from_secs(1), "{} hits in {:?}", LIMIT + 1, before.elapsed());
        }
        sleep(STEP).await;
    }
    assert!(admitted > LIMIT, "old hits make room");
}

pub(super) async fn gcra_admits_the_burst_and_then_the_rate(store: Any) {
    const BURST: u32 = 3;
    const PER_SECOND: u32 = 20;
    let hit = hit(Algorithm::Gcra { per_window: PER_SECOND }, BURST, 1);
    let at_once = store.charge(&[Charge { hits: BURST.into(), ..hit }, hit]).await.unwrap();
    assert_eq!((at_once[1].count, at_once[1].charged, at_once[0].charged), (4, false, false));
    let deadline = Instant::now() + PATIENCE;
    let mut sent = Vec::new();
    while sent.len() < 12 {
        assert!(Instant::now() < deadline, "nothing comes back");
        let at = Instant::now();
        if one(&store, hit).await.charged {
            for (earlier, hits) in sent.iter().rev().zip(2..) {
                // Stores count whole milliseconds.
                let seconds = Instant::elapsed(earlier).as_secs_f64() + 0.001;
                let most = f64::from(BURST) + f64::from(PER_SECOND) * seconds;
                assert!(f64::from(hits) <= most, "{hits} in {seconds} s");
            }
            sent.push(at);
        }
        sleep(STEP).await;
    }
}

pub(super) async fn gcra_forgives_debts_of_more_than_a_window(store: Any) {
    let hit = Charge { undo: Undo::Never, ..hit(Algorithm::Gcra { per_window: 10 }, 5, HOUR) };
    let outcome = one(&store, Charge { hits: u32::MAX.into(), ..hit }).await;
    assert!(outcome.charged && outcome.count > 5);
    let outcome = one(&store, peek(hit)).await;
    assert_eq!(outcome.count, 15);
    assert!((1..=HOUR * 3 / 2).contains(&outcome.seconds_left), "{outcome:?}");
}

pub(super) async fn gcra_takes_the_largest_charges(store: Any) {
    let slow = Algorithm::Gcra { per_window: 1 };
    let huge = Charge { hits: u32::MAX.into(), undo: Undo::Never, ..hit(slow, u32::MAX, 24 * HOUR) };
    let outcomes = store.charge(&[huge; 32]).await.unwrap();
    assert_eq!(outcomes[0].count, u64::from(u32::MAX));
    assert!(outcomes[31].count > u64::from(u32::MAX), "{outcomes:?}");
    assert_eq!(one(&store, peek(huge)).await.seconds_left, u32::MAX);
    let within = Charge { key: charge("within", 1, HOUR).key, ..hit(slow, 2, HOUR) };
    assert!(one(&store, within).await.charged);
    assert!(!one(&store, Charge { hits: u32::MAX.into(), ..within }).await.charged);
    assert_eq!(one(&store, peek(within)).await.count, 1, "what is taken back leaves what was there");
}

pub(super) async fn slots_are_held_until_they_are_given_back(store: Any) {
    let slot = hit(Algorithm::Concurrency, 2, HOUR);
    assert_eq!([one(&store, slot).await.count, one(&store, slot).await.count], [1, 2]);
    assert!(!one(&store, slot).await.charged);
    assert_eq!(one(&store, Charge { hits: -1, ..slot }).await.count, 1);
    assert!(one(&store, slot).await.charged);
    assert!(!one(&store, slot).await.charged);
}

pub(super) async fn slots_that_are_never_given_back_lapse(store: Any) {
    let slot = hit(Algorithm::Concurrency, 1, 1);
    let begin = Instant::now();
    assert!(one(&store, slot).await.charged);
    while !one(&store, slot).await.charged {
        assert!(begin.elapsed() < PATIENCE, "it does not lapse");
        sleep(STEP).await;
    }
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
}

/// So what is held longest after the gift is the younger slot.
pub(super) async fn the_oldest_slots_are_given_back_first(store: Any) {
    let slot = hit(Algorithm::Concurrency, 9, 1);
    one(&store, slot).await;
    sleep(Duration::from_millis(500)).await;
    let second = Instant::now();
    let both = one(&store, slot).await.count;
    assert!(one(&store, Charge { hits: -1, ..slot }).await.count < both.max(2));
    let lapsed = await_count(&store, slot, 0).await;
    assert!(both < 2 || lapsed - second >= Duration::from_secs(1), "{:?}", lapsed - second);
    assert_eq!(one(&store, charge("other", 1, 1)).await.count, 1);
}

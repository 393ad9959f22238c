//! One suite, every store.

use std::{future::Future, sync::Arc, time::Duration};

use ratelimit::{
    key::Key,
    store::{
        Algorithm, Any, Charge, CounterStore, Denies, Lease, Local, Loss, Memory, OnStoreLoss, Outcome, Redis,
        StoreError, Undo, lease::Table,
    },
};
use tokio::time::{Instant, sleep};

use self::algorithms::*;
use crate::{near::stacked, redis_server::RedisServer, requests::descriptor};

mod algorithms;
mod layouts;
mod version;

/// Long enough for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A window that does not end during a test, but for the second before its end, on which [`settled`] waits.
pub(crate) const HOUR: u32 = 3600;

pub(crate) fn charge(name: &str, hits: i64, window: u32) -> Charge {
    let key = Key::new("test", HOUR, Algorithm::FixedWindow, &descriptor(&[("name", name)]).entries, &[]);
    Charge {
        key,
        hits,
        limit: 0,
        denies: Denies::Nothing,
        undo: Undo::Never,
        algorithm: Algorithm::FixedWindow,
        window,
        on_store_loss: OnStoreLoss::Error,
        leases: true,
    }
}

/// A hit in an hour that denies the request above `limit`, and is taken back if it is denied.
pub(crate) fn strict(name: &str, limit: u32) -> Charge {
    Charge { limit, denies: Denies::Alone, undo: Undo::Denied, ..charge(name, 1, HOUR) }
}

/// Counts of an hour without changing them.
pub(crate) async fn look(store: &Any, names: &[&str]) -> Vec<u64> {
    counts(store, &names.iter().map(|name| charge(name, 0, HOUR)).collect::<Vec<_>>()).await
}

pub(crate) async fn counts(store: &Any, charges: &[Charge]) -> Vec<u64> {
    store.charge(charges).await.unwrap().into_iter().map(|outcome| outcome.count).collect()
}

/// Waits until no window of an hour ends within the next seconds.
pub(crate) async fn settled(store: &Any) {
    while store.charge(&[charge("settle", 0, HOUR)]).await.unwrap()[0].seconds_left < 20 {
        sleep(Duration::from_millis(100)).await;
    }
}

async fn hits_add_up(store: Any) {
    assert_eq!(counts(&store, &[charge("a", 1, HOUR)]).await, [1]);
    assert_eq!(counts(&store, &[charge("a", 5, HOUR), charge("b", 2, HOUR)]).await, [6, 2]);
    assert_eq!(counts(&store, &[charge("b", 1, HOUR), charge("a", 1, HOUR), charge("b", 1, HOUR)]).await, [3, 7, 4]);
}

async fn zero_hits_only_look(store: Any) {
    assert_eq!(counts(&store, &[charge("a", 0, HOUR)]).await, [0]);
    assert_eq!(counts(&store, &[charge("a", 3, HOUR), charge("a", 0, HOUR)]).await, [3, 3]);
}

async fn negative_hits_give_back_down_to_zero(store: Any) {
    assert_eq!(counts(&store, &[charge("a", -3, HOUR)]).await, [0]);
    assert_eq!(counts(&store, &[charge("a", 5, HOUR), charge("a", -2, HOUR)]).await, [5, 3]);
    assert_eq!(counts(&store, &[charge("a", -9, HOUR), charge("a", 1, HOUR)]).await, [0, 1]);
}

async fn counts_do_not_overflow(store: Any) {
    let most = i64::from(u32::MAX);
    let first = counts(&store, &vec![charge("a", most, HOUR); 32]).await[31];
    assert_eq!(first, 32 * u64::from(u32::MAX));
    assert!(counts(&store, &[charge("a", most, HOUR)]).await[0] > first);
}

async fn windows_end_with_the_clock(store: Any) {
    let Outcome { seconds_left, .. } = store.charge(&[charge("a", 1, HOUR)]).await.unwrap()[0];
    assert!((1..=HOUR).contains(&seconds_left));
    let Outcome { count, seconds_left, .. } = store.charge(&[charge("b", 7, 1)]).await.unwrap()[0];
    assert_eq!((count, seconds_left), (7, 1));
    let deadline = Instant::now() + PATIENCE;
    while counts(&store, &[charge("b", 0, 1)]).await != [0] {
        assert!(Instant::now() < deadline, "the window of a second does not end");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(counts(&store, &[charge("b", 1, 1), charge("a", 0, HOUR)]).await, [1, 1]);
}

async fn a_denied_request_costs_nothing(store: Any) {
    let both = [strict("wide", 9), strict("narrow", 1)];
    assert_eq!(counts(&store, &both).await, [1, 1]);
    let outcomes = store.charge(&both).await.unwrap();
    let told: Vec<_> = outcomes.iter().map(|outcome| (outcome.count, outcome.charged)).collect();
    assert_eq!(told, [(1, false), (2, false)], "what is over tells so, the others stand where they stood");
    assert_eq!(look(&store, &["wide", "narrow"]).await, [1, 1]);

    let shadow = Charge { denies: Denies::Nothing, ..strict("shadow", 0) };
    assert_eq!(counts(&store, &[shadow]).await, [1], "it denies nothing");
    assert_eq!(counts(&store, &[shadow, strict("narrow", 1)]).await, [2, 2]);
    assert_eq!(look(&store, &["shadow", "narrow"]).await, [1, 1]);
    assert!(!store.charge(&[strict("twice", 1); 2]).await.unwrap()[0].charged, "one counter, two hits");
    assert_eq!(look(&store, &["twice"]).await, [0]);
}

async fn stated_hits_stay_where_they_are_over(store: Any) {
    let stated = |name, limit| Charge { hits: 60, limit, undo: Undo::DeniedByOthers, ..strict(name, 0) };
    assert_eq!(counts(&store, &[stated("tokens", 100), stated("other", 1000)]).await, [60, 60]);
    assert_eq!(counts(&store, &[stated("tokens", 100), stated("other", 1000)]).await, [120, 60]);
    assert_eq!(look(&store, &["tokens", "other"]).await, [120, 60]);
}

async fn what_is_never_taken_back_stays(store: Any) {
    let lenient = |name, limit| Charge { undo: Undo::Never, ..strict(name, limit) };
    assert_eq!(counts(&store, &[lenient("a", 9), lenient("b", 0)]).await, [1, 1]);
    let back = Charge { hits: -1, ..lenient("a", 9) };
    assert_eq!(counts(&store, &[back, strict("c", 0)]).await, [0, 1], "nor is giving back");
    assert_eq!(look(&store, &["a", "b", "c"]).await, [0, 1, 0]);
}

async fn quotas_deny_together(store: Any) {
    let quota = |name, limit| Charge { denies: Denies::Together, ..strict(name, limit) };
    let both = [quota("one", 1), quota("two", 2)];
    assert_eq!(counts(&store, &both).await, [1, 1]);
    assert_eq!(counts(&store, &both).await, [2, 2]);
    assert!(store.charge(&both).await.unwrap().iter().all(|outcome| !outcome.charged));
    assert_eq!(look(&store, &["one", "two"]).await, [2, 2]);
}

/// Requests that overlap in their counters, at once: each counter holds what was admitted, and no more than its limit.
async fn concurrent_requests_are_all_or_nothing(store: Any) {
    const LIMITS: [(&str, u32); 4] = [("p", 40), ("q", 70), ("r", 110), ("s", 10_000)];
    let requests = (0..600_usize).map(|number| {
        let store = store.clone();
        let touched = (number % 15) + 1;
        tokio::spawn(async move {
            let of_bit =
                |(bit, &(name, limit)): (usize, &(&str, u32))| (touched >> bit & 1 == 1).then(|| strict(name, limit));
            let mut charges: Vec<_> = LIMITS.iter().enumerate().filter_map(of_bit).collect();
            charges.rotate_left(number % 2);
            let outcomes = store.charge(&charges).await.unwrap();
            let admitted = outcomes.iter().zip(&charges).all(|(outcome, charge)| outcome.count <= charge.limit.into());
            assert!(outcomes.iter().all(|outcome| outcome.charged == admitted));
            if admitted { touched } else { 0 }
        })
    });
    let mut admitted = [0_u64; 4];
    for request in requests.collect::<Vec<_>>() {
        let touched = request.await.unwrap();
        for (bit, count) in admitted.iter_mut().enumerate() {
            *count += (touched >> bit & 1) as u64;
        }
    }
    let names = LIMITS.map(|(name, _)| name);
    assert_eq!(look(&store, &names).await, admitted);
    assert!(admitted.iter().zip(LIMITS).all(|(count, (_, limit))| *count <= limit.into()), "{admitted:?}");
    assert_eq!(admitted[0], 40, "the narrowest limit is used up");
}

async fn concurrent_charges_admit_exactly_the_limit(store: Any) {
    admit_exactly(&[store], 200).await;
}

/// Sends five times the limit at once, spread over stores that share their counters.
async fn admit_exactly(stores: &[Any], limit: u64) {
    let charges = stores
        .iter()
        .cycle()
        .take(usize::try_from(5 * limit).unwrap())
        .cloned()
        .map(|store| tokio::spawn(async move { counts(&store, &[charge("hot", 1, HOUR)]).await[0] <= limit }));
    let charges: Vec<_> = charges.collect();
    let mut admitted = 0;
    for charge in charges {
        admitted += u64::from(charge.await.unwrap());
    }
    assert_eq!(admitted, limit);
}

async fn on_memory<F: Future>(case: impl Fn(Any) -> F) {
    let store = Any::Memory(Arc::new(Memory::new(100_000)));
    settled(&store).await;
    case(store).await;
}

async fn on_redis<F: Future>(case: impl Fn(Any) -> F) {
    on_server(&RedisServer::start(), case).await;
}

async fn on_valkey<F: Future>(case: impl Fn(Any) -> F) {
    on_server(&RedisServer::start_valkey(), case).await;
}

async fn on_server<F: Future>(server: &RedisServer, case: impl Fn(Any) -> F) {
    let store = Any::Redis(Redis::connect(server.options(PATIENCE)).unwrap());
    settled(&store).await;
    case(store).await;
}

async fn on_lease<F: Future>(case: impl Fn(Any) -> F) {
    let server = RedisServer::start();
    let table = Arc::new(Table::new(100_000));
    let lease = Lease::connect(server.options(PATIENCE), Arc::clone(&table)).unwrap();
    let tending = tokio::spawn(lease.clone().tend());
    let deadline = Instant::now() + PATIENCE;
    while !table.is_open() {
        assert!(Instant::now() < deadline, "the epoch does not open");
        sleep(Duration::from_millis(10)).await;
    }
    let store = Any::Leased(Loss::new(lease, PATIENCE, Arc::new(Local::new(100_000))));
    settled(&store).await;
    case(store).await;
    tending.abort();
}

async fn on_near<F: Future>(case: impl Fn(Any) -> F) {
    let server = RedisServer::start();
    let store = stacked(&server);
    settled(&store).await;
    case(store).await;
}

macro_rules! tests {
    ($on:ident: $($case:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $case() { super::$on(super::$case).await; })*
    };
}

/// The tests of one store, in a module of its name: what all stores do, and the further sets of cases that it names.
macro_rules! suite {
    ($store:ident, $on:ident: $($further:ident),*) => {
        mod $store {
            tests![$on:
                hits_add_up,
                zero_hits_only_look,
                negative_hits_give_back_down_to_zero,
                counts_do_not_overflow,
                windows_end_with_the_clock,
                what_is_never_taken_back_stays,
                quotas_deny_together,
                concurrent_charges_admit_exactly_the_limit,
                sliding_windows_forget_each_hit_when_it_is_old,
                sliding_windows_admit_the_limit_in_any_interval,
                gcra_admits_the_burst_and_then_the_rate,
                slots_are_held_until_they_are_given_back,
                slots_that_are_never_given_back_lapse,
                the_oldest_slots_are_given_back_first,
            ];
            $($further![$on];)*
        }
    };
}

/// These look at counters of which a lease may be on its way.
macro_rules! unleased {
    ($on:ident) => {
        tests![$on:
            a_denied_request_costs_nothing,
            stated_hits_stay_where_they_are_over,
            concurrent_requests_are_all_or_nothing,
            counters_of_every_algorithm_add_up,
            a_denied_request_costs_nothing_of_any_algorithm,
            concurrent_charges_of_every_algorithm_admit_exactly_the_limit,
        ];
    };
}

/// Of the algorithm itself, which decorators do not touch.
macro_rules! extremes {
    ($on:ident) => {
        tests![$on: gcra_forgives_debts_of_more_than_a_window, gcra_takes_the_largest_charges];
    };
}

suite![memory, on_memory: unleased, extremes];
suite![redis, on_redis: unleased, extremes];
suite![valkey, on_valkey: unleased, extremes];
suite![lease, on_lease: ];
suite![near, on_near: unleased];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_on_one_redis_admit_exactly_the_limit() {
    let server = RedisServer::start();
    let stores = [(); 2].map(|()| Any::Redis(Redis::connect(server.options(PATIENCE)).unwrap()));
    settled(&stores[0]).await;
    admit_exactly(&stores, 200).await;
}

#[tokio::test]
async fn a_restarted_redis_is_used_again() {
    let mut server = RedisServer::start();
    let store = Redis::connect(server.options(Duration::from_millis(500))).unwrap();
    store.charge(&[charge("a", 1, HOUR)]).await.unwrap();
    server.kill();
    assert!(store.charge(&[charge("a", 1, HOUR)]).await.is_err());
    // Its scripts are gone too.
    server.restart();
    let deadline = Instant::now() + PATIENCE;
    while store.charge(&[charge("a", 1, HOUR)]).await.is_err() {
        assert!(Instant::now() < deadline, "the store does not come back");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_hung_redis_is_an_error_in_time() {
    let server = RedisServer::start();
    let store = Redis::connect(server.options(Duration::from_millis(200))).unwrap();
    store.ping().await.unwrap();
    server.hang();
    let begin = Instant::now();
    assert!(matches!(store.charge(&[charge("a", 1, HOUR)]).await, Err(StoreError::Timeout(_))));
    assert!(begin.elapsed() < PATIENCE);
}

#[tokio::test]
async fn l8_keys_in_redis_expire_and_hold_no_clear_text() {
    let server = RedisServer::start();
    let store = Redis::connect(server.options(PATIENCE)).unwrap();
    store.charge(&[charge("secret", 1, HOUR)]).await.unwrap();
    let client = ::redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let [key] = keys.as_slice() else { panic!("{keys:?}") };
    assert!(key.starts_with("test:{") && !key.contains("secret"), "{key}");
    let seconds: i64 = ::redis::cmd("TTL").arg(key).query_async(&mut connection).await.unwrap();
    assert!((1..=i64::from(HOUR)).contains(&seconds), "{seconds}");
}

#[test]
fn a_url_that_is_none_is_refused_without_its_password() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _on = runtime.enter();
    let options = ratelimit::store::redis::Options {
        url: ratelimit::store::redis::Url::new("http://user:hunter2@host"),
        timeout: PATIENCE,
        key_prefix: String::new(),
        access: ratelimit::store::redis::Access::default(),
        per_second: None,
    };
    let error = Redis::connect(options).unwrap_err();
    assert!(matches!(error, StoreError::Url(_)));
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

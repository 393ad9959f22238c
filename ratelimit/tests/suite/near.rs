//! Denials that cost no Redis.

use std::{sync::Arc, time::Duration};

use ratelimit::store::{
    Any, Charge, CounterStore, Denies, Local, Near, Redis, Undo,
    near::Table,
    stack::{self, Stack},
};
use redis::InfoDict;
use tokio::time::{Instant, sleep};

use crate::{
    program::{Program, ask, fetch},
    redis_server::RedisServer,
    stores::{HOUR, PATIENCE, charge, settled, strict},
};

const BYTES: usize = 512 << 10;

fn near(server: &RedisServer) -> Near<Redis> {
    let redis = Redis::connect(server.options(PATIENCE)).unwrap();
    Near::new(redis, Arc::new(Table::new(BYTES, None)), Arc::new(Local::new(1)))
}

/// What the program puts before Redis, with the near-cache.
pub(crate) fn stacked(server: &RedisServer) -> Any {
    let options =
        stack::Options { deadline: PATIENCE, max_counters: 1, near_bytes: BYTES, ..stack::Options::default() };
    Stack::new(server.options(PATIENCE), &options).open().unwrap()
}

/// Calls of scripts that Redis has had so far.
fn calls(server: &RedisServer) -> u64 {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let info: InfoDict = redis::cmd("INFO").arg("commandstats").query(&mut connection).unwrap();
    let calls = |command| {
        let stats: String = info.get(&format!("cmdstat_{command}"))?;
        stats.split(',').find_map(|stat| stat.strip_prefix("calls=")?.parse::<u64>().ok())
    };
    ["eval", "evalsha"].into_iter().filter_map(calls).sum()
}

/// Count, whether it stays, and whether Redis was not asked.
async fn told(store: &impl CounterStore, charges: &[Charge]) -> Vec<(u64, bool, bool)> {
    let outcomes = store.charge(charges).await.unwrap();
    outcomes.into_iter().map(|outcome| (outcome.count, outcome.charged, outcome.near)).collect()
}

async fn ready(server: &RedisServer) -> Near<Redis> {
    settled(&stacked(server)).await;
    near(server)
}

#[tokio::test]
async fn what_is_over_its_limit_costs_redis_nothing() {
    let server = RedisServer::start();
    let store = ready(&server).await;
    for count in 1..=3 {
        assert_eq!(told(&store, &[strict("a", 3)]).await, [(count, true, false)]);
    }
    let before = calls(&server);
    for _ in 0..1000 {
        assert_eq!(told(&store, &[strict("a", 3)]).await, [(4, false, true)]);
    }
    assert_eq!(calls(&server), before);
    let left = [charge("a", 0, HOUR), strict("a", 3)];
    let asked = store.charge(&left[..1]).await.unwrap()[0].seconds_left;
    assert!(asked.abs_diff(store.charge(&left[1..]).await.unwrap()[0].seconds_left) <= 1);
    assert_eq!(told(&store, &[strict("a", 4)]).await, [(4, true, false)], "a higher limit is not over");
}

/// Windows of two seconds: each admits its limit and no more, and none is denied beyond its end.
#[tokio::test]
async fn denials_end_with_the_window() {
    let server = RedisServer::start();
    let store = ready(&server).await;
    let hit = Charge { window: 2, ..strict("a", 5) };
    let (mut admitted, mut asked, begin) = (vec![], 0, Instant::now());
    while begin.elapsed() < Duration::from_millis(4500) {
        let outcome = store.charge(&[hit]).await.unwrap()[0];
        if outcome.count <= 5 {
            admitted.push((outcome.count, begin.elapsed()));
        }
        asked += u32::from(!outcome.near);
        sleep(Duration::from_millis(2)).await;
    }
    assert!(asked <= 40, "{asked} questions");
    // The time touches three or four windows.
    assert!((10..=20).contains(&admitted.len()), "{admitted:?}");
    let firsts: Vec<_> = admitted.iter().filter(|(count, _)| *count == 1).map(|(_, at)| *at).skip(1).collect();
    for pair in firsts.windows(2) {
        assert!(
            pair[1].saturating_sub(pair[0]).abs_diff(Duration::from_secs(2)) < Duration::from_secs(1),
            "{firsts:?}"
        );
    }
}

#[tokio::test]
async fn a_smaller_charge_than_the_denied_one_is_counted() {
    let server = RedisServer::start();
    let store = ready(&server).await;
    let hits = |hits| Charge { hits, ..strict("a", 10) };
    assert_eq!(told(&store, &[hits(6)]).await, [(6, true, false)]);
    assert_eq!(told(&store, &[hits(5)]).await, [(11, false, false)]);
    assert_eq!(told(&store, &[hits(5)]).await, [(11, false, true)]);
    assert_eq!(told(&store, &[hits(9)]).await, [(15, false, true)]);
    assert_eq!(told(&store, &[hits(4)]).await, [(10, true, false)]);
    assert_eq!(told(&store, &[hits(1)]).await, [(11, false, true)]);
}

#[tokio::test]
async fn what_is_given_back_can_be_had_again() {
    let server = RedisServer::start();
    let store = ready(&server).await;
    let back = Charge { hits: -1, ..charge("a", 0, HOUR) };
    for _ in 0..3 {
        assert_eq!(told(&store, &[strict("a", 1)]).await[0].0, 1);
        assert_eq!(told(&store, &[strict("a", 1)]).await, [(2, false, true)]);
        store.charge(&[back]).await.unwrap();
    }
    let denied_and_back = [strict("b", 0), back];
    store.charge(&denied_and_back).await.unwrap();
    assert!(!told(&store, &denied_and_back).await[1].2, "giving back is never left out");
}

#[tokio::test]
async fn only_what_is_known_altogether_is_answered() {
    let server = RedisServer::start();
    let store = ready(&server).await;
    let (full, free) = (strict("full", 0), strict("free", 5));
    store.charge(&[full]).await.unwrap();
    assert_eq!(told(&store, &[full, free]).await, [(1, false, false), (0, false, false)]);
    assert_eq!(told(&store, &[full, full]).await, [(1, false, true), (1, false, true)]);

    let shadow = Charge { denies: Denies::Nothing, ..full };
    assert_eq!(told(&store, &[shadow]).await, [(1, true, false)]);
    assert_eq!(told(&store, &[shadow]).await, [(2, true, false)], "it is counted on");
    assert!(!told(&store, &[shadow, full]).await[0].1);

    let quota = |name| Charge { denies: Denies::Together, ..strict(name, 1) };
    for name in ["one", "two"] {
        assert_eq!(told(&store, &[quota(name)]).await, [(1, true, false)]);
    }
    assert_eq!(told(&store, &[quota("one"), quota("two")]).await, [(2, false, true), (2, false, true)]);
    assert_eq!(told(&store, &[quota("one"), quota("three")]).await, [(2, true, false), (1, true, false)]);
}

/// The cost of a response is counted though it is over, else giving some of it back would admit more.
#[tokio::test]
async fn stated_hits_are_counted_above_the_limit() {
    let server = RedisServer::start();
    let store = ready(&server).await;
    let stated = Charge { hits: 60, undo: Undo::DeniedByOthers, ..strict("a", 100) };
    for count in [60, 120, 180] {
        assert_eq!(told(&store, &[stated]).await, [(count, true, false)]);
    }
    let looks = Charge { hits: 0, ..stated };
    assert_eq!(told(&store, &[looks]).await, [(180, true, true)], "a look is denied here");
    let lenient = Charge { undo: Undo::Never, ..strict("b", 1) };
    assert_eq!(told(&store, &[lenient]).await, [(1, true, false)]);
    assert_eq!(told(&store, &[lenient]).await, [(2, true, false)], "above the limit at least once");
    assert_eq!(told(&store, &[lenient]).await, [(3, true, true)]);
}

#[tokio::test]
async fn two_replicas_admit_the_limit_and_no_more() {
    let server = RedisServer::start();
    ready(&server).await;
    let stores = [near(&server), near(&server)];
    let mut admitted = 0;
    for turn in 0..100 {
        admitted += u32::from(told(&stores[turn % 2], &[strict("a", 20)]).await[0].0 <= 20);
    }
    assert_eq!(admitted, 20);
    let before = calls(&server);
    told(&stores[0], &[strict("a", 20)]).await;
    told(&stores[1], &[strict("a", 20)]).await;
    assert_eq!(calls(&server), before, "each knows");
}

/// Of the program, in upstream's names.
#[tokio::test(flavor = "multi_thread")]
async fn what_it_saves_is_measured() {
    let server = RedisServer::start();
    settled(&stacked(&server)).await;
    let address = server.socket().display().to_string();
    let patient = ["--redis-timeout", "5s", "--store-deadline", "5s", "--local-cache-size-in-bytes", "100000"];
    let program = Program::start(&[&["--redis-url", &address], &patient[..]].concat());
    let mut client = program.client().await;
    for _ in 0..24 {
        ask(&mut client, "joe").await.unwrap();
    }
    ask(&mut client, "ann").await.unwrap();
    let metrics = fetch(program.metrics, "GET", "/metrics", "").1;
    // The limit of 20, then one denial by Redis at the latest, from which on it is known.
    let value = |name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("ratelimit_localcache_{name} ")));
        line.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")).parse().unwrap()
    };
    let (lookups, hits, misses) = (value("lookupCount"), value("hitCount"), value("missCount"));
    assert_eq!((lookups, hits + misses), (25, 25));
    assert_eq!((hits, value("entryCount")), (4, 1), "{metrics}");
    assert_eq!([value("evacuateCount"), value("expiredCount"), value("overwriteCount")], [0, 0, 0]);
    let near = r#"ratelimit_service_rate_limit_over_limit_with_local_cache{domain="d",key1="user"} 4"#;
    assert!(metrics.contains(near), "{near} is not in\n{metrics}");
}

//! The script's shorter way for plain requests decides as the way for all requests does.

use futures::future::join_all;
use proptest::{collection::vec, prelude::*};
use ratelimit::store::{Any, Charge, CounterStore, Outcome, Redis};

use crate::{
    redis_server::RedisServer,
    stores::{HOUR, PATIENCE, charge, settled, strict},
};

/// Of one request: counter, limit, hits, and whether its window is a day.
type Spent = (u8, u32, i64, bool);

fn requests() -> impl Strategy<Value = Vec<Vec<Spent>>> {
    let hits = prop_oneof![8 => 1..4i64, 1 => Just(i64::from(u32::MAX))];
    let limit = prop_oneof![6 => 1..12u32, 1 => Just(u32::MAX)];
    vec(vec((0..5u8, limit, hits, any::<bool>()), 1..5), 1..40)
}

fn charges(request: &[Spent]) -> Vec<Charge> {
    let charges = request.iter().map(|(counter, limit, hits, day)| {
        let window = if *day { 24 * HOUR } else { HOUR };
        Charge { hits: *hits, window, ..strict(&format!("{counter} in {window}"), *limit) }
    });
    charges.collect()
}

async fn connect(server: &RedisServer, prefix: &str) -> Redis {
    let options = server.options(PATIENCE);
    let redis = Redis::connect(ratelimit::store::redis::Options { key_prefix: prefix.into(), ..options }).unwrap();
    settled(&Any::Redis(redis.clone())).await;
    redis
}

/// All at once, and so in few batches, each in the order given.
async fn decide(redis: &Redis, requests: &[Vec<Charge>]) -> Vec<Vec<Outcome>> {
    let answers = join_all(requests.iter().map(|charges| redis.charge(charges))).await;
    answers.into_iter().map(Result::unwrap).collect()
}

#[test]
fn plain_requests_are_decided_as_others() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let case = std::cell::Cell::new(0);
    proptest!(ProptestConfig::with_cases(60), |(requests in requests())| {
        case.set(case.get() + 1);
        let plain: Vec<_> = requests.iter().map(|request| charges(request)).collect();
        let look = charge("looked at", 0, HOUR);
        // A look makes a request one with charges of any kind.
        let mixed: Vec<_> = plain.iter().map(|charges| [charges.as_slice(), &[look]].concat()).collect();
        let (short, long) = runtime.block_on(async {
            let (short, long) = (format!("plain{}:", case.get()), format!("any{}:", case.get()));
            (decide(&connect(&server, &short).await, &plain).await, decide(&connect(&server, &long).await, &mixed).await)
        });
        for ((request, short), long) in requests.iter().zip(short).zip(long) {
            for ((spent, short), long) in request.iter().zip(short).zip(long) {
                prop_assert_eq!((short.count, short.charged), (long.count, long.charged), "{:?}", spent);
                prop_assert!(u64::from(short.seconds_left.abs_diff(long.seconds_left)) <= PATIENCE.as_secs());
            }
        }
    });
}

#[tokio::test]
async fn a_plain_request_that_fails_spoils_no_other() {
    let server = RedisServer::start();
    let redis = connect(&server, "p:").await;
    redis.charge(&[strict("broken", 9)]).await.unwrap();
    let mut client = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("p:*").query_async(&mut client).await.unwrap();
    let _: () = redis::cmd("SET").arg(&keys[0]).arg("no hash").query_async(&mut client).await.unwrap();

    let day = |name| Charge { hits: 3, window: 24 * HOUR, ..strict(name, 9) };
    let first = [strict("first", 9)];
    // Terms behind the charge that fails are those of the next request, which does not repeat them.
    let broken = [strict("kept", 9), strict("broken", 9), day("not reached")];
    let next = [day("next")];
    let (first, broken, next) = tokio::join!(redis.charge(&first), redis.charge(&broken), redis.charge(&next));
    let (first, next) = (first.unwrap()[0], next.unwrap()[0]);
    assert!(broken.is_err());
    assert_eq!((first.count, next.count), (1, 3));

    let looks = [("first", HOUR), ("kept", HOUR), ("not reached", 24 * HOUR), ("next", 24 * HOUR)];
    let looks: Vec<_> = looks.iter().map(|(name, window)| charge(name, 0, *window)).collect();
    let counts: Vec<_> = redis.charge(&looks).await.unwrap().iter().map(|outcome| outcome.count).collect();
    assert_eq!(counts, [1, 0, 0, 3]);
}

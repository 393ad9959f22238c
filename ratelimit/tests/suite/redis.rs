//! What only the Redis store has: batches, a script, packed windows, and a connection that breaks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ratelimit::store::{Any, CounterStore, Redis, StoreError, redis::Url};
use redis::aio::MultiplexedConnection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{UnixListener, UnixStream},
    task::{JoinSet, yield_now},
};

use crate::{
    redis_server::RedisServer,
    stores::{HOUR, PATIENCE, charge, counts, look, settled, strict},
};

async fn connect(server: &RedisServer) -> Redis {
    let redis = Redis::connect(server.options(PATIENCE)).unwrap();
    settled(&Any::Redis(redis.clone())).await;
    redis
}

async fn client(server: &RedisServer) -> MultiplexedConnection {
    redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Lets everything run that can, on a runtime with one thread.
async fn let_others_run() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[tokio::test]
async fn requests_that_come_together_share_a_call() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let mut client = client(&server).await;
    let _: () = redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut client).await.unwrap();
    let mut requests = JoinSet::new();
    for number in 0..1000 {
        let redis = redis.clone();
        requests.spawn(async move { redis.charge(&[charge(&number.to_string(), 1, HOUR)]).await.unwrap() });
    }
    assert!(requests.join_all().await.iter().all(|outcomes| outcomes[0].count == 1));
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut client).await.unwrap();
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
    let calls: usize = calls.split(',').next().unwrap().parse().unwrap();
    assert!((2..=3).contains(&calls), "{calls} calls for 1000 requests, at most 512 in each");
}

#[tokio::test]
async fn a_request_that_fails_spoils_no_other() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let mut client = client(&server).await;
    redis.charge(&[charge("broken", 1, HOUR)]).await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut client).await.unwrap();
    let _: () = redis::cmd("SET").arg(&keys[0]).arg("no hash").query_async(&mut client).await.unwrap();

    let (both, alone) = ([strict("fine", 9), charge("broken", 1, HOUR)], [strict("fine", 9)]);
    let (first, broken, last) = tokio::join!(redis.charge(&alone), redis.charge(&both), redis.charge(&alone));
    assert_eq!(first.unwrap()[0].count, 1);
    let error = broken.unwrap_err();
    assert!(matches!(&error, StoreError::Redis(error) if error.to_string().contains("WRONGTYPE")), "{error}");
    // What a failed request has charged may stay.
    assert!((2..=3).contains(&last.unwrap()[0].count));
    let alone = redis.charge(&[charge("broken", 1, HOUR)]).await;
    assert!(matches!(alone, Err(StoreError::Redis(_))), "{alone:?}");
}

#[tokio::test]
async fn what_is_given_up_before_it_is_sent_costs_nothing() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    server.hang();
    let spawn = |name| {
        let redis = redis.clone();
        tokio::spawn(async move { redis.charge(&[charge(name, 1, HOUR)]).await })
    };
    let sent = spawn("sent");
    let_others_run().await;
    let (given_up, waiting) = (spawn("given up"), spawn("waiting"));
    let_others_run().await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    server.resume();
    assert_eq!(sent.await.unwrap().unwrap()[0].count, 1);
    assert_eq!(waiting.await.unwrap().unwrap()[0].count, 1);
    assert_eq!(look(&Any::Redis(redis), &["sent", "given up", "waiting"]).await, [1, 0, 1]);
}

#[tokio::test]
async fn only_so_many_charges_wait() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    server.hang();
    let request = vec![charge("a", 1, HOUR); 32];
    let mut requests = JoinSet::new();
    let spawn = |requests: &mut JoinSet<_>| {
        let (redis, request) = (redis.clone(), request.clone());
        requests.spawn(async move { redis.charge(&request).await.map(drop) })
    };
    spawn(&mut requests);
    let_others_run().await;
    let first: Vec<_> = (0..512).map(|_| spawn(&mut requests)).collect();
    let_others_run().await;
    assert!(matches!(redis.charge(&request).await, Err(StoreError::Busy(16_384))));

    // Those that were given up make room.
    first[0].abort();
    let_others_run().await;
    spawn(&mut requests);
    let_others_run().await;
    server.resume();
    let mut charged = 0;
    while let Some(request) = requests.join_next().await {
        charged += request.map_or(0, |charged| {
            charged.unwrap();
            1
        });
    }
    assert_eq!(charged, 513);
    assert_eq!(look(&Any::Redis(redis), &["a"]).await, [513 * 32]);
}

#[tokio::test]
async fn r14_flushed_scripts_lose_no_charge() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let mut client = client(&server).await;
    let flush = async {
        loop {
            let _: () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut client).await.unwrap();
        }
    };
    let charge = async {
        for count in 1..=300 {
            assert_eq!(redis.charge(&[charge("a", 1, HOUR)]).await.unwrap()[0].count, count);
        }
    };
    tokio::select! {
        () = flush => {}
        () = charge => {}
    }
}

/// Hands connections on to Redis and ends each after `bytes` bytes of replies, in the middle of one.
async fn cut_replies(listener: UnixListener, server: String, bytes: Arc<AtomicUsize>) {
    while let Ok((from, _)) = listener.accept().await {
        let (to, bytes) = (UnixStream::connect(&server).await.unwrap(), bytes.load(Ordering::Relaxed));
        tokio::spawn(async move {
            let (mut from_read, mut from_write) = from.into_split();
            let (to_read, mut to_write) = to.into_split();
            let mut replies = to_read.take(bytes as u64);
            tokio::select! {
                _ = copy(&mut from_read, &mut to_write) => {}
                _ = copy(&mut replies, &mut from_write) => {}
            }
            // Redis sees the end of the connection only after it has executed what was sent.
            let _ = from_write.shutdown().await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r18_a_lost_reply_is_an_error_and_never_repeated() {
    let server = RedisServer::start();
    let direct = connect(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.sock");
    let bytes = Arc::new(AtomicUsize::new(500));
    let proxy =
        cut_replies(UnixListener::bind(&path).unwrap(), server.socket().display().to_string(), Arc::clone(&bytes));
    tokio::spawn(proxy);
    let mut options = server.options(Duration::from_millis(500));
    options.url = Url::new(path.to_str().unwrap());
    let redis = Redis::connect(options).unwrap();

    let (mut attempts, mut answered, mut last) = (0, 0, 0);
    while answered < 40 || attempts - answered < 40 {
        attempts += 1;
        // Beyond what a connection says in the beginning.
        bytes.store(500 + attempts % 61 * 7, Ordering::Relaxed);
        if let Ok(outcomes) = redis.charge(&[charge("a", 1, HOUR)]).await {
            assert!(outcomes[0].count > last, "each answer is about its own request");
            last = outcomes[0].count;
            answered += 1;
        }
        assert!(attempts < 10_000, "{answered} of {attempts} were answered");
    }
    let count = counts(&Any::Redis(direct), &[charge("a", 0, HOUR)]).await[0];
    assert!((answered as u64..=attempts as u64).contains(&count), "{count} hits of {attempts} requests");
}

#[tokio::test]
async fn windows_are_packed() {
    const COUNTERS: usize = 100_000;
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let mut client = client(&server).await;
    let memory = async |client: &mut MultiplexedConnection| -> usize {
        let info: String = redis::cmd("INFO").arg("memory").query_async(client).await.unwrap();
        info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")).unwrap().parse().unwrap()
    };
    let before = memory(&mut client).await;
    for first in (0..COUNTERS).step_by(2000) {
        let mut requests = JoinSet::new();
        for first in (first..first + 2000).step_by(20) {
            let charges: Vec<_> = (first..first + 20).map(|number| charge(&number.to_string(), 1, HOUR)).collect();
            let redis = redis.clone();
            requests.spawn(async move { redis.charge(&charges).await.unwrap() });
        }
        requests.join_all().await;
    }
    let each = (memory(&mut client).await - before) / COUNTERS;
    assert!(each <= 64, "{each} bytes for a counter");
}

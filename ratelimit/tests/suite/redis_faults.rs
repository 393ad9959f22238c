//! Rows R5–R9, R12 and R13 of the fault matrix: what becomes of counts when servers change their roles, slots move,
//! passwords change, and settings are dangerous.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use ratelimit::store::{
    Charge, CounterStore, Local, Loss, OnStoreLoss, Outcome, Redis, StoreError,
    redis::{Access, Options, Secret, Url},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    redis_topology::{Cluster, NAME, Node, Replicated, cli},
    stores::{HOUR, PATIENCE, charge, strict},
};

const TIMEOUT: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(5);

async fn count(store: &Redis, name: &str, hits: i64) -> Result<u64, StoreError> {
    Ok(store.charge(&[charge(name, hits, HOUR)]).await?[0].count)
}

async fn until_counted(store: &Redis, name: &str) -> Instant {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        match count(store, name, 1).await {
            Ok(_) => return Instant::now(),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(PAUSE).await;
    }
}

/// When the first of the Sentinels names `port` as the primary.
fn named(redis: &Replicated, port: u16) -> JoinHandle<Instant> {
    let sentinels: Vec<_> = redis.sentinels.iter().map(|sentinel| sentinel.port.to_string()).collect();
    tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            for sentinel in &sentinels {
                let primary = cli(&["-p", sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
                if primary.contains(&port.to_string()) {
                    return Instant::now();
                }
            }
            assert!(Instant::now() < deadline, "no failover");
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r05_after_a_crash_the_new_primary_counts_at_once() {
    let mut redis = Replicated::start();
    let store = Redis::connect(redis.options(TIMEOUT)).unwrap();
    until_counted(&store, "a").await;
    redis.servers[0].kill();
    let switched = named(&redis, redis.servers[1].port);
    while count(&store, "a", 1).await.is_ok() {
        sleep(PAUSE).await;
    }
    let counted = until_counted(&store, "a").await;
    let late = counted.saturating_duration_since(switched.await.unwrap());
    assert!(late < Duration::from_secs(1), "{late:?} after the switch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r06_a_planned_failover_leaves_no_one_at_the_old_primary() {
    let redis = Replicated::start();
    let store = Redis::connect(redis.options(TIMEOUT)).unwrap();
    until_counted(&store, "a").await;
    let switched = named(&redis, redis.servers[1].port);
    redis.sentinels[0].cli(&["SENTINEL", "FAILOVER", NAME]);
    let (mut acked, mut failed) = (vec![], 0);
    let begin = Instant::now();
    let mut end = None;
    let mut known = None;
    let mut switched = Some(switched);
    while end.is_none_or(|end| Instant::now() < end) {
        assert!(begin.elapsed() < 2 * PATIENCE, "no failover");
        let name = format!("n{}", acked.len() + failed);
        match count(&store, &name, 1).await {
            Ok(_) => acked.push((Instant::now(), name)),
            Err(_) => failed += 1,
        }
        if switched.as_ref().is_some_and(JoinHandle::is_finished) {
            let at = switched.take().unwrap().await.unwrap();
            (known, end) = (Some(at), Some(at + Duration::from_secs(3)));
        }
        sleep(PAUSE).await;
    }
    let known = known.unwrap();
    let mut lost = vec![];
    for (at, name) in &acked {
        if count(&store, name, 0).await.unwrap() == 0 {
            lost.push(at.saturating_duration_since(known));
        }
    }
    println!("{} acknowledged, {} lost, {failed} errors", acked.len(), lost.len());
    assert!(acked.iter().filter(|(at, _)| *at > known).count() > 50, "it counts after the switch");
    assert!(lost.iter().all(|after| *after < Duration::from_secs(1)), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r07_a_server_that_became_a_replica_is_left_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let servers = [(); 2].map(|()| Node::start(dir.path(), &["--save", ""]));
    let options = Options {
        url: Url::new(&servers[0].address()),
        timeout: TIMEOUT,
        key_prefix: String::new(),
        access: Access::default(),
        per_second: None,
    };
    let store = Redis::connect(options).unwrap();
    until_counted(&store, "a").await;
    servers[0].cli(&["REPLICAOF", "127.0.0.1", &servers[1].port.to_string()]);
    let error = loop {
        if let Err(error) = count(&store, "a", 1).await {
            break error.to_string();
        }
    };
    assert!(error.to_lowercase().contains("read") || error.contains("replica"), "{error}");
    while store.connection().active() > 0 {
        sleep(PAUSE).await;
    }
    servers[0].cli(&["REPLICAOF", "NO", "ONE"]);
    let begin = Instant::now();
    assert!(until_counted(&store, "a").await - begin < Duration::from_millis(1500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r08_slots_move_under_load_without_an_error_or_a_lost_hit() {
    const KEYS: usize = 200;
    let redis = Cluster::start();
    let store = Redis::connect(redis.options(PATIENCE)).unwrap();
    store.ping().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..8_usize).map(|writer| {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut counted = vec![0_u64; KEYS];
            for round in writer.. {
                let keys = [round % KEYS, (round * 7 + 1) % KEYS, (round * 31 + 5) % KEYS];
                let charges: Vec<Charge> = keys.iter().map(|key| charge(&format!("k{key}"), 1, HOUR)).collect();
                store.charge(&charges).await.unwrap();
                for key in keys {
                    counted[key] += 1;
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            counted
        })
    });
    let writers: Vec<_> = writers.collect();
    let id = |node: &Node| node.cli(&["CLUSTER", "MYID"]).trim().to_owned();
    let (from, to, at) = (id(&redis.nodes[0]), id(&redis.nodes[1]), redis.nodes[0].address());
    let resharded = tokio::task::spawn_blocking(move || {
        let ids = ["--cluster-from", &from, "--cluster-to", &to, "--cluster-slots", "1500", "--cluster-yes"];
        cli(&[&["--cluster", "reshard", &at][..], &ids].concat())
    });
    let resharded = resharded.await.unwrap();
    assert!(!resharded.contains("ERR"), "{resharded}");
    sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let mut counted = vec![0; KEYS];
    for writer in writers {
        for (sum, count) in counted.iter_mut().zip(writer.await.unwrap()) {
            *sum += count;
        }
    }
    let total: u64 = counted.iter().sum();
    println!("{total} hits while 1500 slots moved");
    for (key, hits) in counted.into_iter().enumerate() {
        assert_eq!(count(&store, &format!("k{key}"), 0).await.unwrap(), hits, "k{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r09_a_lost_primary_of_a_cluster_fails_only_its_slots() {
    let mut redis = Cluster::start();
    let store = Redis::connect(redis.options(TIMEOUT)).unwrap();
    store.ping().await.unwrap();
    let names: Vec<_> = (0..60).map(|number| format!("k{number}")).collect();
    let mut owners = std::collections::HashMap::new();
    for name in &names {
        count(&store, name, 1).await.unwrap();
        let mut owner = None;
        for (index, node) in redis.nodes.iter().enumerate().take(3) {
            let before = owners.get(&index).copied().unwrap_or(0_usize);
            let size: usize = node.cli(&["--raw", "DBSIZE"]).trim().parse().unwrap();
            if size > before {
                owner = Some(index);
                owners.insert(index, size);
            }
        }
        assert!(owner.is_some());
    }
    redis.nodes[0].kill();
    let mut failed = std::collections::HashSet::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        for name in &names {
            if count(&store, name, 1).await.is_err() {
                failed.insert(name.clone());
            }
        }
    }
    assert!(!failed.is_empty() && failed.len() < 40, "{} of 60 keys failed", failed.len());
    for name in &names {
        until_counted(&store, name).await;
    }
}

/// Counters of a lost primary are decided at once by `on_store_loss`, and no others.
#[tokio::test]
async fn r09_a_lost_primary_of_a_cluster_is_given_up_alone() {
    let mut redis = Cluster::start();
    let may_fail_over = |redis: &Cluster, answer| {
        for node in &redis.nodes[3..] {
            node.cli(&["CONFIG", "SET", "cluster-replica-no-failover", answer]);
        }
    };
    may_fail_over(&redis, "yes");
    let store = Redis::connect(redis.options(PATIENCE)).unwrap();
    store.ping().await.unwrap();
    // Nothing but a lost connection is to fail on a busy machine.
    let store = Loss::new(store, PATIENCE, Arc::new(Local::new(1000)));
    let charges: Vec<_> = (0..60)
        .map(|number| Charge { on_store_loss: OnStoreLoss::Deny, ..strict(&format!("k{number}"), 1_000_000) })
        .collect();
    let passes = |outcomes: Result<Vec<Outcome>, StoreError>| outcomes.unwrap()[0].count <= 1_000_000;
    for charge in &charges {
        assert!(passes(store.charge(&[*charge]).await), "{charge:?}");
    }

    redis.nodes[0].kill();
    let begin = Instant::now();
    while !store.is_open() {
        for charge in &charges {
            let _ = store.charge(&[*charge]).await;
        }
        assert!(begin.elapsed() < PATIENCE, "the breaker does not open");
    }
    let (mut lost, mut kept) = (vec![], vec![]);
    for charge in &charges {
        if let Some(outcomes) = store.charge(&[*charge]).now_or_never() {
            assert!(!passes(outcomes), "{charge:?} is admitted without its primary");
            lost.push(*charge);
        } else {
            assert!(passes(store.charge(&[*charge]).await), "{charge:?} has its primary");
            kept.push(*charge);
        }
    }
    assert!(!lost.is_empty() && kept.len() > 20, "{} of 60 keys are lost", lost.len());
    assert!(store.charge(&[kept[0], lost[0]]).now_or_never().is_some(), "a request waits for none if one is lost");

    may_fail_over(&redis, "no");
    let begin = Instant::now();
    while store.is_open() {
        assert!(begin.elapsed() < 2 * PATIENCE, "the breaker does not close");
        sleep(PAUSE).await;
    }
    for charge in &charges {
        assert!(passes(store.charge(&[*charge]).await), "{charge:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r13_a_refused_password_is_not_sent_again_and_again_and_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let server = Node::start(dir.path(), &["--save", ""]);
    let file = dir.path().join("password");
    std::fs::write(&file, "hunter1\n").unwrap();
    server.cli(&["CONFIG", "SET", "requirepass", "hunter2"]);
    let access = Access { auth: Some(Secret::File(file.clone())), ..Access::default() };
    let options = Options {
        url: Url::new(&server.address()),
        timeout: TIMEOUT,
        key_prefix: String::new(),
        access,
        per_second: None,
    };
    // As the runtimes of a program do, they share what is known about the password.
    let stores = [(); 3].map(|()| Redis::connect(options.clone()).unwrap());
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(2500) {
        for store in &stores {
            let error = count(store, "a", 1).await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        }
        sleep(PAUSE).await;
    }
    let log = server.cli(&["-a", "hunter2", "ACL", "LOG"]);
    let counts = log.lines().collect::<Vec<_>>();
    let counts = counts.windows(2).filter(|pair| pair[0] == "count").map(|pair| pair[1].parse::<u32>().unwrap());
    let refused: u32 = counts.sum();
    assert!((1..=3).contains(&refused), "{refused} refused logins in 2.5 s");
    std::fs::write(&file, "hunter2\n").unwrap();
    for store in &stores {
        until_counted(store, "a").await;
    }
}

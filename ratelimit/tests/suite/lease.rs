//! Leases on a real Redis.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use ratelimit::{
    key::Key,
    store::{Algorithm, Charge, CounterStore, Denies, Lease, OnStoreLoss, Redis, StoreError, Undo, lease::Table},
};
use redis::InfoDict;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use crate::{redis_server::RedisServer, requests::descriptor};

mod authority;
mod guarded;
mod program;

const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: u32 = 3600;
/// How long an epoch waits for a replica.
const MEMBERSHIP: Duration = Duration::from_secs(2);
/// How often a scenario is tried on a busy machine.
const ATTEMPTS: usize = 20;

fn strict(name: &str, limit: u32) -> Charge {
    Charge {
        key: Key::new("lease", HOUR, Algorithm::FixedWindow, &descriptor(&[("name", name)]).entries, &[]),
        hits: 1,
        limit,
        denies: Denies::Alone,
        undo: Undo::Denied,
        algorithm: Algorithm::FixedWindow,
        window: HOUR,
        on_store_loss: OnStoreLoss::Error,
        leases: true,
    }
}

/// One process' leases, on the test's runtime.
struct Replica {
    lease: Lease,
    tending: JoinHandle<()>,
}

impl Replica {
    async fn start(server: &RedisServer) -> Self {
        let table = Arc::new(Table::new(1000));
        let lease = Lease::connect(server.options(PATIENCE), Arc::clone(&table)).unwrap();
        let tending = tokio::spawn(lease.clone().tend());
        let replica = Self { lease, tending };
        replica.open().await;
        replica
    }

    async fn open(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.lease.table().is_open() {
            assert!(Instant::now() < deadline, "the epoch does not open");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether a hit is admitted; none while Redis learns.
    async fn hit(&self, charge: Charge) -> Option<bool> {
        match self.lease.charge(&[charge]).await {
            Ok(outcomes) => Some(outcomes[0].count <= u64::from(charge.limit)),
            Err(StoreError::Learning | StoreError::Lost | StoreError::Redis(_) | StoreError::Timeout(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Hits until one is denied or so many are admitted. Returns how many were.
    async fn hits(&self, charge: Charge, most: u32) -> u32 {
        let mut admitted = 0;
        while admitted < most {
            match self.hit(charge).await {
                Some(true) => admitted += 1,
                Some(false) => break,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
        admitted
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tending.abort();
    }
}

async fn replicas(server: &RedisServer, count: usize) -> Vec<Arc<Replica>> {
    let mut replicas = Vec::new();
    for _ in 0..count {
        replicas.push(Arc::new(Replica::start(server).await));
    }
    settled(server).await;
    replicas
}

/// Waits until no hour ends within the next seconds.
async fn settled(server: &RedisServer) {
    let redis = Redis::connect(server.options(PATIENCE)).unwrap();
    while redis.charge(&[Charge { hits: 0, ..strict("settle", 1) }]).await.unwrap()[0].seconds_left < 30 {
        sleep(Duration::from_millis(100)).await;
    }
}

/// Four tasks on each replica, each hitting until it is denied or has got so many.
async fn load(replicas: &[Arc<Replica>], charge: Charge, most: u32) -> u32 {
    let mut tasks = JoinSet::new();
    for replica in replicas {
        for _ in 0..4 {
            let replica = Arc::clone(replica);
            tasks.spawn(async move { replica.hits(charge, most).await });
        }
    }
    tasks.join_all().await.into_iter().sum()
}

fn command(server: &RedisServer, command: &str) {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd(command).exec(&mut connection).unwrap();
}

/// How often Redis has counted something, in calls of its scripts or in commands of them.
fn calls(server: &RedisServer, of: &[&str]) -> u64 {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let info: InfoDict = redis::cmd("INFO").arg("commandstats").query(&mut connection).unwrap();
    let calls = |command: &&str| {
        let stats: String = info.get(&format!("cmdstat_{command}"))?;
        stats.split(',').find_map(|stat| stat.strip_prefix("calls=")?.parse::<u64>().ok())
    };
    of.iter().filter_map(calls).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_lease_admit_the_limit_and_no_more() {
    let server = RedisServer::start();
    let replicas = replicas(&server, 3).await;
    let admitted = load(&replicas, strict("hot", 3000), u32::MAX).await;
    // On a busy machine a lease may come when all that asked for it have been denied.
    assert!((2700..=3000).contains(&admitted), "{admitted} of 3000 admitted");
    for (limit, name) in [(1, "one"), (2, "two"), (5, "five")] {
        assert_eq!(load(&replicas, strict(name, limit), u32::MAX).await, limit, "small limits are exact");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_lease_share_limits_with_one_that_does_not() {
    let server = RedisServer::start();
    let replicas = replicas(&server, 2).await;
    let exact = Redis::connect(server.options(PATIENCE)).unwrap();
    let charge = strict("mixed", 2000);
    let others = tokio::spawn(async move {
        let mut admitted = 0;
        while exact.charge(&[charge]).await.unwrap()[0].count <= 2000 {
            admitted += 1;
        }
        admitted
    });
    let admitted = load(&replicas, charge, u32::MAX).await + others.await.unwrap();
    assert!((1800..=2000).contains(&admitted), "{admitted} of 2000 admitted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hot_key_costs_few_store_operations_and_one_over_its_limit_none() {
    let server = RedisServer::start();
    let replicas = replicas(&server, 1).await;
    let scripts = ["eval", "evalsha"];
    let before = calls(&server, &scripts);
    let admitted = load(&replicas, strict("hot", 1_000_000), 20_000).await;
    let operations = calls(&server, &scripts) - before;
    println!("{operations} operations for {admitted} decisions");
    assert!(operations * 20 <= u64::from(admitted), "{operations} operations for {admitted} decisions");

    let small = strict("small", 10);
    let (mut admitted, deadline) = (0, Instant::now() + PATIENCE);
    while admitted < 10 {
        // A hit may be denied while a lease with the last ones is on its way.
        assert!(Instant::now() < deadline, "{admitted} of 10 admitted");
        admitted += load(&replicas, small, u32::MAX).await;
    }
    let before = calls(&server, &["hincrby"]);
    for _ in 0..1000 {
        assert_eq!(replicas[0].hit(small).await, Some(false));
    }
    assert_eq!(calls(&server, &["hincrby"]), before, "denials cost the store nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refund_ends_a_denial() {
    let server = RedisServer::start();
    let replica = Replica::start(&server).await;
    let charge = strict("refunded", 2);
    assert_eq!(replica.hits(charge, u32::MAX).await, 2);
    replica.lease.charge(&[Charge { hits: -1, undo: Undo::Never, ..charge }]).await.unwrap();
    assert_eq!(replica.hits(charge, u32::MAX).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_one_limit_denies_costs_the_lease_of_the_other_nothing() {
    let server = RedisServer::start();
    let replica = Replica::start(&server).await;
    let (wide, narrow) = (strict("wide", 1000), strict("narrow", 3));
    assert_eq!(replica.hits(wide, 500).await, 500);
    let mut used = 0;
    for _ in 0..50 {
        let outcomes = replica.lease.charge(&[wide, narrow]).await.unwrap();
        assert_eq!(outcomes[0].charged, outcomes[1].count <= 3);
        used += u32::from(outcomes[0].charged);
    }
    let (rest, left) = (replica.hits(wide, u32::MAX).await, 500 - used);
    assert!(used <= 3 && (450..=left).contains(&rest), "{rest} of {left} left");
}

/// A rule with `leases: false`, beside one that is leased.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rule_that_is_not_leased_is_right_at_any_moment() {
    let server = RedisServer::start();
    let replicas = replicas(&server, 2).await;
    let (exact, leased) = (Charge { leases: false, ..strict("exact", 400) }, strict("leased", 100_000));
    let redis = Redis::connect(server.options(PATIENCE)).unwrap();
    for count in 1..=300 {
        let told = replicas[count % 2].lease.charge(&[exact, leased]).await.unwrap()[0].count;
        let counted = redis.charge(&[Charge { hits: 0, ..exact }]).await.unwrap()[0].count;
        assert_eq!((told, counted), (count as u64, count as u64));
    }
    let counted = redis.charge(&[Charge { hits: 0, ..leased }]).await.unwrap()[0].count;
    assert!(counted > 300, "nothing of the other is leased");
    command(&server, "FLUSHALL");
    assert_eq!(load(&replicas, exact, u32::MAX).await, 100, "ledgers have it too");
    replicas[0].lease.charge(&[Charge { hits: -1, undo: Undo::Never, ..exact }]).await.unwrap();
    assert_eq!(replicas[1].hit(exact).await, Some(true), "no denial is believed");
}

/// Runs the scenario until no replica was so late in it that the others stopped waiting for it, which it tells with `None`.
async fn undisturbed<T>(scenario: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..ATTEMPTS {
        if let Some(told) = scenario().await {
            return told;
        }
        println!("a replica was too late: once more");
    }
    panic!("a replica was too late {ATTEMPTS} times");
}

/// Waits until replicas with these tables charge in another epoch. Whether none can have been given up on, if it `began` no earlier.
async fn learn(tables: impl Iterator<Item = &Table>, began: Instant) -> bool {
    let learnt = tables.map(async |table| {
        for open in [false, true] {
            while table.is_open() != open {
                sleep(Duration::from_millis(2)).await;
            }
        }
    });
    timeout(PATIENCE, join_all(learnt)).await.is_ok() && began.elapsed() < MEMBERSHIP
}

/// Every replica remembers what it debited, so nothing is admitted twice.
async fn survives(start: impl Fn() -> RedisServer, loss: impl Fn(&mut RedisServer)) {
    let [hot, small] = undisturbed(async || {
        let mut server = start();
        let replicas = replicas(&server, 3).await;
        let (hot, small) = (strict("hot", 3000), strict("small", 6));
        let before = [load(&replicas, hot, 100).await, load(&replicas, small, 1).await];
        assert!(before[0] == 1200 && before[1] > 0);
        let began = Instant::now();
        loss(&mut server);
        let rest = async { [load(&replicas, hot, u32::MAX).await, load(&replicas, small, u32::MAX).await] };
        let learnt = learn(replicas.iter().map(|replica| &**replica.lease.table()), began);
        let (rest, in_time) = tokio::join!(rest, learnt);
        in_time.then_some([before[0] + rest[0], before[1] + rest[1]])
    })
    .await;
    assert!((2500..=3000).contains(&hot), "{hot} of 3000 admitted");
    assert!(small <= 6, "{small} of 6 admitted");
}

fn restart(server: &mut RedisServer) {
    server.kill();
    server.restart();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r02_a_restart_without_counts_admits_nothing_twice() {
    survives(RedisServer::start, restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r02_nor_does_one_of_valkey() {
    survives(RedisServer::start_valkey, restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r19_a_flush_admits_nothing_twice() {
    survives(RedisServer::start, |server| command(server, "FLUSHALL")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p01_a_crash_strands_no_more_than_the_leases_of_the_replica() {
    let server = RedisServer::start();
    let mut replicas = replicas(&server, 2).await;
    let charge = strict("hot", 2000);
    let before = load(&replicas, charge, 50).await;
    drop(replicas.pop());
    let admitted = before + load(&replicas, charge, u32::MAX).await;
    // A lease is at most half of a half of what remains.
    assert!((1500..=2000).contains(&admitted), "{admitted} of 2000 admitted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p02_leases_are_given_back_at_the_end_and_when_idle() {
    let server = RedisServer::start();
    let replicas = replicas(&server, 2).await;
    let (left, idle) = (strict("left", 2000), strict("idle", 2000));
    assert_eq!(replicas[0].hits(left, 100).await, 100);
    replicas[0].lease.close().await.unwrap();
    let (mut admitted, deadline) = (0, Instant::now() + PATIENCE);
    while admitted < 1900 {
        // A hit may be denied while a lease with the last ones is on its way.
        assert!(Instant::now() < deadline, "{} hits were not given back", 1900 - admitted);
        admitted += replicas[1].hits(left, 1900 - admitted).await;
    }
    assert_eq!(replicas[1].hits(left, 1).await, 0);

    assert_eq!(replicas[1].hits(idle, 100).await, 100);
    let exact = Redis::connect(server.options(PATIENCE)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while exact.charge(&[Charge { hits: 0, ..idle }]).await.unwrap()[0].count > 100 {
        assert!(Instant::now() < deadline, "an idle lease is not given back");
        sleep(Duration::from_millis(50)).await;
    }
}

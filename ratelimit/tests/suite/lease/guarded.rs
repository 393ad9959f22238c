//! The whole stack: leases on a real Redis, guarded against its loss.

use std::{sync::Arc, time::Duration};

use ratelimit::store::{Charge, CounterStore, Lease, Local, Loss, OnStoreLoss, lease::Table};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use super::{PATIENCE, Redis, command, learn, settled, strict, undisturbed};
use crate::redis_server::RedisServer;

/// Fifty times the default, for a machine that is busy with other tests: each call that is given up loses a lease.
const DEADLINE: Duration = Duration::from_millis(500);
const LIMIT: u32 = 3000;

/// One process' store, on the test's runtime.
struct Replica {
    store: Loss<Lease>,
    table: Arc<Table>,
    tending: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tending.abort();
    }
}

impl Replica {
    async fn start(server: &RedisServer, count: u32, number: u32) -> Self {
        let (table, local) = (Arc::new(Table::new(1000)), Arc::new(Local::new(1000)));
        local.set_replicas(count, Some(number));
        let lease = Lease::connect(server.options(DEADLINE), Arc::clone(&table)).unwrap();
        let tending = tokio::spawn(lease.clone().tend());
        let replica = Self { store: Loss::new(lease, DEADLINE, local), table, tending };
        until("the first epoch", async || replica.table.is_open()).await;
        replica
    }

    /// How many of so many requests are admitted. None may fail.
    async fn admits(&self, charge: Charge, requests: u32) -> u32 {
        let mut admitted = 0;
        for _ in 0..requests {
            admitted += u32::from(self.store.charge(&[charge]).await.unwrap()[0].count <= charge.limit.into());
        }
        admitted
    }
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        sleep(Duration::from_millis(10)).await;
    }
}

/// See [`learn`].
async fn all_learn(replicas: &[Arc<Replica>], began: Instant) -> bool {
    learn(replicas.iter().map(|replica| &*replica.table), began).await
}

async fn fleet(server: &RedisServer, count: u32) -> Vec<Arc<Replica>> {
    let mut replicas = Vec::new();
    for number in 0..count {
        replicas.push(Arc::new(Replica::start(server, count, number).await));
    }
    settled(server).await;
    replicas
}

/// So many requests on each replica, all at once.
async fn load(replicas: &[Arc<Replica>], charge: Charge, requests: u32) -> u32 {
    let mut tasks = JoinSet::new();
    for replica in replicas {
        for _ in 0..4 {
            let replica = Arc::clone(replica);
            tasks.spawn(async move { replica.admits(charge, requests / 4).await });
        }
    }
    tasks.join_all().await.into_iter().sum()
}

/// Sends requests until Redis has counted the limit. Returns how many were admitted.
async fn use_up(server: &RedisServer, replicas: &[Arc<Replica>], charge: Charge) -> u32 {
    let redis = Redis::connect(server.options(PATIENCE)).unwrap();
    let (mut admitted, deadline) = (0, Instant::now() + PATIENCE);
    loop {
        admitted += load(replicas, charge, 100).await;
        let counted = redis.charge(&[Charge { hits: 0, ..charge }]).await;
        if counted.is_ok_and(|outcomes| outcomes[0].count >= charge.limit.into()) {
            return admitted + load(replicas, charge, 400).await;
        }
        assert!(Instant::now() < deadline, "the limit is not used up after {admitted}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn guarded(on_store_loss: OnStoreLoss) -> Charge {
    Charge { on_store_loss, ..strict("guarded", LIMIT) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r02_a_restart_costs_nothing_where_replicas_share() {
    let [before, lost, after] = undisturbed(async || {
        let mut server = RedisServer::start();
        let replicas = fleet(&server, 3).await;
        let charge = guarded(OnStoreLoss::Share);
        let before = load(&replicas, charge, 400).await;
        server.kill();
        let mut lost = 0;
        until("all give Redis up", async || {
            lost += load(&replicas, charge, 40).await;
            replicas.iter().all(|replica| replica.store.is_open())
        })
        .await;
        lost += load(&replicas, charge, 200).await;
        let began = Instant::now();
        server.restart();
        let (after, in_time) = tokio::join!(use_up(&server, &replicas, charge), all_learn(&replicas, began));
        in_time.then_some([before, lost, after])
    })
    .await;
    assert_eq!(before, 1200);
    let admitted = before + lost + after;
    assert!((LIMIT - 500..=LIMIT).contains(&admitted), "{before} + {lost} + {after} of {LIMIT}");
}

/// Replicas that had more than their part of the limit know of nobody else's: only denying is exact then.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r02_a_restart_costs_nothing_where_only_leases_are_spent() {
    let [before, lost, after] = undisturbed(async || {
        let mut server = RedisServer::start();
        let replicas = fleet(&server, 3).await;
        let charge = guarded(OnStoreLoss::LeaseOnly);
        let before = load(&replicas[..1], charge, 2000).await + load(&replicas, charge, 40).await;
        server.kill();
        let lost = load(&replicas, charge, 400).await;
        let began = Instant::now();
        server.restart();
        let (after, in_time) = tokio::join!(use_up(&server, &replicas, charge), all_learn(&replicas, began));
        in_time.then_some([before, lost, after])
    })
    .await;
    let admitted = before + lost + after;
    assert!((LIMIT - 1000..=LIMIT).contains(&admitted), "{before} + {lost} + {after} of {LIMIT}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r19_a_flush_costs_nothing_and_is_no_loss_of_the_store() {
    let (before, after) = undisturbed(async || {
        let server = RedisServer::start();
        let replicas = fleet(&server, 3).await;
        let charge = guarded(OnStoreLoss::Share);
        let before = load(&replicas, charge, 400).await;
        let began = Instant::now();
        command(&server, "FLUSHALL");
        let (after, in_time) = tokio::join!(use_up(&server, &replicas, charge), all_learn(&replicas, began));
        for replica in &replicas {
            until("no breaker is open", async || !replica.store.is_open()).await;
        }
        in_time.then_some((before, after))
    })
    .await;
    assert!((LIMIT - 500..=LIMIT).contains(&(before + after)), "{before} + {after} of {LIMIT}");
}

/// A request that gave up may be counted in Redis, but what it took of a lease is there for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r04_requests_that_give_up_lose_nothing_of_a_lease() {
    let server = RedisServer::start();
    let replicas = fleet(&server, 1).await;
    let charge = guarded(OnStoreLoss::LeaseOnly);
    let before = load(&replicas, charge, 400).await;
    server.hang();
    // More than the lease holds, so it is asked of Redis too.
    let large = Charge { hits: i64::from(LIMIT), ..charge };
    assert_eq!(replicas[0].admits(large, 5).await, 0);
    let held = load(&replicas, charge, LIMIT).await;
    assert!(held > 0, "the lease is gone");
    server.resume();
    assert!(before + held <= LIMIT);
}

//! Replicas whose Redis fails: who decides then, how fast, and how much is admitted.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use ratelimit::store::{Any, Charge, CounterStore, Local, Loss, Member, OnStoreLoss, Redis, StoreError, redis::Url};
use redis::aio::MultiplexedConnection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    runtime::Handle,
    task::JoinSet,
    time::sleep,
};

use crate::{
    fault_proxy::{Fault, FaultProxy},
    redis_server::RedisServer,
    stores::{HOUR, PATIENCE, charge, look, settled, strict},
};

/// Forty times the default, for a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_millis(400);
const LIMIT: u32 = 90;

/// One of several services.
struct Replica {
    store: Loss<Redis>,
    local: Arc<Local>,
}

impl Replica {
    async fn connect(server: &RedisServer, url: &str, count: u32, number: u32) -> Self {
        let redis = Redis::connect(ratelimit::store::redis::Options { url: Url::new(url), ..server.options(DEADLINE) });
        let (redis, local) = (redis.unwrap(), Arc::new(Local::new(10_000)));
        local.set_replicas(count, Some(number));
        until("a connection", async || redis.charge(&[charge("settle", 0, HOUR)]).await.is_ok()).await;
        Self { store: Loss::new(redis, DEADLINE, Arc::clone(&local)), local }
    }

    /// So many replicas that speak to Redis directly.
    async fn fleet(server: &RedisServer, count: u32) -> Vec<Self> {
        settled(&direct(server)).await;
        let mut replicas = vec![];
        for number in 0..count {
            replicas.push(Self::connect(server, &server.url(), count, number).await);
        }
        replicas
    }

    /// How many of so many requests are admitted. None may fail.
    async fn admits(&self, charge: Charge, requests: usize) -> u32 {
        let mut admitted = 0;
        for _ in 0..requests {
            admitted += u32::from(self.store.charge(&[charge]).await.unwrap()[0].count <= charge.limit.into());
        }
        admitted
    }

    /// The same while Redis is given up, when nothing may wait.
    fn admits_at_once(&self, charge: Charge, requests: usize) -> u32 {
        let decided = (0..requests).map(|_| {
            let outcomes = self.store.charge(&[charge]).now_or_never().expect("waited while the breaker was open");
            u32::from(outcomes.unwrap()[0].count <= charge.limit.into())
        });
        decided.sum()
    }

    /// Sends requests until Redis is given up; returns how many were admitted.
    async fn lose(&self, charge: Charge) -> u32 {
        let (begin, mut admitted) = (Instant::now(), 0);
        while !self.store.is_open() {
            admitted += self.admits(charge, 1).await;
            assert!(begin.elapsed() < PATIENCE, "the breaker does not open");
        }
        admitted
    }

    async fn find(&self) {
        until("the breaker closes", async || !self.store.is_open()).await;
    }
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < PATIENCE, "{what} did not happen in time");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn sum(of_each: impl IntoIterator<Item = impl Future<Output = u32>>) -> u32 {
    futures::future::join_all(of_each).await.into_iter().sum()
}

fn direct(server: &RedisServer) -> Any {
    Any::Redis(Redis::connect(server.options(PATIENCE)).unwrap())
}

async fn client(server: &RedisServer) -> MultiplexedConnection {
    ::redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

fn shared(name: &str, limit: u32) -> Charge {
    Charge { on_store_loss: OnStoreLoss::Share, ..strict(name, limit) }
}

#[tokio::test]
async fn each_rule_says_who_decides() {
    let mut server = RedisServer::start();
    let replica = &Replica::fleet(&server, 1).await[0];
    let of_mode = |on_store_loss| Charge { on_store_loss, ..strict("a", 5) };
    server.kill();
    replica.lose(shared("other", 1)).await;
    for (mode, admitted) in
        [(OnStoreLoss::Allow, 20), (OnStoreLoss::Deny, 0), (OnStoreLoss::LeaseOnly, 0), (OnStoreLoss::Share, 5)]
    {
        assert_eq!(replica.admits_at_once(of_mode(mode), 20), admitted, "{mode}");
    }
    let mixed = [of_mode(OnStoreLoss::Allow), of_mode(OnStoreLoss::Error), of_mode(OnStoreLoss::Deny)];
    assert!(matches!(replica.store.charge(&mixed).await, Err(StoreError::Lost)));
    let outcomes = replica.store.charge(&mixed[..1]).await.unwrap();
    assert!(outcomes[0].count <= 5 && outcomes[0].charged);
}

/// In the window in which Redis is lost, no more than the limit and by how much the replicas' last counts were behind.
#[tokio::test]
async fn r01_a_killed_redis_costs_at_most_what_the_replicas_had_not_heard() {
    let mut server = RedisServer::start();
    let replicas = Replica::fleet(&server, 3).await;
    let charge = shared("a", LIMIT);
    let mut admitted = 0;
    for replica in &replicas {
        admitted += replica.admits(charge, 10).await;
    }
    assert_eq!(admitted, 30);
    server.kill();
    for replica in &replicas {
        admitted += replica.lose(charge).await;
        admitted += replica.admits_at_once(charge, 200);
    }
    // Their last counts were 10, 20 and 30, so they are behind by 10 on average.
    assert!((LIMIT + 8..=LIMIT + 10).contains(&admitted), "{admitted}");
    assert!(admitted <= 2 * LIMIT);
}

#[tokio::test]
async fn r01_later_windows_admit_the_limit_in_sum() {
    let mut server = RedisServer::start();
    let replicas = Replica::fleet(&server, 3).await;
    server.kill();
    let charge = Charge { window: 1, ..shared("second", 30) };
    for replica in &replicas {
        replica.lose(shared("other", 1)).await;
    }
    let (begin, mut windows) = (Instant::now(), BTreeMap::<u64, u32>::new());
    while windows.len() < 4 {
        for replica in &replicas {
            let before = replica.local.now() / 1000;
            let admitted = replica.admits_at_once(charge, 3);
            // By its own clock, a millisecond off the others' perhaps. What falls on the end of a window counts in neither.
            if before == replica.local.now() / 1000 {
                *windows.entry(before).or_default() += admitted;
            }
        }
        sleep(Duration::from_millis(1)).await;
        assert!(begin.elapsed() < PATIENCE, "{windows:?}");
    }
    assert!(windows.values().all(|admitted| *admitted <= 30), "{windows:?}");
    assert!(windows.values().any(|admitted| *admitted == 30), "{windows:?}");
}

/// A Redis that forgets admits the limit once more, for nobody else knows the counts.
#[tokio::test]
async fn r02_a_restart_without_data_costs_one_more_limit() {
    let mut server = RedisServer::start();
    let replicas = Replica::fleet(&server, 3).await;
    let charge = shared("a", LIMIT);
    let before = sum(replicas.iter().map(|replica| replica.admits(charge, 10))).await;
    server.kill();
    let mut lost = 0;
    for replica in &replicas {
        lost += replica.lose(charge).await + replica.admits_at_once(charge, 100);
    }
    server.restart();
    for replica in &replicas {
        replica.find().await;
    }
    let after = sum(replicas.iter().map(|replica| replica.admits(charge, 100))).await;
    assert_eq!((before, after), (30, LIMIT));
    assert!(before + lost <= 2 * LIMIT, "{before} {lost}");
}

/// Answers every command as a Redis does that reads its data from disk.
async fn loading(listener: UnixListener) {
    let mut connections = JoinSet::new();
    while let Ok((mut connection, _)) = listener.accept().await {
        connections.spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = connection.read(&mut buffer).await {
                let commands = buffer[..length].windows(3).filter(|bytes| bytes == b"\r\n*").count() + 1;
                let replies = "-LOADING Redis is loading the dataset in memory\r\n".repeat(commands);
                if connection.write_all(replies.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[tokio::test]
async fn r03_loading_is_not_an_error_of_requests() {
    let mut server = RedisServer::start();
    let replica = &Replica::fleet(&server, 1).await[0];
    let charge = shared("a", LIMIT);
    assert_eq!(replica.admits(charge, 10).await, 10);
    server.kill();
    std::fs::remove_file(server.socket()).ok();
    let fake = tokio::spawn(loading(UnixListener::bind(server.socket()).unwrap()));
    let admitted = replica.lose(charge).await + replica.admits_at_once(charge, 200);
    assert_eq!(admitted, LIMIT - 10);
    sleep(Duration::from_millis(600)).await;
    assert!(replica.store.is_open(), "probes are answered with LOADING");
    fake.abort();
    std::fs::remove_file(server.socket()).unwrap();
    server.restart();
    replica.find().await;
}

#[tokio::test]
async fn r04_a_hung_redis_holds_nobody_up_and_spends_nothing_twice() {
    let server = RedisServer::start();
    let replicas = Replica::fleet(&server, 2).await;
    let charge = shared("a", LIMIT);
    let before = sum(replicas.iter().map(|replica| replica.admits(charge, 10))).await;
    server.hang();
    let hung = Instant::now();
    let mut lost = 0;
    for replica in &replicas {
        lost += replica.lose(charge).await;
    }
    let tasks = Handle::current().metrics().num_alive_tasks();
    while hung.elapsed() < Duration::from_secs(2) {
        lost += replicas.iter().map(|replica| replica.admits_at_once(charge, 10)).sum::<u32>();
        sleep(Duration::from_millis(10)).await;
    }
    assert!(Handle::current().metrics().num_alive_tasks() <= tasks + 4, "tasks pile up");
    server.resume();
    for replica in &replicas {
        replica.find().await;
    }
    let spent = look(&direct(&server), &["a"]).await[0];
    let after = sum(replicas.iter().map(|replica| replica.admits(charge, 200))).await;
    assert_eq!(spent + u64::from(after), u64::from(LIMIT), "what was sent before is spent once");
    assert!(before + lost + after <= 2 * LIMIT, "{before} {lost} {after}");
}

#[tokio::test]
async fn r10_slow_within_the_deadline_is_exact() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.socket().as_path()).await;
    settled(&direct(&server)).await;
    let replica = Replica::connect(&server, proxy.address(), 1, 0).await;
    proxy.set(Fault::Slow(Duration::from_millis(10)));
    assert_eq!(replica.admits(shared("a", 20), 40).await, 20);
    assert_eq!(look(&direct(&server), &["a"]).await, [20]);
}

#[tokio::test]
async fn r10_slower_than_the_deadline_is_lost_without_a_storm() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.socket().as_path()).await;
    settled(&direct(&server)).await;
    let replica = Replica::connect(&server, proxy.address(), 1, 0).await;
    for delay in [DEADLINE * 3 / 2, DEADLINE * 5] {
        proxy.set(Fault::Slow(delay));
        let (sent, begin, mut offered) = (proxy.requests(), Instant::now(), 0);
        while !replica.store.is_open() || begin.elapsed() < Duration::from_millis(1500) {
            assert!(begin.elapsed() < PATIENCE, "the breaker does not open");
            replica.admits(shared("a", LIMIT), 1).await;
            offered += 1;
            sleep(Duration::from_millis(5)).await;
        }
        let sent = proxy.requests() - sent;
        assert!(replica.store.is_open());
        assert!(sent * 10 <= offered * 11 && sent <= 20, "{sent} calls for {offered} requests");
        proxy.set(Fault::None);
        replica.find().await;
    }
}

#[tokio::test]
async fn r11_a_redis_without_memory_is_lost_until_it_writes() {
    let server = RedisServer::start();
    let replica = &Replica::fleet(&server, 1).await[0];
    let mut client = client(&server).await;
    let mut limit_memory = async |most: &str| {
        let _: () =
            ::redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(most).query_async(&mut client).await.unwrap();
    };
    limit_memory("1mb").await;
    let admitted = replica.lose(shared("a", LIMIT)).await + replica.admits_at_once(shared("a", LIMIT), 200);
    assert_eq!(admitted, LIMIT);
    for _ in 0..60 {
        sleep(Duration::from_millis(10)).await;
        assert!(replica.store.is_open(), "it still reads, but does not count");
    }
    limit_memory("0").await;
    replica.find().await;
}

#[tokio::test]
async fn r16_what_redis_counted_without_a_reply_is_spent() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.socket().as_path()).await;
    settled(&direct(&server)).await;
    let replica = Replica::connect(&server, proxy.address(), 1, 0).await;
    let charge = shared("a", LIMIT);
    assert_eq!(replica.admits(charge, 10).await, 10);
    proxy.set(Fault::NoReplies);
    let lost = replica.lose(charge).await + replica.admits_at_once(charge, 200);
    proxy.set(Fault::None);
    replica.find().await;
    let spent = look(&direct(&server), &["a"]).await[0];
    assert!(spent > 10, "calls went through");
    let after = replica.admits(charge, 200).await;
    assert_eq!(spent + u64::from(after), u64::from(LIMIT));
    assert!(10 + lost + after <= 2 * LIMIT, "{lost} {after}");
}

#[tokio::test]
async fn cut_and_reset_connections_are_no_errors() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.socket().as_path()).await;
    settled(&direct(&server)).await;
    let replica = Replica::connect(&server, proxy.address(), 1, 0).await;
    for fault in [Fault::Cut, Fault::Reset, Fault::Truncate(3)] {
        proxy.set(fault);
        replica.lose(shared("a", LIMIT)).await;
        proxy.set(Fault::None);
        replica.find().await;
    }
}

/// Without anybody noticing: Redis answers, and counts from zero.
#[tokio::test]
async fn r19_a_flush_costs_at_most_one_more_limit() {
    let server = RedisServer::start();
    let replica = &Replica::fleet(&server, 1).await[0];
    let charge = shared("a", LIMIT);
    assert_eq!(replica.admits(charge, 200).await, LIMIT);
    let _: () = ::redis::cmd("FLUSHALL").query_async(&mut client(&server).await).await.unwrap();
    assert_eq!(replica.admits(charge, 200).await, LIMIT);
}

/// Replicas that find each other through Redis. One loses it in a fresh window, and admits its part on top.
#[tokio::test]
async fn r15_replicas_that_are_cut_off_admit_their_part_on_top() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.socket().as_path()).await;
    settled(&direct(&server)).await;
    let mut replicas = vec![];
    for url in [proxy.address().to_owned(), server.url(), server.url()] {
        replicas.push(Replica::connect(&server, &url, 1, 0).await);
    }
    let redis = Redis::connect(server.options(PATIENCE)).unwrap();
    let join = |replica: &Replica| Member::join(redis.clone(), Arc::clone(&replica.local), None);
    let mut members: Vec<_> = replicas.iter().map(join).collect();
    for member in &mut members {
        member.beat().await.unwrap();
    }
    for member in &mut members {
        member.beat().await.unwrap();
    }
    assert!(replicas.iter().all(|replica| replica.local.replicas() == 3));

    proxy.set(Fault::Cut);
    let charge = shared("a", LIMIT);
    let cut_off = replicas[0].lose(charge).await + replicas[0].admits_at_once(charge, 200);
    let connected = sum(replicas[1..].iter().map(|replica| replica.admits(charge, 200))).await;
    assert_eq!((cut_off, connected), (LIMIT / 3, LIMIT));
}

/// A Redis that has just started empty knows of nobody, and a part of a limit must not grow for it.
#[tokio::test]
async fn fewer_replicas_are_not_believed_at_once() {
    let server = RedisServer::start();
    let redis = Redis::connect(server.options(PATIENCE)).unwrap();
    let locals = [(); 2].map(|()| Arc::new(Local::new(10)));
    let mut members = locals.clone().map(|local| Member::join(redis.clone(), local, None));
    for member in members.iter_mut().rev() {
        member.beat().await.unwrap();
    }
    assert_eq!(locals[0].replicas(), 2);
    let _: () = ::redis::cmd("FLUSHALL").query_async(&mut client(&server).await).await.unwrap();
    members[0].beat().await.unwrap();
    assert_eq!(locals[0].replicas(), 2);
}

/// This machine's clock is an hour ahead; Redis is heard once.
#[tokio::test]
async fn r17_windows_go_by_the_clock_of_redis_while_it_is_away() {
    let server = RedisServer::start();
    let redis = Redis::connect(server.options(PATIENCE)).unwrap();
    let local = Arc::new(Local::new(10));
    let right = local.now();
    local.set_clock(right + 3_600_000, Instant::now());
    assert!(local.now() >= right + 3_600_000);
    Member::join(redis, Arc::clone(&local), None).beat().await.unwrap();
    assert!((right.saturating_sub(1000)..right + 60_000).contains(&local.now()));
}

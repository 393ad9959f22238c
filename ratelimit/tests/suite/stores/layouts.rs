//! The cases that need no memory of their own, on Redis in every layout and with every way in.

use std::future::Future;

use ratelimit::store::{
    Any, Redis,
    redis::{Access, Connections, Options, Secret, Tls, Url},
};

use super::{PATIENCE, settled};
use crate::{
    certificates::Authority,
    redis_server::RedisServer,
    redis_topology::{Cluster, Node, Replicated, free_port},
};

/// With counters of its own.
async fn on<F: Future>(options: &Options, name: &str, case: impl Fn(Any) -> F) {
    let store = Redis::connect(Options { key_prefix: format!("test:{name}:"), ..options.clone() }).unwrap();
    store.ping().await.unwrap();
    let store = Any::Redis(store);
    settled(&store).await;
    case(store).await;
}

/// Cases on one layout, one after the other.
macro_rules! run {
    ($options:expr, $($case:ident),* $(,)?) => {
        let options: Options = $options;
        $(on(&options, stringify!($case), super::$case).await;)*
    };
}

/// What one server decides in one step. In a cluster, hits of a request that is denied come back a moment later.
macro_rules! run_all {
    ($options:expr) => {
        run![
            $options,
            a_denied_request_costs_nothing,
            stated_hits_stay_where_they_are_over,
            quotas_deny_together,
            concurrent_requests_are_all_or_nothing
        ];
        run_most!($options);
    };
}

macro_rules! run_most {
    ($options:expr) => {
        run![
            $options,
            hits_add_up,
            zero_hits_only_look,
            negative_hits_give_back_down_to_zero,
            counts_do_not_overflow,
            windows_end_with_the_clock,
            what_is_never_taken_back_stays,
            concurrent_charges_admit_exactly_the_limit,
            counters_of_every_algorithm_add_up,
            concurrent_charges_of_every_algorithm_admit_exactly_the_limit,
            slots_are_held_until_they_are_given_back
        ];
    };
}

fn options(url: &str, access: Access) -> Options {
    Options { url: Url::new(url), timeout: PATIENCE, key_prefix: String::new(), access, per_second: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_pooled_connections() {
    let server = RedisServer::start();
    let access = Access { connections: Connections::Pooled(3), ..Access::default() };
    run_all!(options(&server.url(), access.clone()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn behind_sentinels() {
    let redis = Replicated::start();
    run_all!(redis.options(PATIENCE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_cluster() {
    let redis = Cluster::start();
    run_most!(redis.options(PATIENCE));
    let mut pooled = redis.options(PATIENCE);
    pooled.access.connections = Connections::Pooled(2);
    run![pooled, the_oldest_slots_are_given_back_first];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_valkeys_layouts() {
    let (replicated, cluster) = (Replicated::start_valkey(), Cluster::start_valkey());
    run_all!(replicated.options(PATIENCE));
    run_most!(cluster.options(PATIENCE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_redis_for_windows_of_a_second() {
    let servers = [RedisServer::start(), RedisServer::start()];
    let second = Box::new(servers[1].options(PATIENCE));
    let options = Options { per_second: Some(second), ..servers[0].options(PATIENCE) };
    run_all!(options.clone());
    let store = Any::Redis(Redis::connect(options).unwrap());
    super::counts(&store, &[super::charge("a", 1, 1), super::charge("b", 1, super::HOUR)]).await;
    for (server, windows) in [(&servers[0], "3600"), (&servers[1], "1")] {
        let client = ::redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        // Names of fixed windows begin with their length; those of the others hold bytes of keys.
        let keys: Vec<Vec<u8>> = ::redis::cmd("KEYS").arg("*}v2:[0-9]*").query_async(&mut connection).await.unwrap();
        let keys: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
        assert!(!keys.is_empty() && keys.iter().all(|key| key.contains(&format!("}}v2:{windows}:"))), "{keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_a_user_with_few_rights() {
    let dir = tempfile::tempdir().unwrap();
    let server = Node::start(dir.path(), &["--save", ""]);
    let commands = "+eval +evalsha +time +hget +hincrby +hset +hlen +expire +get +set +del +ping";
    let rights =
        [&["ACL", "SETUSER", "joe", "on", ">hunter2", "~test:*"][..], &commands.split(' ').collect::<Vec<_>>()];
    assert_eq!(server.cli(&rights.concat()).trim(), "OK");
    let access = Access { auth: Some(Secret::Text("joe:hunter2".into())), ..Access::default() };
    run_all!(options(&server.address(), access.clone()));
    let url = format!("redis://joe:hunter2@{}", server.address());
    run![options(&url, Access::default()), the_oldest_slots_are_given_back_first];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_tls_with_client_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let [cert, key, ca] = authority.issue("redis.example").write(dir.path(), &authority);
    let port = free_port().to_string();
    let [cert_text, key_text, ca_text] = [&cert, &key, &ca].map(|path| path.to_str().unwrap());
    let tls = ["--tls-cert-file", cert_text, "--tls-key-file", key_text, "--tls-ca-cert-file", ca_text];
    let arguments = [&["--save", "", "--tls-port", &port, "--tls-auth-clients", "yes"][..], &tls].concat();
    let _server = Node::start(dir.path(), &arguments);
    let tls = Tls { ca: Some(ca.clone()), client: Some((cert.clone(), key.clone())), skip_name: true };
    let with = |tls: &Tls| Access { tls: Some(tls.clone()), ..Access::default() };
    let address = format!("127.0.0.1:{port}");
    run_all!(options(&address, with(&tls)));

    let other = tempfile::tempdir().unwrap();
    let stranger = Authority::new();
    let [_, _, stranger_ca] = stranger.issue("redis.example").write(other.path(), &stranger);
    for refused in [
        Tls { skip_name: false, ..tls.clone() },
        Tls { client: None, ..tls.clone() },
        Tls { ca: Some(stranger_ca), ..tls.clone() },
        Tls { ca: Some(dir.path().join("none")), ..tls.clone() },
    ] {
        let store = Redis::connect(options(&address, with(&refused))).unwrap();
        assert!(store.ping().await.is_err(), "{refused:?}");
    }

    // The file is read at each attempt to connect.
    let late = dir.path().join("late.crt");
    let store = Redis::connect(options(&address, with(&Tls { ca: Some(late.clone()), ..tls }))).unwrap();
    assert!(store.ping().await.is_err());
    std::fs::copy(&ca, &late).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while store.ping().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the file is not read again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

//! What every store does, and what only Redis can suffer.

use std::time::{Duration, Instant};

use extauth::background::Background;
use extauth::store::redis::{Access, Options, Secret, Tls, Url};
use extauth::store::{Bounds, Error, FOREVER, Memory, News, Redis, Store};

use crate::redis::{Cluster, Replicated, Single};
use crate::support::wait;

const HOUR: Duration = Duration::from_hours(1);
const PATIENCE: Duration = Duration::from_secs(30);

fn redis(options: Options) -> Store {
    Store::Redis(Redis::new(options, Background::start().unwrap()).unwrap())
}

fn memory(bytes: usize, entries: usize) -> Store {
    Store::Memory(Memory::new(Bounds { bytes, entries }))
}

/// Everything a store promises; `other` is the same store as another replica sees it.
async fn keeps_its_promises(store: &Store, other: &Store) {
    values(store, other).await;
    once_only(store, other).await;
    sets(store, other).await;
    expiry(store).await;
    announcements(store, other).await;
}

async fn values(store: &Store, other: &Store) {
    assert_eq!(store.get("a").await.unwrap(), None);
    let bytes: Vec<u8> = (0..=255).collect();
    store.put("a", &bytes, HOUR).await.unwrap();
    assert_eq!(other.get("a").await.unwrap().unwrap(), bytes);
    store.put("a", b"", FOREVER * 2).await.unwrap();
    assert_eq!(other.get("a").await.unwrap().unwrap(), "", "empty is not absent");
    assert!(store.remove("a").await.unwrap());
    assert!(!other.remove("a").await.unwrap());
    assert_eq!(other.get("a").await.unwrap(), None);
}

async fn once_only(store: &Store, other: &Store) {
    assert!(store.put_new("lock", b"1", HOUR).await.unwrap());
    assert!(!other.put_new("lock", b"2", HOUR).await.unwrap());
    assert_eq!(other.get("lock").await.unwrap().unwrap(), "1");
    assert!(!store.swap("lock", b"2", b"3", HOUR).await.unwrap());
    assert!(store.swap("lock", b"1", b"3", HOUR).await.unwrap());
    assert!(!store.swap("nothing", b"", b"3", HOUR).await.unwrap());
    assert_eq!(store.get("nothing").await.unwrap(), None);
    let taken = futures::future::join_all((0..20).map(|number| {
        let store = if number % 2 == 0 { store } else { other };
        store.take("lock")
    }));
    let taken: Vec<_> = taken.await.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(taken, ["3"], "one of all who take gets it");
}

async fn sets(store: &Store, other: &Store) {
    assert!(store.members("set").await.unwrap().is_empty());
    store.add("set", b"one", HOUR).await.unwrap();
    other.add("set", b"two\0\xff", HOUR).await.unwrap();
    store.add("set", b"one", HOUR).await.unwrap();
    let mut members = other.members("set").await.unwrap();
    members.sort();
    assert_eq!(members, [&b"one"[..], b"two\0\xff"]);
    assert!(store.discard("set", b"one").await.unwrap());
    assert!(!other.discard("set", b"one").await.unwrap());
    assert!(store.remove("set").await.unwrap());
    assert!(store.members("set").await.unwrap().is_empty());
}

async fn expiry(store: &Store) {
    let soon = Duration::from_millis(300);
    let start = Instant::now();
    store.put("brief", b"", soon).await.unwrap();
    store.add("mixed", b"brief", soon).await.unwrap();
    store.add("mixed", b"long", HOUR).await.unwrap();
    store.put("renewed", b"", soon).await.unwrap();
    store.put("renewed", b"", HOUR).await.unwrap();
    while store.get("brief").await.unwrap().is_some() || store.members("mixed").await.unwrap().len() > 1 {
        assert!(start.elapsed() < PATIENCE, "nothing expires");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(start.elapsed() >= soon, "expired too early");
    assert_eq!(store.members("mixed").await.unwrap(), ["long"]);
    assert!(store.get("renewed").await.unwrap().is_some(), "the last time to live counts");
    assert!(store.put_new("brief", b"", HOUR).await.unwrap(), "what has expired is absent");
}

async fn announcements(store: &Store, other: &Store) {
    let mut here = store.listen("news");
    let mut there = other.listen("news");
    let mut elsewhere = other.listen("other");
    for listener in [&mut here, &mut there, &mut elsewhere] {
        assert_eq!(heard(listener).await, News::Missed, "first: read what was announced before");
    }
    store.announce("news", b"hello").await.unwrap();
    for listener in [&mut here, &mut there] {
        while heard(listener).await != News::Message("hello".into()) {}
    }
    store.announce("other", b"also").await.unwrap();
    assert_eq!(heard(&mut elsewhere).await, News::Message("also".into()));
    for number in 0..3000 {
        store.announce("news", format!("{number}").as_bytes()).await.unwrap();
        if number % 500 == 0 {
            assert_eq!(heard(&mut there).await, News::Message(number.to_string().into()));
        }
        while number % 500 != 0 && heard(&mut there).await != News::Message(number.to_string().into()) {}
    }
    assert_eq!(heard(&mut here).await, News::Missed, "a slow listener is told, and takes no more memory");
}

async fn heard(listener: &mut extauth::store::Listener) -> News {
    tokio::time::timeout(PATIENCE, listener.next()).await.expect("nothing is heard")
}

#[test]
fn memory_keeps_its_promises() {
    let store = Store::Memory(Memory::default());
    wait(keeps_its_promises(&store, &store.clone()));
}

#[test]
fn redis_keeps_its_promises() {
    let server = Single::start();
    wait(keeps_its_promises(&redis(server.node.options()), &redis(server.node.options())));
    assert!(server.node.cli(&["KEYS", "*"]).lines().all(|key| key.starts_with("test:")), "keys are ours");
    assert_eq!(server.node.cli(&["TTL", "test:mixed"]).trim().parse::<i64>().unwrap() / 60, 59, "sets expire");
}

#[test]
fn a_cluster_keeps_its_promises() {
    let cluster = Cluster::start();
    wait(async {
        let (store, other) = (redis(cluster.options()), redis(cluster.options()));
        keeps_its_promises(&store, &other).await;
        for number in 0..100 {
            store.put(&format!("spread:{number}"), b"x", HOUR).await.unwrap();
        }
        for node in &cluster.nodes {
            assert_ne!(node.cli(&["DBSIZE"]).trim(), "0", "all nodes have a part");
        }
    });
}

#[test]
fn sentinels_keep_their_promises_and_name_the_next_primary() {
    let mut replicated = Replicated::start();
    wait(async {
        let (store, other) = (redis(replicated.options()), redis(replicated.options()));
        keeps_its_promises(&store, &other).await;
        let mut listener = other.listen("after");
        assert_eq!(heard(&mut listener).await, News::Missed);
        replicated.servers[0].kill();
        let start = Instant::now();
        while store.put("after", b"x", HOUR).await.is_err() {
            assert!(start.elapsed() < PATIENCE, "the next primary is not found");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(heard(&mut listener).await, News::Missed, "the connection was another for a while");
        store.announce("after", b"x").await.unwrap();
        while heard(&mut listener).await != News::Message("x".into()) {}
        assert!(replicated.servers[1].cli(&["INFO", "replication"]).contains("role:master"));
    });
}

#[test]
fn a_dead_redis_is_an_error_within_the_bound_and_never_absent() {
    let mut server = Single::start();
    let bound = Duration::from_millis(500);
    wait(async {
        let store = redis(Options { timeout: bound, ..server.node.options() });
        until_works(&store).await;
        server.node.kill();
        fails(&store, bound).await;
        server.node.restart();
        until_works(&store).await;
        assert_eq!(store.get("a").await.unwrap(), None, "now it is absent");
    });
}

#[test]
fn a_hung_redis_is_an_error_within_the_bound_and_never_absent() {
    let server = Single::start();
    let bound = Duration::from_millis(500);
    wait(async {
        let store = redis(Options { timeout: bound, ..server.node.options() });
        until_works(&store).await;
        store.put("a", b"x", HOUR).await.unwrap();
        let mut listener = store.listen("news");
        assert_eq!(heard(&mut listener).await, News::Missed);
        server.node.hang();
        fails(&store, bound).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.node.resume();
        until_works(&store).await;
        assert_eq!(store.get("a").await.unwrap().unwrap(), "x", "replies are not mixed up");
        assert_eq!(heard(&mut listener).await, News::Missed, "it was deaf for a while");
    });
}

async fn until_works(store: &Store) {
    let start = Instant::now();
    while let Err(error) = store.get("none").await {
        assert!(start.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn fails(store: &Store, bound: Duration) {
    let start = Instant::now();
    // More calls than connections.
    let calls = futures::future::join_all((0..20).map(|_| store.get("a"))).await;
    assert!(calls.iter().all(Result::is_err), "{calls:?}");
    // Redis does them when it wakes up: an error does not say that nothing was done.
    store.put("other", b"", HOUR).await.unwrap_err();
    store.take("other").await.unwrap_err();
    store.members("other").await.unwrap_err();
    // On a busy machine the answer may come a bit after the bound.
    assert!(start.elapsed() < 4 * bound + Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn it_serves_many_runtimes_one_after_the_other() {
    let server = Single::start();
    let store = redis(server.node.options());
    for number in 0..5 {
        // Each on a runtime that is gone afterwards.
        wait(store.put("a", format!("{number}").as_bytes(), HOUR)).unwrap();
        assert_eq!(wait(store.get("a")).unwrap().unwrap(), number.to_string());
    }
}

#[test]
fn users_and_passwords_are_told_and_followed() {
    let server =
        Single::with(&["--user", "joe", "on", ">hunter2", "~test:*", "&test:*", "+@all", "--user", "default", "off"]);
    let file = server.dir().join("auth");
    std::fs::write(&file, "joe:wrong\n").unwrap();
    let with = |auth| redis(Options { access: Access { auth, ..Access::default() }, ..server.node.options() });
    wait(async {
        with(None).get("a").await.unwrap_err();
        with(Some(Secret::Text("joe:wrong".into()))).get("a").await.unwrap_err();
        with(Some(Secret::Text("joe:hunter2".into()))).put("a", b"x", HOUR).await.unwrap();
        let following = with(Some(Secret::File(file.clone())));
        let error = following.get("a").await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("wrong\""), "{error}");
        std::fs::write(&file, "joe:hunter2\n").unwrap();
        until_works(&following).await;
        assert_eq!(following.get("a").await.unwrap().unwrap(), "x");
        let url = Url::new(format!("redis://joe:hunter2@{}", server.node.address()));
        redis(Options { url, ..server.node.options() }).get("a").await.unwrap().unwrap();
    });
}

#[test]
fn tls_checks_the_server_and_shows_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    certificates(dir.path());
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (text("ca.pem"), text("cert.pem"), text("key.pem"));
    let port = Single::start().node.port.to_string();
    let server = Single::with(&[
        "--tls-port",
        &port,
        "--tls-ca-cert-file",
        &ca,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "yes",
    ]);
    let with = |ca: Option<&str>, client: bool| {
        let client = client.then(|| (path("cert.pem"), path("key.pem")));
        let access = Access { tls: Some(Tls { ca: ca.map(path), client }), ..Access::default() };
        redis(Options { url: Url::new(format!("rediss://localhost:{port}")), access, ..server.node.options() })
    };
    wait(async {
        with(Some("ca.pem"), true).put("a", b"x", HOUR).await.unwrap();
        assert_eq!(with(Some("ca.pem"), true).get("a").await.unwrap().unwrap(), "x");
        with(Some("ca.pem"), false).get("a").await.expect_err("the server wants a certificate");
        with(Some("other.pem"), true).get("a").await.expect_err("another authority has signed it");
        with(None, true).get("a").await.expect_err("the system does not know the authority");
        with(Some("missing.pem"), true).get("a").await.expect_err("there is no such file");
        let store = with(Some("ca.pem"), true);
        let mut listener = store.listen("news");
        assert_eq!(heard(&mut listener).await, News::Missed, "announcements come over TLS, too");
    });
}

fn certificates(dir: &std::path::Path) {
    let authority = |file: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, file);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(dir.join(file), cert.pem()).unwrap();
        rcgen::Issuer::new(params, key)
    };
    authority("other.pem");
    let issuer = authority("ca.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "redis");
    let cert = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

#[test]
fn memory_is_bounded_in_bytes_and_entries() {
    wait(async {
        let store = memory(10_000, 1_000);
        store.put("a", &[0; 5_000], HOUR).await.unwrap();
        assert!(matches!(store.put("b", &[0; 5_000], HOUR).await, Err(Error::Full)));
        assert!(matches!(store.add("b", &[0; 5_000], HOUR).await, Err(Error::Full)));
        assert_eq!(store.get("a").await.unwrap().unwrap().len(), 5_000, "nobody has to make room for others");
        store.put("a", &[0; 6_000], HOUR).await.expect("it makes room for itself");
        store.remove("a").await.unwrap();
        store.put("b", &[0; 5_000], HOUR).await.unwrap();

        let few = memory(1 << 20, 3);
        for member in ["a", "b", "c"] {
            few.add("set", member.as_bytes(), HOUR).await.unwrap();
        }
        few.add("set", b"c", HOUR).await.unwrap();
        assert!(matches!(few.put_new("k", b"", HOUR).await, Err(Error::Full)));
        assert_eq!(few.get("k").await.unwrap(), None);
        few.discard("set", b"b").await.unwrap();
        assert!(few.put_new("k", b"", HOUR).await.unwrap());
    });
}

#[test]
fn memory_makes_room_as_entries_expire() {
    wait(async {
        let store = memory(1 << 20, 10);
        let start = Instant::now();
        for number in 0..100 {
            let key = format!("{number}");
            while store.put(&key, b"", Duration::from_millis(20)).await.is_err() {
                assert!(start.elapsed() < PATIENCE);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
}

#[test]
fn settings_that_can_never_work_are_refused_at_the_start() {
    let background = Background::start().unwrap();
    let bad = Options { url: Url::new("http://host:hunter2"), ..Single::start().node.options() };
    let error = Redis::new(bad, background).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

//! API keys in the store, shared by all replicas, and `extauth keys`.

use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use extauth::background::Background;
use extauth::keyring::Keyring;
use extauth::policy::Policies;
use extauth::resources::{self, Options, Resources, Storage};
use extauth::store::{FOREVER, Redis, Store};
use proto::extauth::{ApiKey, Key, Method, Policy};
use serde_json::Value;

use crate::redis::Single;
use crate::support::{Answer, NOW, api_keys, ask_at, hash, key, request, wait};

const PATIENCE: Duration = Duration::from_secs(30);
/// How soon a change must be in force everywhere: two seconds, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(10);

/// One `extauth` beside others.
struct Replica {
    policies: Policies,
    _resources: Resources,
}

impl Replica {
    fn with(options: &Options, method: ApiKey) -> Self {
        let resources = Resources::new(options).unwrap();
        let policy = Policy { name: "guard".into(), methods: vec![Method::ApiKey(method)], ..Policy::default() };
        Self { policies: Policies::compile(&[policy], &resources).unwrap(), _resources: resources }
    }

    fn of(server: &Single) -> Self {
        let options = Options { store: Storage::Redis(server.node.options()), ..Options::default() };
        Self::with(&options, ApiKey { key_set: Some("shop".into()), ..api_keys(Vec::new()) })
    }

    fn ask(&self, key: &str) -> Answer {
        ask_at(&self.policies, &request(&[("x-api-key", key)]), NOW)
    }

    /// How long it takes until the key is answered with this status.
    fn until(&self, key: &str, status: u16) -> Duration {
        let start = Instant::now();
        while self.ask(key).status != status {
            assert!(start.elapsed() < PATIENCE, "still {}", self.ask(key).status);
            std::thread::sleep(Duration::from_millis(5));
        }
        start.elapsed()
    }
}

fn keys(server: &Single, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_extauth"));
    command.args(["keys", "--redis-url", &server.node.address(), "--redis-prefix", "test:", "--set", "shop"]);
    command.args(["--redis-timeout-ms", "5000"]).args(arguments).output().unwrap()
}

/// What it prints when it succeeds.
fn done(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn keyring(server: &Single) -> (Keyring, Background) {
    let background = Background::start().unwrap();
    let store = Store::Redis(Redis::new(server.node.options(), background.clone()).unwrap());
    (Keyring::new(store, "shop"), background)
}

#[test]
fn keys_are_added_listed_and_revoked_on_all_replicas_within_two_seconds() {
    let server = Single::start();
    let replicas = [Replica::of(&server), Replica::of(&server)];
    replicas[0].until("tg_000000000000_none", 401);
    let details = ["--tenant", "t1", "--tier", "gold", "--scope", "read", "--scope", "write", "--label", "team=blue"];
    let added = keys(&server, &[&["add", "--client", "acme"], &details[..]].concat());
    let note = String::from_utf8(added.stderr.clone()).unwrap();
    let text = done(added);
    let id = text.rsplit_once('_').map(|_| text.split('_').take(2).collect::<Vec<_>>().join("_")).unwrap();
    assert!(id.starts_with("tg_") && note.contains(&id) && !note.contains(&text), "{note}");
    for replica in &replicas {
        let delay = replica.until(&text, 200);
        assert!(delay < SOON, "{delay:?}");
        let answer = replica.ask(&text);
        assert_eq!(answer.set["x-client"], "acme");
        assert_eq!(answer.metadata["key_id"], id.as_str());
        assert_eq!(answer.metadata["tenant"], "t1");
        assert_eq!(answer.metadata["tier"], "gold");
        assert_eq!(answer.metadata["scopes"], serde_json::json!(["read", "write"]));
        assert_eq!(answer.metadata["labels"]["team"], "blue");
        assert!(answer.removes("x-api-key"));
    }

    let list = done(keys(&server, &["list"]));
    assert!(list.contains(&id) && list.contains("acme") && !list.contains(&text), "{list}");
    let json: Value = serde_json::from_str(&done(keys(&server, &["list", "--output", "json"]))).unwrap();
    assert_eq!((&json[0]["id"], &json[0]["hash"]), (&id.as_str().into(), &"".into()), "{json}");

    done(keys(&server, &["revoke", &id]));
    for replica in &replicas {
        let delay = replica.until(&text, 401);
        assert!(delay < SOON, "revocation took {delay:?}");
    }
    assert_eq!(done(keys(&server, &["list"])).lines().count(), 1, "only the head is left");
    assert!(!keys(&server, &["revoke", &id]).status.success(), "it is gone");
}

#[test]
fn k8_a_lost_announcement_delays_a_revocation_by_a_look() {
    let server = Single::with(&["--rename-command", "PUBLISH", "gone"]);
    let replica = Replica::of(&server);
    let (keyring, _background) = keyring(&server);
    let acme = Key { id: "tg_1".into(), ..key("secret", "acme") };
    wait(keyring.add(&acme, FOREVER)).unwrap();
    replica.until("secret", 200);
    wait(keyring.revoke("tg_1")).unwrap();
    let delay = replica.until("secret", 401);
    assert!(delay < SOON, "{delay:?}");
}

#[test]
fn a_replica_without_redis_goes_on_with_what_it_knows_and_then_denies() {
    let mut server = Single::start();
    let (keyring, _background) = keyring(&server);
    wait(keyring.add(&key("secret", "acme"), FOREVER)).unwrap();
    let keys = resources::Keys { max_stale: Duration::from_secs(3), ..resources::Keys::default() };
    let options = Options { store: Storage::Redis(server.node.options()), keys, ..Options::default() };
    let method = ApiKey { key_set: Some("shop".into()), ..api_keys(vec![key("own", "zeta")]) };
    let replica = Replica::with(&options, method.clone());
    replica.until("secret", 200);
    server.node.kill();
    assert_eq!(replica.ask("secret").status, 200);
    replica.until("secret", 503);
    let answer = replica.ask("unknown");
    assert_eq!(
        (answer.status, answer.headers["retry-after"].as_str()),
        (503, "1"),
        "nobody can say that it is unknown"
    );
    assert_eq!(replica.ask("own").status, 200, "the policy's own keys need no store");

    let blind = Replica::with(&options, method);
    assert_eq!(blind.ask("secret").status, 503, "never allowed, never unknown");
    server.node.restart();
    replica.until("secret", 401);
    wait(keyring.add(&key("secret", "acme"), FOREVER)).unwrap();
    replica.until("secret", 200);
    blind.until("secret", 200);
}

#[test]
fn k5_one_key_for_two_clients_is_refused_in_the_store_as_well() {
    let server = Single::start();
    let replica = Replica::of(&server);
    let (keyring, _background) = keyring(&server);
    let acme = Key { id: "tg_1".into(), ..key("secret", "acme") };
    wait(keyring.add(&acme, FOREVER)).unwrap();
    replica.until("secret", 200);
    let error = wait(keyring.add(&key("secret", "evil"), FOREVER)).unwrap_err().to_string();
    assert_eq!(error, "this is also the key `tg_1`");
    // Somebody writes to Redis without asking, and another change has the shard read anew.
    let first = &hash("secret")["sha256:".len()..][..2];
    let set = format!("test:keys:shop:{first}");
    let evil = serde_json::to_string(&key("secret", "evil")).unwrap();
    server.node.cli(&["ZADD", &set, "9999999999999", &evil]);
    server.node.cli(&["DEL", "test:keys:shop:counters"]);
    replica.until("secret", 401);
}

#[test]
fn keys_in_the_store_are_hashed_with_the_pepper() {
    let server = Single::start();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let pepper = file("pepper", "a-pepper-of-some-length\n");
    let path = pepper.to_str().unwrap();
    let text = done(keys(&server, &["--key-pepper-file", path, "add", "--client", "acme", "--prefix", "shop"]));
    assert!(text.starts_with("shop_"), "{text}");
    let dump = server.node.cli(&[
        "EVAL",
        "local all = {} for _, key in ipairs(redis.call('KEYS', '*keys:shop:??')) do \
        for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do table.insert(all, member) end end return all",
        "0",
    ]);
    assert!(dump.contains("hmac-sha256:") && !dump.contains(&text) && !dump.contains(&hash(&text)), "{dump}");

    let with = |pepper: Option<std::path::PathBuf>| {
        let keys = resources::Keys { pepper, ..resources::Keys::default() };
        let options = Options { store: Storage::Redis(server.node.options()), keys, ..Options::default() };
        Replica::with(&options, ApiKey { key_set: Some("shop".into()), ..api_keys(vec![key("own", "zeta")]) })
    };
    let replica = with(Some(pepper.clone()));
    replica.until(&text, 200);
    assert_eq!(replica.ask("own").status, 200, "plain hashes of files go on");
    with(Some(file("other", "another-pepper-of-some-length"))).until(&text, 401);
    with(None).until(&text, 401);
    let short = keys(&server, &["--key-pepper-file", file("short", "short").to_str().unwrap(), "list"]);
    assert!(String::from_utf8_lossy(&short.stderr).contains("shorter than 16 bytes"));
}

#[test]
fn keys_that_expired_are_refused_when_they_are_added_with_nonsense() {
    let server = Single::start();
    for (arguments, problem) in [
        (&["add", "--client", ""][..], "client"),
        (&["add", "--client", "acme", "--expires", "tomorrow"], "expires"),
        (&["add", "--client", "acme", "--scope", "a b"], "scopes"),
        (&["add", "--client", "acme", "--prefix", "a_b"], "prefix"),
    ] {
        let output = keys(&server, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(problem), "{error}");
    }
    let text = done(keys(&server, &["add", "--client", "acme", "--expires", "2100-01-01T00:00:00Z"]));
    let replica = Replica::of(&server);
    replica.until(&text, 200);
    let after = ask_at(&replica.policies, &request(&[("x-api-key", &text)]), 4_102_444_800);
    assert_eq!(after.status, 401);
    let until = 4_102_444_800 + 24 * 3600 - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let first = &hash(&text)["sha256:".len()..][..2];
    let left = server.node.cli(&["TTL", &format!("test:keys:shop:{first}")]);
    let left: u64 = left.trim().parse().unwrap();
    assert!(left.abs_diff(until) < 100, "an expired key is forgotten a day later: {left}");
}

#[test]
fn keys_in_memory_would_be_gone_at_once() {
    let output = Command::new(env!("CARGO_BIN_EXE_extauth")).args(["keys", "list"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("EXTAUTH_REDIS_URL"));
}

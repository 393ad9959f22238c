//! The real program as it comes, goes and is killed behind a real Envoy under load, and without what it needs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use proto::extauth::{ApiKey, Method, Policy};
use serde_json::json;

use crate::envoy::{House, manager};
use crate::load::Load;
use crate::redis::Single;
use crate::running::{Running, ask, until};
use crate::support::{Issuer, api_keys, get, key, request};

const CLIENTS: usize = 8;

fn guard() -> Vec<Policy> {
    let methods = vec![Method::ApiKey(api_keys(vec![key("a-key", "acme")]))];
    vec![Policy { name: "guard".into(), methods, ..Policy::default() }]
}

/// Two replicas that Envoy looks after, as README says.
struct Fleet {
    house: House,
    second: Running,
}

impl Fleet {
    fn start() -> Self {
        let delay = |_: &Path, command: &mut Command| {
            command.env("EXTAUTH_DRAIN_DELAY_MS", "500").env("EXTAUTH_LOG_LEVEL", "info");
        };
        let second = Running::with(guard(), delay);
        let other = second.path("extauth.sock");
        let house = House::around(Running::with(guard(), delay), |_, config| {
            manager(config)["http_filters"][0]["typed_config"]["grpc_service"]["retry_policy"] =
                json!({"num_retries": 2, "retry_on": "unavailable,reset,refused-stream,connect-failure"});
            let cluster = &mut config["static_resources"]["clusters"][1];
            assert_eq!(cluster["name"], "extauth");
            let mut endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0].clone();
            endpoint["endpoint"]["address"]["pipe"]["path"] = other.to_str().into();
            cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].as_array_mut().unwrap().push(endpoint);
            cluster["health_checks"] = json!([{
                "timeout": "2s", "interval": "0.1s", "no_traffic_interval": "0.1s",
                "unhealthy_interval": "0.1s", "unhealthy_threshold": 2, "healthy_threshold": 1,
                "grpc_health_check": {"service_name": extauth::server::SERVICE},
            }]);
            cluster["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"});
            cluster["circuit_breakers"] = json!({"thresholds": [{"max_retries": 1024}]});
        });
        let fleet = Self { house, second };
        fleet.await_healthy(2);
        fleet
    }

    /// Waits until Envoy believes so many replicas to be well.
    fn await_healthy(&self, replicas: usize) {
        let stats = || {
            let path = "/stats?filter=cluster.extauth.membership_healthy";
            get(&self.house.extauth.path("admin.sock"), path, &[]).map(|answer| answer.body).unwrap_or_default()
        };
        let line = format!("membership_healthy: {replicas}\n");
        until("health", || stats().contains(&line), || stats() + &self.house.logs());
    }

    fn report(&self) -> String {
        let stats =
            get(&self.house.extauth.path("admin.sock"), "/stats?usedonly&filter=(cluster.extauth|ext_authz)", &[]);
        stats.map(|answer| answer.body).unwrap_or_default() + &self.house.logs() + &self.second.log()
    }
}

/// Clients with one connection each.
fn clients(front: &Path) -> Load {
    Load::begin((0..CLIENTS).map(|_| {
        let mut connection = BufReader::new(UnixStream::connect(front).unwrap());
        connection.get_ref().set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        move || one(&mut connection)
    }))
}

/// One request with a good key; its status.
fn one(connection: &mut BufReader<UnixStream>) -> u16 {
    connection.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: shop.example.com\r\nx-api-key: a-key\r\n\r\n").unwrap();
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        assert!(connection.read_line(&mut line).unwrap() > 0, "Envoy closed the connection");
        let line = line.trim_end().to_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().unwrap();
        } else if let Some(rest) = line.strip_prefix("content-length: ") {
            length = rest.parse().unwrap();
        } else if line.is_empty() {
            connection.read_exact(&mut vec![0; length]).unwrap();
            return status;
        }
    }
}

#[test]
fn p01_p02_a_rollout_fails_no_request_and_a_killed_replica_no_more_than_is_in_flight() {
    let mut fleet = Fleet::start();
    let load = clients(&fleet.house.extauth.path("front.sock"));
    load.go_on(200);
    for round in 0..4 {
        let replica = if round % 2 == 0 { &mut fleet.house.extauth } else { &mut fleet.second };
        replica.signal("-TERM");
        let asked = Instant::now();
        let status = replica.process.0.wait().unwrap();
        let took = asked.elapsed();
        assert!(status.success() && took >= Duration::from_millis(500), "{status} after {took:?}: {}", replica.log());
        assert!(took < Duration::from_secs(30), "it ended after {took:?}");
        replica.restart();
        fleet.await_healthy(2);
        load.go_on(50);
    }
    let (answered, failed) = load.end();
    assert!(failed.is_empty(), "{} of {answered} failed: {failed:?}; {}", failed.len(), fleet.report());

    let load = clients(&fleet.house.extauth.path("front.sock"));
    load.go_on(200);
    fleet.second.process.0.kill().unwrap();
    fleet.await_healthy(1);
    load.go_on(200);
    fleet.second.restart();
    fleet.await_healthy(2);
    let (answered, failed) = load.end();
    assert!(failed.len() <= CLIENTS, "{} of {answered} failed: {failed:?}; {}", failed.len(), fleet.report());
}

#[test]
fn p02_health_fails_from_sigterm_on_while_requests_are_answered() {
    let mut running = Running::with(guard(), |_, command| {
        command.env("EXTAUTH_DRAIN_DELAY_MS", "3000");
    });
    running.signal("-TERM");
    let health = || get(&running.path("http.sock"), "/healthcheck", &[]);
    until(
        "the drain",
        || health().is_some_and(|answer| answer.status == 503 && answer.body == "draining"),
        || running.log(),
    );
    let answer = running.ask_over_http("/auth/orders", &["x-policy: guard", "x-api-key: a-key"]);
    assert_eq!(answer.status, 200);
    assert!(running.process.0.wait().unwrap().success());
}

/// Keys in a file, keys in the store, tokens that may be revoked.
fn needy(issuer: &Issuer) -> Vec<Policy> {
    let named = |name: &str, method: Method| Policy { name: name.into(), methods: vec![method], ..Policy::default() };
    let keys = ApiKey { key_set: Some("shop".into()), ..api_keys(Vec::new()) };
    let mut policies = guard();
    policies.push(named("stored", Method::ApiKey(keys)));
    policies.push(named("tokens", Method::Jwt(issuer.provider())));
    policies
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_start_without_redis_denies_what_needs_it_until_it_is_there() {
    let mut redis = Single::start();
    redis.node.kill();
    let issuer = Issuer::new("EdDSA");
    let running = Running::with(needy(&issuer), |_, command| {
        command.env("EXTAUTH_REDIS_URL", format!("redis://{}", redis.node.address()));
    });
    let mut client = running.client().await;
    let token = format!("Bearer {}", issuer.token(json!({})));
    let asked = |policy: &str| {
        let mut asked =
            request(&[if policy == "tokens" { ("authorization", token.as_str()) } else { ("x-api-key", "a-key") }]);
        asked.attributes.as_mut().unwrap().context_extensions.insert("policy".into(), policy.into());
        asked
    };
    for _ in 0..3 {
        assert_eq!(ask(&mut client, asked("guard")).await.status, 200, "files are enough for it");
        assert_eq!(ask(&mut client, asked("stored")).await.status, 503);
        assert_eq!(ask(&mut client, asked("tokens")).await.status, 503, "a revocation may be there");
    }
    redis.node.restart();
    let deadline = Instant::now() + Duration::from_mins(1);
    while ask(&mut client, asked("tokens")).await.status != 200 || ask(&mut client, asked("stored")).await.status != 401
    {
        assert!(Instant::now() < deadline, "it does not come back: {}", running.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let added = Command::new(env!("CARGO_BIN_EXE_extauth"))
        .args([
            "keys",
            "--set",
            "shop",
            "--redis-url",
            &format!("redis://{}", redis.node.address()),
            "add",
            "--client",
            "zeta",
        ])
        .output()
        .unwrap();
    let minted = String::from_utf8(added.stdout).unwrap();
    let minted = minted.split_whitespace().next().unwrap_or_else(|| panic!("{:?}", added.stderr)).to_owned();
    let mut asked = asked("stored");
    let http = asked.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.headers.insert("x-api-key".into(), minted);
    until_allowed(&mut client, asked).await;
}

async fn until_allowed(
    client: &mut envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient<
        tonic::transport::Channel,
    >,
    asked: envoy_types::pb::envoy::service::auth::v3::CheckRequest,
) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while ask(client, asked.clone()).await.status != 200 {
        assert!(Instant::now() < deadline, "the key is not known");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn p09_policies_that_change_often_leak_no_descriptor() {
    let running = Running::start(guard());
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", running.process.0.id())).unwrap().count();
    let known = |text: &str| {
        let header = format!("x-api-key: {text}");
        until(
            "the new key",
            || running.ask_over_http("/auth/", &["x-policy: guard", &header]).status == 200,
            || running.log(),
        );
    };
    known("a-key");
    let before = descriptors();
    for round in 0..10 {
        for index in 0..10 {
            let methods = vec![Method::ApiKey(api_keys(vec![key(&format!("key-{round}-{index}"), "acme")]))];
            running.put(vec![Policy { name: "guard".into(), methods, ..Policy::default() }]);
        }
        known(&format!("key-{round}-9"));
    }
    // What belongs to the last requests may not be closed yet.
    until("as few descriptors as before", || descriptors() <= before, || descriptors().to_string());
}

//! The program with `LEASES=true`, on a real Redis.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;

use super::{MEMBERSHIP, undisturbed};
use crate::{
    program::{Program, ask, fetch, until},
    redis_server::RedisServer,
};

const RULES: &str = "
domain: d
descriptors:
  - key: user
    rate_limit: { unit: year, requests_per_unit: 2000 }
";

fn start(server: &RedisServer) -> Program {
    start_named(server, "")
}

fn start_named(server: &RedisServer, name: &str) -> Program {
    let address = server.socket().display().to_string();
    let arguments = ["--backend-type", "redis", "--redis-timeout", "2s", "--redis-url", &address];
    let variables =
        [("LEASES", "true"), ("STORE_DEADLINE", "2s"), ("ON_STORE_LOSS", "lease_only"), ("REPLICA_NAME", name)];
    let program = Program::start_with(&arguments, &variables);
    std::fs::write(program.dir.path().join("config/rules.yaml"), RULES).unwrap();
    until("the limit", || fetch(program.debug, "GET", "/rlconfig", "").1.contains("requests_per_unit=2000"));
    program
}

/// Sends requests until so many were admitted, or are denied for longer than an epoch takes. Returns how many were admitted.
async fn admits(program: &Program, most: usize) -> usize {
    let (mut client, mut admitted, mut since) = (program.client().await, 0, Instant::now());
    while admitted < most && since.elapsed() < Duration::from_secs(4) {
        if ask(&mut client, "joe").await.unwrap().overall_code() == Code::Ok {
            (admitted, since) = (admitted + 1, Instant::now());
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    admitted
}

/// The sum of a metric's series.
fn metric(program: &Program, name: &str) -> f64 {
    let metrics = fetch(program.metrics, "GET", "/metrics", "").1;
    let of_name = metrics.lines().filter_map(|line| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<f64>().ok());
    of_name.sum()
}

fn sigterm(program: &mut Program) {
    assert!(Command::new("kill").args(["-TERM", &program.process.id().to_string()]).status().unwrap().success());
    until("the end", || program.process.try_wait().unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn p02_a_program_that_drains_gives_its_leases_back() {
    let server = RedisServer::start();
    let (mut first, second) = (start(&server), start(&server));
    let before = admits(&first, 200).await;
    let by_lease = metric(&first, "ratelimit_lease_decisions{by=\"lease\"}");
    assert!(by_lease > 50.0, "{by_lease} of 200 decided by leases");
    let calls =
        ["charge", "renew"].map(|kind| metric(&first, &format!("ratelimit_lease_store_operations{{kind=\"{kind}\"}}")));
    assert!(calls.iter().sum::<f64>() < 200.0 - by_lease + 50.0, "{calls:?} operations");
    until("two members", || metric(&first, "ratelimit_lease_members") > 1.5);
    sigterm(&mut first);
    assert_eq!(before + admits(&second, usize::MAX).await, 2000);
    until("nothing is held", || metric(&second, "ratelimit_lease_outstanding_hits") < 0.5);
    assert!(metric(&second, "ratelimit_lease_decisions{by=\"denial\"}") > 0.5);
    assert!(metric(&second, "ratelimit_lease_overshoot_hits") < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn r02_programs_that_lease_admit_the_limit_over_a_restart_of_redis() {
    let admitted = undisturbed(async || {
        let mut server = RedisServer::start();
        let programs = [start(&server), start(&server)];
        let before = admits(&programs[0], 300).await + admits(&programs[1], 300).await;
        let epochs = programs.each_ref().map(|program| {
            until("the ledger", || metric(program, "ratelimit_lease_overadmission_bound_hits") > 299.5);
            metric(program, "ratelimit_lease_epochs")
        });
        server.kill();
        let began = Instant::now();
        server.restart();
        for (program, epochs) in programs.iter().zip(epochs) {
            until("another epoch", || metric(program, "ratelimit_lease_epochs") > epochs + 0.5);
            let asserted = || metric(program, "ratelimit_lease_store_operations{kind=\"assert\"}") > 0.5;
            until("the ledger is told", asserted);
        }
        let in_time = began.elapsed() < MEMBERSHIP;
        let (first, second) = tokio::join!(admits(&programs[0], usize::MAX), admits(&programs[1], usize::MAX));
        assert!(metric(&programs[0], "ratelimit_store_breakers_open") < 0.5);
        in_time.then_some(before + first + second)
    })
    .await;
    assert!((1800..=2000).contains(&admitted), "{admitted} of 2000");
}

#[tokio::test(flavor = "multi_thread")]
async fn explanations_name_every_holder() {
    let server = RedisServer::start();
    let [north, mut south] = ["north", "south"].map(|name| start_named(&server, name));
    until("two members", || metric(&north, "ratelimit_lease_members") > 1.5);
    let explain = |program: &Program, format: &str| {
        let url = format!("http://127.0.0.1:{}", program.debug);
        let arguments = ["explain", "--url", &url, "--domain", "d", "--output", format, "user=joe"];
        let told = Command::new(env!("CARGO_BIN_EXE_ratelimit")).args(arguments).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8(told.stdout).unwrap()
    };
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        // Leases that lie idle are given back.
        admits(&north, 30).await;
        admits(&south, 30).await;
        let text = explain(&north, "text");
        if text.contains("leases  ")
            && text.contains(" held by north, this replica")
            && text.contains(" held by south\n")
        {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
    }
    until("nobody holds anything", || !explain(&south, "text").contains("leases  "));
    let holders = |program: &Program| {
        let told: serde_json::Value = serde_json::from_str(&explain(program, "json")).unwrap();
        told["descriptors"][0]["counter"]["holders"].clone()
    };
    until("south says that it holds nothing", || holders(&north) == serde_json::json!([]));
    // Who is gone is a member for two seconds at most: a busy machine may ask too late, and then another one goes.
    let gone = loop {
        south.process.kill().unwrap();
        if let Some(gone) = holders(&north).as_array().and_then(|holders| holders.first()) {
            break gone.clone();
        }
        assert!(Instant::now() < deadline, "nobody is asked in time");
        south = start_named(&server, "south");
        until("two members again", || metric(&north, "ratelimit_lease_members") > 1.5);
    };
    assert!(gone["replica"].is_string() && gone["hits"].is_null(), "who is gone does not say: {gone}");
}

/// Redis cannot know whether it is new or has lost all, so it waits for replicas either way. Nobody is told to come meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_on_an_empty_redis_is_no_failure() {
    let server = RedisServer::start();
    let address = server.socket().display().to_string();
    let arguments =
        ["--backend-type", "redis", "--redis-timeout", "10s", "--redis-url", &address, "--log-level", "info"];
    let variables = [("LEASES", "true"), ("STORE_DEADLINE", "10s"), ("ON_STORE_LOSS", "error")];
    let program = Program::spawn_logging_to(None, &arguments, &variables);
    let request = r#"{"domain": "d", "descriptors": [{"entries": [{"key": "user", "value": "joe"}]}]}"#;
    until("readiness", || {
        // What comes before is decided by on_store_loss, and logged by nobody.
        fetch(program.http, "POST", "/json", request);
        fetch(program.http, "GET", "/healthcheck", "").0 == 200
    });
    let mut client = program.client().await;
    for _ in 0..10 {
        ask(&mut client, "ann").await.unwrap();
    }
    let log = std::fs::read_to_string(program.dir.path().join("log")).unwrap();
    assert!(!log.contains("the counter store fails"), "{log}");
    assert!(log.contains("Redis is new") && log.contains("leases may be asked for"), "{log}");
}

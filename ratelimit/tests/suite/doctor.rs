//! `ratelimit doctor`, and the warnings of a program that runs.

use std::process::Command;

use crate::{
    program::{Program, fetch, until},
    redis_server::RedisServer,
    redis_topology::{Cluster, Node, Replicated},
};

/// Exit status and what it prints.
fn doctor(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ratelimit")).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn doctor_names_valkey() {
    let server = RedisServer::start_valkey();
    let (code, text) = doctor(&["--redis-url", server.socket().to_str().unwrap(), "doctor"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("version: Valkey 9.") && text.contains("OK    charge: counted"), "{text}");
}

#[test]
fn doctor_finds_what_breaks_limits_and_says_what_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let server = Node::start(dir.path(), &["--save", ""]);
    let address = server.address();
    let look = |output: &str| {
        doctor(&[
            "--redis-url",
            &address,
            "--redis-timeout",
            "5s",
            "--cache-key-prefix",
            "x:",
            "doctor",
            "--output",
            output,
        ])
    };
    let (code, text) = look("text");
    assert_eq!(code, Some(0), "{text}");
    for line in
        ["OK    charge: counted", "maxmemory-policy: noeviction", "persistence: none", "version: Redis", "latency: p50"]
    {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    server.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    server.cli(&["CONFIG", "SET", "hash-max-listpack-entries", "10"]);
    let (code, text) = look("json");
    assert_eq!(code, Some(1), "{text}");
    let findings: serde_json::Value = serde_json::from_str(&text).unwrap();
    let advice = |check: &str| {
        let of_check = findings.as_array().unwrap().iter().find(|finding| finding["check"] == check).unwrap();
        format!("{} {}", of_check["status"].as_str().unwrap(), of_check["advice"].as_str().unwrap())
    };
    assert!(advice("maxmemory-policy").contains("FAIL it drops counters"));
    assert!(advice("maxmemory-policy").contains("CONFIG SET maxmemory-policy noeviction"));
    assert!(advice("hash-max-listpack-entries").starts_with("WARN"));

    server.cli(&["ACL", "SETUSER", "joe", "on", ">hunter2", "~*", "+@all", "-hincrby"]);
    let (code, text) = doctor(&["--redis-url", &address, "--redis-auth", "joe:hunter2", "doctor"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("FAIL  charge:") && text.contains("ACL SETUSER") && !text.contains("hunter2"), "{text}");
    let (code, text) = doctor(&["--redis-url", &address, "--redis-auth", "joe:wrong", "doctor"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("FAIL  connection:") && !text.contains("wrong"), "{text}");
}

#[test]
fn doctor_looks_at_failovers_and_at_clusters() {
    let redis = Replicated::start();
    let (code, text) =
        doctor(&["--redis-type", "sentinel", "--redis-url", &redis.url(), "--redis-timeout", "5s", "doctor"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("CONFIG SET min-replicas-to-write 1"), "{text}");

    let redis = Cluster::start();
    redis.nodes[0].cli(&["CONFIG", "SET", "cluster-require-full-coverage", "yes"]);
    let (code, text) =
        doctor(&["--redis-type", "cluster", "--redis-url", &redis.url(), "--redis-timeout", "5s", "doctor"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches("role: primary").count(), 3, "{text}");
    assert_eq!(text.matches("CONFIG SET cluster-require-full-coverage no").count(), 1, "{text}");
}

#[test]
fn r12_eviction_is_warned_about_at_run_time() {
    let server = RedisServer::start();
    let program = Program::start(&["--redis-url", server.socket().to_str().unwrap(), "--log-level", "warn"]);
    let metric = |value: &str| {
        let (_, page) = fetch(program.metrics, "GET", "/metrics", "");
        page.lines().any(|line| line.contains("unsafe") && line.contains("maxmemory-policy") && line.ends_with(value))
    };
    until("the first look", || metric("} 0"));
    let set = |value: [&str; 2]| {
        let set = ["-s", server.socket().to_str().unwrap(), "CONFIG", "SET"].map(str::to_owned);
        assert_eq!(
            crate::redis_topology::cli(&[&set.each_ref().map(String::as_str)[..], &value].concat()).trim(),
            "OK"
        );
    };
    set(["maxmemory", "100mb"]);
    set(["maxmemory-policy", "allkeys-lru"]);
    let begin = std::time::Instant::now();
    until("the warning", || metric("} 1"));
    assert!(begin.elapsed() < std::time::Duration::from_secs(10));
    let log = std::fs::read_to_string(program.dir.path().join("log")).unwrap();
    assert!(log.contains("limits can be lost") && log.contains("allkeys-lru"), "{log}");
}

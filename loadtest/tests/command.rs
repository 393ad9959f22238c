//! The program as a user runs it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

/// A floor that ends with the test.
struct Floor {
    process: Child,
    address: String,
}

impl Floor {
    fn start(kind: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(["floor", "--kind", kind])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { process, address }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn rls(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).arg("rls").args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const SHORT: [&str; 4] = ["--duration", "0.3", "--warm-up", "0.1"];

#[test]
fn prints_json_and_finds_the_process() {
    let floor = Floor::start("h2");
    let output = rls(&[&[floor.address.as_str(), "--json", "--distribution", "zipf:1.1"], &SHORT[..]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["server"]["pid"], floor.process.id());
    assert_eq!(json["requests"], "domain bench, 1 x user, 10000 keys zipf:1.1");
    assert!(json["verdicts"]["OK"].as_u64().unwrap() > 0);
    assert_eq!(json["errors"], 0);
}

#[test]
fn compares_and_keeps_the_bound() {
    let (a, b) = (Floor::start("tonic-current-thread"), Floor::start("h2"));
    let compare = |bound| {
        let arguments = [a.address.as_str(), "--vs", &b.address, "--rounds", "2", "--max-cpu-ratio", bound];
        rls(&[&arguments, &SHORT[..]].concat())
    };
    let within = compare("1000");
    assert!(within.status.success(), "{}", stderr(&within));
    let table = String::from_utf8(within.stdout).unwrap();
    assert!(table.contains("medians of 2 rounds") && table.contains("server CPU-s/100k"), "{table}");

    let above = compare("0.001");
    assert_eq!(above.status.code(), Some(1));
    assert!(stderr(&above).contains("is above the bound of 0.001"), "{}", stderr(&above));
}

#[test]
fn refuses_what_it_cannot_do() {
    for (arguments, expected) in [
        (&["http://192.0.2.1:8081"][..], "--allow-remote"),
        (&["https://127.0.0.1:8081"], "TLS is not supported"),
        (&["unix:/nowhere/rls.sock"], "cannot connect to unix:/nowhere/rls.sock"),
        (&["http://127.0.0.1:8081", "--rate", "0"], "above 0"),
        (&["http://127.0.0.1:8081", "--rate", "5", "--concurrency", "5"], "cannot be used with"),
        (&["http://127.0.0.1:8081", "--distribution", "normal"], "no distribution"),
    ] {
        let output = rls(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn names_other_processes() {
    let (a, b) = (Floor::start("tonic-current-thread"), Floor::start("h2"));
    let also = format!("store={}", b.process.id());
    let output =
        rls(&[&[a.address.as_str(), "--vs", &b.address, "--rounds", "1", "--also-pid", &also], &SHORT[..]].concat());
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("store CPU-s/100k"), "{table}");
    let output = rls(&[&[a.address.as_str(), "--json", "--also-pid", &also], &SHORT[..]].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["others"]["store"]["pid"], b.process.id());
    assert!(stderr(&rls(&[&a.address, "--also-pid", "7"])).contains("NAME=PID"));
}

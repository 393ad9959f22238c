//! What strangers send does not make the process larger than it is told to be.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;

use crate::{
    program::{Program, ask},
    requests::{descriptor, request},
};

/// Descriptors in one request.
const BATCH: u32 = 32;
/// Bytes for what the allocator keeps of requests on all threads. Counters without a cap would take half as much again.
const SLACK: u64 = 8 << 20;

/// Resident bytes.
fn resident(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

async fn flood(descriptors: u32) {
    let cap = 20_000;
    let program = Program::start(&["--memory-max-counters", &cap.to_string()]);
    let mut client = program.client().await;
    for _ in 0..20 {
        assert_eq!(ask(&mut client, "joe").await.unwrap().overall_code(), Code::Ok);
    }
    assert_eq!(ask(&mut client, "joe").await.unwrap().overall_code(), Code::OverLimit);
    let batch =
        |first: u32| (first..first + BATCH).map(|user| descriptor(&[("user", &format!("user-{user}"))])).collect();
    for _ in 0..20 {
        client.should_rate_limit(request("d", batch(0))).await.unwrap();
    }
    let base = resident(&program);
    let mut refused = 0;
    for first in (0..descriptors).step_by(BATCH as usize) {
        refused += u32::from(client.should_rate_limit(request("d", batch(first))).await.is_err());
        if first % (BATCH * 64) == 0 {
            assert_eq!(ask(&mut client, "joe").await.unwrap().overall_code(), Code::OverLimit, "after {first}");
        }
    }
    let (grown, most) = (resident(&program).saturating_sub(base), cap * 80 * 11 / 10 + SLACK);
    println!("{descriptors} descriptors: {refused} requests refused, {grown} bytes more, {most} allowed");
    assert!(grown <= most, "{grown} bytes more than before; {most} are allowed");
    assert!(refused > 0, "the memory was never full");
    assert_eq!(ask(&mut client, "joe").await.unwrap().overall_code(), Code::OverLimit);
}

#[tokio::test(flavor = "multi_thread")]
async fn p06_new_counters_beyond_the_cap_cost_no_memory_and_no_denial() {
    flood(200_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn p06_a_million_counters_beyond_the_cap_cost_no_memory_and_no_denial() {
    flood(1_000_000).await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0abcdefgh";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread")]
async fn p04_floods_of_pings_and_settings_hold_up_nobody_else() {
    let program = Program::start(&[]);
    let mut client = program.client().await;
    assert!(ask(&mut client, "joe").await.is_ok());
    let base = resident(&program);
    for frame in [PING, SETTINGS] {
        let mut stream = TcpStream::connect(("127.0.0.1", program.grpc)).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        stream.write_all(PREFACE).unwrap();
        let flood = std::thread::spawn(move || {
            let frames = frame.repeat(1000);
            let end = Instant::now() + Duration::from_secs(2);
            let mut written = 0;
            // The answers are never read, so that it ends with a write that waits or fails.
            while Instant::now() < end && stream.write_all(&frames).is_ok() {
                written += 1000;
            }
            (written, stream)
        });
        while !flood.is_finished() {
            let answer = tokio::time::timeout(Duration::from_secs(2), ask(&mut client, "ann")).await;
            assert!(answer.expect("an answer in time").is_ok());
        }
        let (written, _stream) = flood.join().unwrap();
        let grown = resident(&program).saturating_sub(base);
        println!("{written} frames of {} bytes, {grown} bytes more", frame.len());
        assert!(grown < SLACK, "{grown} bytes more after {written} frames");
    }
}

//! The process under faults of its machine.

use std::{
    fs,
    net::TcpStream,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::program::{Program, ask, fetch, until};

mod clock;
mod memory;
mod rollout;
mod stall;
mod xds;

/// CPU time of a process so far, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_without_file_descriptors_it_waits_and_goes_on_serving() {
    let program = Program::start(&[]);
    let mut client = program.client().await;
    assert!(ask(&mut client, "joe").await.is_ok());
    let pid = program.process.id();
    let limit = Rlimit { current: Some(64), maximum: Some(64) };
    prlimit(Pid::from_raw(pid.try_into().unwrap()), Resource::Nofile, limit).unwrap();
    let crowd: Vec<_> = (0..200).map(|_| TcpStream::connect(("127.0.0.1", program.grpc)).unwrap()).collect();
    until("the descriptors' end", || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() >= 63);

    let (before, begin) = (ticks(pid), Instant::now());
    while begin.elapsed() < Duration::from_secs(2) {
        assert!(ask(&mut client, "ann").await.is_ok());
        thread::sleep(Duration::from_millis(200));
    }
    let spent = ticks(pid) - before;
    assert!(spent < 20, "{spent} ticks of 10 ms in 2 s are more than a tenth of a core");
    drop(crowd);
    assert!(ask(&mut program.client().await, "joe").await.is_ok(), "new connections are taken again");
    assert!(fetch(program.metrics, "GET", "/metrics", "").1.contains(r#"refused_total{reason="accept"}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_a_log_that_nobody_reads_holds_up_no_decision() {
    let mut program = Program::spawn_logging_to(Some(Stdio::piped()), &["--log-level", "trace"], &[]);
    // Open and never read.
    let _pipe = program.process.stderr.take();
    until("health", || fetch(program.http, "GET", "/healthcheck", "").0 == 200);
    let mut client = program.client().await;
    let dropped = || {
        let metrics = fetch(program.metrics, "GET", "/metrics", "").1;
        let line = metrics.lines().find_map(|line| line.strip_prefix("log_lines_dropped_total ")).unwrap().to_owned();
        line.parse::<u64>().unwrap()
    };
    let begin = Instant::now();
    while dropped() == 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "all lines are kept");
        for _ in 0..50 {
            let answer = tokio::time::timeout(Duration::from_secs(5), ask(&mut client, "joe")).await;
            assert!(answer.expect("an answer in time").is_ok());
        }
    }
    assert!(ask(&mut client, "joe").await.is_ok());
}

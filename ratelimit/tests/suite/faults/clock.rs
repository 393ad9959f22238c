//! Replicas whose clocks are wrong, or jump.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitResponse, rate_limit_response::Code};

use crate::{
    program::{Program, ask, fetch, until},
    redis_server::RedisServer,
    tools,
};

const RULES: &str = "
domain: d
descriptors:
  - key: user
    rate_limit: { unit: hour, requests_per_unit: 30 }
";
/// What a clock is off by, in seconds: always within another hour for one of them.
const SKEW: i64 = 40 * 60;

/// A replica that believes it is so many seconds later, or what `file` says from time to time.
fn start(server: &RedisServer, seconds: i64, file: &Path) -> Program {
    fs::write(file, offset(seconds)).unwrap();
    let address = server.socket().display().to_string();
    let library = tools::libfaketime().display().to_string();
    let arguments = ["--redis-url", &address, "--redis-timeout", "5s", "--store-deadline", "2s", "--log-level", "info"];
    let variables = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
        ("REPLICAS", "3"),
    ];
    let program = Program::start_with(&arguments, &variables);
    fs::write(program.dir.path().join("config/rules.yaml"), RULES).unwrap();
    until("the rules", || fetch(program.debug, "GET", "/rlconfig", "").1.contains("requests_per_unit=30"));
    program
}

fn offset(seconds: i64) -> String {
    format!("{seconds:+}\n")
}

/// How far the clock of a replica that has just written to its log is ahead, in seconds.
fn skew(program: &Program) -> i64 {
    let log = fs::read_to_string(program.dir.path().join("log")).unwrap();
    let last =
        log.lines().filter_map(|line| line.split(' ').next()?.parse::<jiff::Timestamp>().ok()).next_back().unwrap();
    (last - jiff::Timestamp::now()).get_seconds()
}

fn seconds_left(answer: &RateLimitResponse) -> i64 {
    answer.statuses[0].duration_until_reset.as_ref().unwrap().seconds
}

/// Asks all replicas in turn so many times. Returns how many requests were admitted, and the ends of the windows as they were
/// told, in seconds from `began`.
async fn load(programs: &[Program], user: &str, began: Instant) -> (usize, Vec<i64>) {
    let (mut admitted, mut ends) = (0, vec![]);
    for program in programs {
        let mut client = program.client().await;
        for _ in 0..15 {
            let answer = ask(&mut client, user).await.unwrap();
            admitted += usize::from(answer.overall_code() == Code::Ok);
            ends.push(seconds_left(&answer) + i64::try_from(began.elapsed().as_secs()).unwrap());
        }
    }
    (admitted, ends)
}

fn agree(ends: &[i64]) {
    let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
    // Two of them are rounded.
    assert!(last - first <= 2, "windows end from {first} s to {last} s from now");
}

#[tokio::test(flavor = "multi_thread")]
async fn r17_wrong_clocks_and_one_that_jumps_change_no_window() {
    let mut server = RedisServer::start();
    let files = tempfile::tempdir().unwrap();
    let file = |number: usize| files.path().join(number.to_string());
    let programs = [0, SKEW, -SKEW].into_iter().enumerate();
    let programs: Vec<_> = programs.map(|(number, seconds)| start(&server, seconds, &file(number))).collect();
    for (program, wanted) in programs.iter().zip([0, SKEW, -SKEW]) {
        assert!(skew(program).abs_diff(wanted) < 120, "{} is not {wanted}", skew(program));
    }
    // No hour may end while this runs.
    let mut client = programs[0].client().await;
    while seconds_left(&ask(&mut client, "settle").await.unwrap()) < 60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    let began = Instant::now();
    let (mut admitted, mut ends) = load(&programs[..1], "joe", began).await;
    fs::write(file(0), offset(-3600)).unwrap();
    let (more, further) = load(&programs, "joe", began).await;
    admitted += more;
    ends.extend(further);
    assert_eq!(admitted, 30, "all count in one window");
    agree(&ends);

    // Each knows a third of another user's limit without Redis, in windows by the clock that Redis had.
    load(&programs, "heartbeat", began).await;
    server.kill();
    fs::write(file(2), offset(3600)).unwrap();
    let (mut admitted, mut ends) = (0, vec![]);
    for _ in 0..3 {
        let (more, further) = load(&programs, "ann", began).await;
        admitted += more;
        ends.extend(further);
    }
    assert_eq!(admitted, 30, "thirds of one window");
    agree(&ends);
}

//! Who is told what is measured: statsd, and Prometheus through a mapping file.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    time::Duration,
};

use crate::program::{Program, fetch};

const MAPPER: &str = r#"
mappings:
  - match: "ratelimit.service.rate_limit.*.*.total_hits"
    name: "hits_of_my_dashboard"
    labels: { where: "$1", rule: "$2" }
"#;

#[test]
fn statsd_and_prometheus_are_told_the_same_under_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let mapper = dir.path().join("mapper.yaml");
    fs::write(&mapper, MAPPER).unwrap();
    let statsd = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = statsd.local_addr().unwrap().port().to_string();
    let program = Program::start(&[
        "--statsd-host",
        "127.0.0.1",
        "--statsd-port",
        &port,
        "--stats-flush-interval",
        "50ms",
        "--extra-tags",
        "zone:a",
        "--prometheus-mapper-yaml",
        mapper.to_str().unwrap(),
    ]);
    let request = r#"{"domain": "d", "descriptors": [{"entries": [{"key": "user", "value": "joe"}]}]}"#;
    assert_eq!(fetch(program.http, "POST", "/json", request).0, 200);

    let (stream, _) = statsd.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let expected = "ratelimit.service.rate_limit.d.user.total_hits.__zone=a:1|c";
    assert!(BufReader::new(stream).lines().any(|line| line.unwrap() == expected));
    let (status, text) = fetch(program.metrics, "GET", "/metrics", "");
    assert_eq!(status, 200);
    let series = text.lines().find(|line| line.starts_with("hits_of_my_dashboard{")).unwrap();
    assert!(
        [r#"zone="a""#, r#"where="d""#, r#"rule="user""#, "} 1"].iter().all(|part| series.contains(part)),
        "{series}"
    );
    assert!(!text.contains("ratelimit_service_rate_limit_total_hits"), "{text}");
}

#[test]
fn nothing_is_served_when_nothing_is_measured() {
    let program = Program::start(&["--disable-stats", "true"]);
    assert_eq!(fetch(program.metrics, "GET", "/metrics", "").0, 0);
}

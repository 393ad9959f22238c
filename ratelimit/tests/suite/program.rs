//! The program as it runs in production: its own process, real sockets.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse, rate_limit_response::Code, rate_limit_service_client::RateLimitServiceClient,
};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

use crate::{
    redis_server::RedisServer,
    requests::{descriptor, limit, request},
    xds_server::XdsServer,
};

const PATIENCE: Duration = Duration::from_secs(30);
const RULES: &str = "
domain: d
descriptors:
  - key: user
    rate_limit: { unit: year, requests_per_unit: 20, name: per-user }
";

/// A running `ratelimit`, killed when dropped.
pub(crate) struct Program {
    pub(crate) process: Child,
    pub(crate) dir: TempDir,
    pub(crate) grpc: u16,
    pub(crate) http: u16,
    pub(crate) debug: u16,
    pub(crate) metrics: u16,
}

impl Program {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// With variables of the environment.
    pub(crate) fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_by(|| Self::spawn(arguments, variables))
    }

    /// With a port for gRPC that the caller holds.
    pub(crate) fn start_at(grpc: u16, arguments: &[&str]) -> Self {
        Self::start_by(|| {
            let [_, http, debug, metrics] = free_ports();
            Self::spawn_at([grpc, http, debug, metrics], None, arguments, &[])
        })
    }

    fn start_by(spawn: impl Fn() -> Self) -> Self {
        // A free port may be taken by another test before the program binds it.
        for _ in 0..5 {
            let mut program = spawn();
            let mut ended = false;
            until("health or the end", || {
                ended = program.process.try_wait().unwrap().is_some();
                ended || fetch(program.http, "GET", "/healthcheck", "").0 == 200
            });
            if !ended {
                return program;
            }
        }
        panic!("the program does not start");
    }

    fn spawn(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn_logging_to(None, arguments, variables)
    }

    /// Standard error goes to a file unless `stderr` says where to.
    pub(crate) fn spawn_logging_to(stderr: Option<Stdio>, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn_at(free_ports(), stderr, arguments, variables)
    }

    fn spawn_at(ports: [u16; 4], stderr: Option<Stdio>, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("config")).unwrap();
        fs::write(dir.path().join("config/rules.yaml"), RULES).unwrap();
        let [grpc, http, debug, metrics] = ports;
        let process = Command::new(env!("CARGO_BIN_EXE_ratelimit"))
            .args(["--host", "127.0.0.1", "--grpc-host", "127.0.0.1", "--debug-host", "127.0.0.1", "--cores", "2"])
            .args(["--grpc-port", &grpc.to_string(), "--port", &http.to_string(), "--debug-port", &debug.to_string()])
            .args(["--prometheus-addr", &format!("127.0.0.1:{metrics}"), "--runtime-root"])
            .arg(dir.path())
            .args(if arguments.contains(&"--log-level") { &[][..] } else { &["--log-level", "error"] })
            .args(arguments)
            .envs(variables.iter().copied())
            .stderr(stderr.unwrap_or_else(|| fs::File::create(dir.path().join("log")).unwrap().into()))
            .spawn()
            .unwrap();
        Self { process, dir, grpc, http, debug, metrics }
    }

    pub(crate) async fn client(&self) -> RateLimitServiceClient<Channel> {
        RateLimitServiceClient::connect(format!("http://127.0.0.1:{}", self.grpc)).await.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Bound together, so that they differ.
pub(crate) fn free_ports() -> [u16; 4] {
    let sockets = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Status and body; status 0 when nobody answers.
pub(crate) fn fetch(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return (0, String::new()) };
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default(), body.to_owned())
}

pub(crate) async fn ask(client: &mut RateLimitServiceClient<Channel>, user: &str) -> Result<RateLimitResponse, Status> {
    let request = request("d", vec![descriptor(&[("user", user)])]);
    client.should_rate_limit(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_grpc_and_http_and_counts() {
    let program = Program::start(&["--limit-response-headers-enabled", "true"]);
    let mut client = program.client().await;
    let response = ask(&mut client, "joe").await.unwrap();
    assert_eq!(response.overall_code(), Code::Ok);
    assert_eq!(response.statuses[0].limit_remaining, 19);
    assert_eq!(response.response_headers_to_add[0].key, "RateLimit-Limit");

    let joe = r#"{"domain": "d", "descriptors": [{"entries": [{"key": "user", "value": "joe"}]}], "hitsAddend": 19}"#;
    let (status, body) = fetch(program.http, "POST", "/json", joe);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""overallCode":"OK""#), "{body}");
    let (status, body) = fetch(program.http, "POST", "/json", joe);
    assert_eq!(status, 429, "{body}");
    assert!(body.contains(r#""overallCode":"OVER_LIMIT""#), "{body}");

    for (body, text) in [
        ("{", "the body is not JSON"),
        (r#"{"nonsense": 1}"#, "nonsense"),
        ("{}", "rate limit domain must not be empty"),
    ] {
        let (status, answer) = fetch(program.http, "POST", "/json", body);
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains(text), "{answer}");
    }

    assert!(fetch(program.debug, "GET", "/", "").1.contains("/rlconfig: "));
    let (_, rules) = fetch(program.debug, "GET", "/rlconfig", "");
    assert_eq!(rules, "d.user: unit=YEAR requests_per_unit=20, shadow_mode: false, quota_mode: false\n");

    let (_, metrics) = fetch(program.metrics, "GET", "/metrics", "");
    for line in [
        r#"ratelimit_service_rate_limit_total_hits{domain="d",key1="user"} 39"#,
        r#"ratelimit_service_rate_limit_within_limit{domain="d",key1="user"} 20"#,
        r#"ratelimit_service_rate_limit_over_limit{domain="d",key1="user"} 19"#,
        r#"ratelimit_service_rate_limit_near_limit{domain="d",key1="user"} 4"#,
        r#"ratelimit_service_total_requests{grpc_method="ShouldRateLimit"} 4"#,
        r#"ratelimit_service_should_rate_limit_error{err_type="service_error"} 1"#,
        "ratelimit_service_config_load_success 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_requests_are_labels_where_the_rule_asks_and_under_a_cap() {
    let program = Program::start(&["--metrics-max-value-series", "2"]);
    let rules = RULES.replace("key: user", "key: user\n    detailed_metric: true");
    fs::write(program.dir.path().join("config/rules.yaml"), rules).unwrap();
    until("the load", || fetch(program.metrics, "GET", "/metrics", "").1.contains("config_load_success 2"));
    let mut client = program.client().await;
    for user in ["ann", "bob", "cid", "dan", "ann"] {
        ask(&mut client, user).await.unwrap();
    }
    let (_, metrics) = fetch(program.metrics, "GET", "/metrics", "");
    for (key, hits) in [("user_ann", 2), ("user_bob", 1), ("other", 2)] {
        let line = format!(r#"ratelimit_service_rate_limit_total_hits{{domain="d",key1="{key}"}} {hits}"#);
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("cid"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decided_is_unknown() {
    let program = Program::start(&[]);
    let mut client = program.client().await;
    let bad_unit = request("d", vec![limit(descriptor(&[("user", "joe")]), 1, 0)]);
    let status = client.should_rate_limit(bad_unit).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::Unknown, "descriptor 0: limit has unit 0, which is not a unit of time")
    );
    let large = request("d", vec![descriptor(&[("user", &"x".repeat(70_000))])]);
    assert!(client.should_rate_limit(large).await.is_err());
    assert!(ask(&mut client, "joe").await.is_ok(), "it still answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_without_a_configuration_and_takes_it_up() {
    let later = ["--runtime-appdirectory", "later"];
    let program = Program::start(&[&later[..], &["--force-start-without-initial-config", "true"]].concat());
    let mut client = program.client().await;
    let status = ask(&mut client, "joe").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Unknown, "no rate limit configuration loaded"));
    fs::rename(program.dir.path().join("config"), program.dir.path().join("later")).unwrap();
    until("the configuration", || !fetch(program.debug, "GET", "/rlconfig", "").1.is_empty());
    assert!(ask(&mut client, "joe").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn listens_when_there_is_a_configuration_even_a_bad_one() {
    let waiting = Program::spawn(&["--runtime-appdirectory", "later"], &[]);
    let log = || fs::read_to_string(waiting.dir.path().join("log")).unwrap();
    until("the error", || log().contains("there is no file"));
    assert_eq!(fetch(waiting.http, "GET", "/healthcheck", "").0, 0);
    fs::create_dir(waiting.dir.path().join("later")).unwrap();
    fs::write(waiting.dir.path().join("later/rules"), "domain: d\nnonsense: 1\n").unwrap();
    until("health", || fetch(waiting.http, "GET", "/healthcheck", "").0 == 200);
    let mut client = waiting.client().await;
    assert_eq!(ask(&mut client, "joe").await.unwrap_err().message(), "no rate limit configuration loaded");
    fs::write(waiting.dir.path().join("later/rules"), RULES).unwrap();
    until("the configuration", || !fetch(waiting.debug, "GET", "/rlconfig", "").1.is_empty());
    assert!(ask(&mut client, "joe").await.is_ok());
}

#[test]
fn p09_following_a_swapped_link_leaks_no_descriptor() {
    let current = ["--runtime-appdirectory", "current", "--force-start-without-initial-config", "true"];
    let program = Program::start(&current);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", program.process.id())).unwrap().count();
    let swap = |generation: u32| {
        let dir = program.dir.path();
        let target = format!("generation-{generation}");
        fs::create_dir(dir.join(&target)).unwrap();
        let rules = RULES.replace("20", &(generation + 1).to_string());
        fs::write(dir.join(&target).join("rules"), rules).unwrap();
        symlink(target, dir.join("next")).unwrap();
        fs::rename(dir.join("next"), dir.join("current")).unwrap();
    };
    let took_up = |generation: u32| {
        let text = format!("requests_per_unit={},", generation + 1);
        until("the swap", || fetch(program.debug, "GET", "/rlconfig", "").1.contains(&text));
    };
    swap(1);
    took_up(1);
    let before = descriptors();
    for round in 1..6 {
        (0..20).for_each(|index| swap(round * 100 + index));
        took_up(round * 100 + 19);
    }
    // What belongs to the last requests may not be closed yet.
    until("as few descriptors as before", || descriptors() <= before);
}

#[tokio::test(flavor = "multi_thread")]
async fn listens_when_the_xds_server_has_spoken_or_at_once_when_forced() {
    let mut server = XdsServer::start("127.0.0.1:0".parse().unwrap(), None).await;
    let url = server.address.to_string();
    let xds = ["--config-type", "GRPC_XDS_SOTW", "--config-grpc-xds-server-url", &url];
    let forced = Program::start(&[&xds[..], &["--force-start-without-initial-config", "true"]].concat());
    let mut client = forced.client().await;
    let error = ask(&mut client, "joe").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (tonic::Code::Unknown, "no rate limit configuration loaded"));

    let waiting = Program::spawn(&xds, &[]);
    for _ in 0..2 {
        server.request().await;
    }
    assert_eq!(fetch(waiting.http, "GET", "/healthcheck", "").0, 0);
    server.send("1", &["d"], 1);
    until("health", || fetch(waiting.http, "GET", "/healthcheck", "").0 == 200);
    let mut client = waiting.client().await;
    assert_eq!(ask(&mut client, "joe").await.unwrap().overall_code(), Code::Ok);
    assert_eq!(ask(&mut client, "joe").await.unwrap().overall_code(), Code::OverLimit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_reported_and_changes_nothing() {
    let program = Program::start(&[]);
    let rules = || fetch(program.debug, "GET", "/rlconfig", "").1;
    let before = rules();
    fs::write(program.dir.path().join("config/bad.yaml"), "domain: bad\nnonsense: 1\n").unwrap();
    let errors = || fetch(program.metrics, "GET", "/metrics", "").1.contains("ratelimit_service_config_load_error 1");
    until("the error's count", errors);
    let log = || fs::read_to_string(program.dir.path().join("log")).unwrap();
    until("the error's line", || log().contains("bad.yaml:2:1: unknown field `nonsense`"));
    assert_eq!(rules(), before);
    assert!(ask(&mut program.client().await, "joe").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_share_a_redis_and_survive_its_restart() {
    let mut server = RedisServer::start();
    let address = server.socket().display().to_string();
    let mut redis = vec!["--backend-type", "redis", "--redis-timeout", "2s", "--redis-url", &address];
    redis.extend(["--store-deadline", "2s", "--on-store-loss", "error"]);
    let programs = [Program::start(&redis), Program::start(&redis)];
    let clients = [programs[0].client().await, programs[1].client().await];
    let asked: Vec<_> = (0..100)
        .map(|index| {
            let mut client = clients[index % 2].clone();
            tokio::spawn(async move { ask(&mut client, "joe").await.unwrap().overall_code() == Code::Ok })
        })
        .collect();
    let mut admitted = 0;
    for asked in asked {
        admitted += u32::from(asked.await.unwrap());
    }
    assert_eq!(admitted, 20);

    server.kill();
    let mut client = clients[0].clone();
    assert_eq!(ask(&mut client, "joe").await.unwrap_err().code(), tonic::Code::Unknown);
    server.restart();
    let deadline = Instant::now() + PATIENCE;
    while ask(&mut client, "joe").await.is_err() {
        assert!(Instant::now() < deadline, "Redis is not used again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it() {
    let mut program = Program::start(&[]);
    let mut client = program.client().await;
    ask(&mut client, "joe").await.unwrap();
    let pid = program.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = program.process.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_fails_health_first_and_drains_after_the_delay() {
    let mut program = Program::start(&["--drain-delay", "5s"]);
    let mut client = program.client().await;
    let pid = program.process.id().to_string();
    let asked = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    until("health to fail", || fetch(program.http, "GET", "/healthcheck", "").0 == 500);
    assert!(asked.elapsed() < Duration::from_secs(5), "health fails only with the drain");
    ask(&mut client, "joe").await.unwrap();
    ask(&mut program.client().await, "joe").await.unwrap();
    until("the end", || program.process.try_wait().unwrap().is_some());
    assert!(asked.elapsed() >= Duration::from_secs(2));
}

const SEVERAL_ERRORS: &str = "domain: b
descriptors:
  - key: a
    nonsense: 1
  - key: b
    rate_limit:
      unit: fortnight
      requests_per_unit: 1
      more: nonsense
      less: { of: it }
  - value: no key
  - key: c
    descriptors:
      - key: d
        rate_limit: { requests_per_unit: 1 }
      - key: e
        share_threshold: true
  - key: f
    rate_limit: { unit: day, requests_per_unit: 1 }
";

#[test]
fn check_takes_the_flags_of_config_check() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), RULES).unwrap();
    fs::write(dir.path().join("b.yaml"), "domain: d\n").unwrap();
    let status = |arguments: &[&str]| {
        let program = || Command::new(env!("CARGO_BIN_EXE_ratelimit"));
        program().arg("check").args(arguments).arg(dir.path()).output().unwrap().status.code()
    };
    for (arguments, code) in [
        (&["-config_dir"][..], 1),
        (&["--config_dir"], 1),
        (&["-merge_domain_configs", "-config_dir"], 0),
        (&["-merge_domain_configs=true", "--config-dir"], 0),
        (&["-merge_domain_configs=false"], 1),
        (&["--merge-domain-configs"], 0),
    ] {
        assert_eq!(status(arguments), Some(code), "{arguments:?}");
    }
}

#[test]
fn check_shows_what_is_wrong_in_each_file() {
    let dir = tempfile::tempdir().unwrap();
    let check = || {
        let output = Command::new(env!("CARGO_BIN_EXE_ratelimit")).arg("check").arg(dir.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("a.yaml", RULES);
    let (code, rules, _) = check();
    assert_eq!(code, Some(0));
    assert_eq!(rules, "d.user: unit=YEAR requests_per_unit=20, shadow_mode: false, quota_mode: false\n");

    write("b.yaml", "domain: d\n");
    let (code, rules, error) = check();
    assert_eq!((code, rules.as_str()), (Some(1), ""));
    // The report is wrapped at any blank, so only words are sure.
    assert!(error.contains("a.yaml") && error.contains("b.yaml") && error.contains("again"), "{error}");

    let merged = Command::new(env!("CARGO_BIN_EXE_ratelimit"))
        .args(["check", "--merge-domain-configs"])
        .arg(dir.path())
        .output();
    assert!(merged.unwrap().status.success());

    write("b.yaml", "domain: b\nnonsense: 1\n");
    write("c.yml", "domain: c\ndescriptors:\n  - value: x\n");
    let (code, _, error) = check();
    assert_eq!(code, Some(1));
    assert!(error.contains("b.yaml:2:1") && error.contains("c.yml:3:5"), "{error}");

    write("b.yaml", SEVERAL_ERRORS);
    let (code, _, error) = check();
    assert_eq!(code, Some(1));
    let places: Vec<_> = (1..40).filter(|line| error.contains(&format!("b.yaml:{line}:"))).collect();
    assert_eq!(places, [4, 7, 9, 10, 11, 15, 16], "{error}");

    fs::remove_dir_all(dir.path()).unwrap();
    let (code, _, error) = check();
    assert_eq!(code, Some(1));
    assert!(error.contains("cannot") && error.contains("read"), "{error}");
    fs::create_dir(dir.path()).unwrap();
}

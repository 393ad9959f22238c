//! A real Envoy that asks several replicas of the real program before it answers.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tools;

/// Listens on a socket of its folder until it is dropped.
pub(crate) struct Envoy {
    dir: TempDir,
    process: Child,
}

impl Envoy {
    /// Answers 200, or what the filter for rate limits makes of the replicas' answers; 500 when none of them decides.
    pub(crate) fn start(replicas: &[u16]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("envoy.json"), bootstrap(dir.path(), replicas).to_string()).unwrap();
        let process = Command::new(tools::envoy())
            .args([
                "--concurrency",
                "2",
                "--disable-hot-restart",
                "--log-level",
                "warning",
                "--file-flush-interval-msec",
                "10",
                "-c",
            ])
            .arg(path("envoy.json"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        Self { dir, process }
    }

    /// Where requests are taken.
    pub(crate) fn front(&self) -> PathBuf {
        self.dir.path().join("front")
    }

    /// How many replicas Envoy believes to be well.
    pub(crate) fn healthy(&self) -> Option<usize> {
        let stats = self.admin("/stats?filter=membership_healthy")?;
        // The answer is chunked, so that there is more than this line.
        stats.lines().find_map(|line| line.strip_prefix("cluster.ratelimit.membership_healthy: "))?.trim().parse().ok()
    }

    /// What Envoy counted on its way to the replicas, as far as it is not 0, and what went wrong.
    pub(crate) fn report(&self) -> String {
        let stats = self.admin("/stats?usedonly&filter=(cluster.ratelimit|http.front.rq)").unwrap_or_default();
        let failures = fs::read_to_string(self.dir.path().join("failures")).unwrap_or_default();
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        format!("{stats}\n{failures}\n{log}")
    }

    fn admin(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.dir.path().join("admin")).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// Waits until Envoy believes so many replicas to be well.
    #[track_caller]
    pub(crate) fn await_healthy(&self, replicas: usize) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.healthy() != Some(replicas) {
            assert!(Instant::now() < deadline, "{:?} of {replicas} are well; {}", self.healthy(), self.report());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One client's connection, which is kept.
pub(crate) struct Client(UnixStream);

impl Client {
    pub(crate) fn connect(front: &Path) -> Self {
        let stream = UnixStream::connect(front).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    /// The status that a user gets.
    pub(crate) fn get(&mut self, user: &str) -> u16 {
        write!(self.0, "GET / HTTP/1.1\r\nhost: x\r\nx-user: {user}\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 1024];
        // Answers have no body.
        while !answer.ends_with(b"\r\n\r\n") {
            let read = self.0.read(&mut piece).unwrap();
            assert!(read > 0, "Envoy closed the connection");
            answer.extend_from_slice(&piece[..read]);
        }
        String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap()
    }
}

fn bootstrap(dir: &Path, replicas: &[u16]) -> Value {
    let pipe = |name: &str| json!({"pipe": {"path": dir.join(name)}});
    let ratelimit = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
        "domain": "d",
        "failure_mode_deny": true,
        "timeout": "5s",
        "rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": {
                "envoy_grpc": {"cluster_name": "ratelimit"},
                "retry_policy": {"num_retries": 2, "retry_on": "unavailable,reset,refused-stream,connect-failure"},
            },
        },
    });
    let limited = json!({
        "match": {"prefix": "/"},
        "route": {
            "cluster": "upstream",
            "rate_limits": [{"actions": [{"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}]}],
        },
    });
    let answered = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200}});
    let failures = json!({
        "name": "envoy.access_loggers.file",
        "filter": {"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 500, "runtime_key": "-"}}}},
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": dir.join("failures"),
            "log_format": {"text_format_source": {
                "inline_string": "%START_TIME% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %DURATION%\n",
            }},
        },
    });
    let upstream = json!({
        "name": "upstream", "type": "STATIC",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": pipe("upstream")}}]},
        ]},
    });
    json!({
        "admin": {"address": pipe("admin")},
        "static_resources": {
            "listeners": [
                listener("front", &pipe("front"), &limited, &[ratelimit], &[failures]),
                listener("upstream", &pipe("upstream"), &answered, &[], &[]),
            ],
            "clusters": [upstream, cluster(replicas)],
        },
    })
}

fn listener(name: &str, address: &Value, route: &Value, filters: &[Value], logs: &[Value]) -> Value {
    let router = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"});
    let filters = filters.iter().chain([&router]).enumerate();
    let filters: Vec<_> =
        filters.map(|(index, filter)| json!({"name": format!("filter-{index}"), "typed_config": filter})).collect();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": filters,
        "access_log": logs,
    });
    json!({
        "name": name,
        "address": address,
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    })
}

/// The replicas, looked after as README says.
fn cluster(replicas: &[u16]) -> Value {
    let endpoints: Vec<_> = replicas
        .iter()
        .map(|port| json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}))
        .collect();
    json!({
        "name": "ratelimit", "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
        "health_checks": [{
            "timeout": "2s", "interval": "0.1s", "no_traffic_interval": "0.1s",
            "unhealthy_interval": "0.1s", "unhealthy_threshold": 2, "healthy_threshold": 1,
            "grpc_health_check": {"service_name": "ratelimit"},
        }],
        "outlier_detection": {"consecutive_gateway_failure": 3, "interval": "1s", "base_ejection_time": "1s"},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "circuit_breakers": {"thresholds": [{"max_retries": 1024}]},
        "load_assignment": {"cluster_name": "ratelimit", "endpoints": [{"lb_endpoints": endpoints}]},
    })
}

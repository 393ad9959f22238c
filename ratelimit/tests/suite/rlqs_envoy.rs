//! A real Envoy that asks the real program for its share.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    program::{Program, fetch, until},
    tools::envoy,
};

const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.http";

struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bootstrap(front: &Path, rlqs: u16) -> Value {
    let deny = json!({"fallback_rate_limit": {"blanket_rule": "DENY_ALL"}});
    let bucket = json!({
        "@type": format!("{HTTP}.rate_limit_quota.v3.RateLimitQuotaBucketSettings"),
        "bucket_id_builder": {"bucket_id_builder": {"user": {"string_value": "joe"}}},
        "reporting_interval": "0.2s",
        "no_assignment_behavior": deny,
        "expired_assignment_behavior": deny,
    });
    let quota = json!({
        "@type": format!("{HTTP}.rate_limit_quota.v3.RateLimitQuotaFilterConfig"),
        "rlqs_server": {"envoy_grpc": {"cluster_name": "ratelimit"}},
        "domain": "d",
        "bucket_matchers": {"on_no_match": {"action": {"name": "quota", "typed_config": bucket}}},
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
        }]},
        "http_filters": [
            {"name": "envoy.filters.http.rate_limit_quota", "typed_config": quota},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": format!("{HTTP}.router.v3.Router")}},
        ],
    });
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": rlqs}});
    json!({"static_resources": {
        "listeners": [{
            "name": "front", "address": {"pipe": {"path": front}},
            "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
            ]}],
        }],
        "clusters": [{
            "name": "ratelimit", "type": "STATIC",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "load_assignment": {"cluster_name": "ratelimit", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address}}]},
            ]},
        }],
    }})
}

/// The status; 0 while nobody answers.
fn get(front: &Path) -> u16 {
    let Ok(mut stream) = UnixStream::connect(front) else { return 0 };
    let mut line = String::new();
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    // Only the first line: Envoy may take a second to close.
    if asked.is_err() || BufReader::new(stream).read_line(&mut line).is_err() {
        return 0;
    }
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

#[test]
fn envoy_admits_its_share_and_then_denies() {
    let program = Program::start(&["--rlqs-enabled", "true"]);
    let path = |name: &str| program.dir.path().join(name);
    fs::write(path("envoy.json"), bootstrap(&path("front"), program.grpc).to_string()).unwrap();
    let process = Command::new(envoy())
        .args(["--concurrency", "2", "--disable-hot-restart", "--log-level", "warning", "-c"])
        .arg(path("envoy.json"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(path("envoy.log")).unwrap())
        .spawn();
    let _envoy = Envoy(process.unwrap());
    let front = path("front");

    // Until it has its share, Envoy denies.
    until("a share", || get(&front) == 200);
    let statuses: Vec<u16> = (0..20).map(|_| get(&front)).collect();
    let admitted = 1 + statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(admitted, 5, "20 a year begin with a quarter of them: {statuses:?}");
    assert!(statuses[4..].iter().all(|status| *status == 429), "{statuses:?}");
    let line = r#"ratelimit_rlqs_reported_requests{result="allowed"} 5"#;
    until("the report of it", || fetch(program.metrics, "GET", "/metrics", "").1.contains(line));
    assert_eq!(get(&front), 429, "what is assigned anew is no new token bucket");
}

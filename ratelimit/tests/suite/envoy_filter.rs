//! The program behind a real Envoy: what clients see, and what Envoy sends when a stream is done.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    program::{Program, fetch, until},
    tools::envoy,
};

const RULES: &str = "
domain: d
descriptors:
  - key: plain
    rate_limit: { unit: year, requests_per_unit: 2 }
  - key: multiplied
    rate_limit: { unit: hour, unit_multiplier: 9000, requests_per_unit: 2 }
  - key: banned
    rate_limit: { unit: year, requests_per_unit: 0 }
  - key: slots
    metadata: { slots: api }
    rate_limit: { unit: hour, algorithm: concurrency, requests_per_unit: 2 }
  - key: tokens
    rate_limit: { unit: year, requests_per_unit: 100 }
";

/// `ratelimit`, Envoy and an upstream in one folder. Requests for a path with `hold` stay unanswered until told.
struct House {
    program: Program,
    envoy: Child,
    held: Receiver<UnixStream>,
}

struct Answer {
    status: u16,
    /// In lower case.
    head: String,
}

impl House {
    fn build() -> Self {
        let program = Program::start(&["--response-dynamic-metadata", "true"]);
        fs::write(program.dir.path().join("config/envoy.next"), RULES).unwrap();
        fs::rename(program.dir.path().join("config/envoy.next"), program.dir.path().join("config/rules.yaml")).unwrap();
        until("the rules", || fetch(program.debug, "GET", "/rlconfig", "").1.contains("tokens"));
        let dir = program.dir.path().join("envoy");
        fs::create_dir(&dir).unwrap();
        let held = upstream(UnixListener::bind(dir.join("upstream.sock")).unwrap());
        fs::write(dir.join("envoy.json"), bootstrap(&dir, program.grpc).to_string()).unwrap();
        let envoy = Command::new(envoy())
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"])
            .arg(dir.join("envoy.json"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let house = Self { program, envoy, held };
        // Without the service Envoy answers 500.
        until("Envoy", || house.try_get("/open").is_some_and(|answer| answer.status == 200));
        house
    }

    fn send(&self, path: &str) -> Option<UnixStream> {
        let mut stream = UnixStream::connect(self.program.dir.path().join("envoy/front.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n").ok()?;
        Some(stream)
    }

    fn try_get(&self, path: &str) -> Option<Answer> {
        read(self.send(path)?)
    }

    fn get(&self, path: &str) -> Answer {
        self.try_get(path).expect("Envoy answers")
    }

    /// Sends a request and waits until the upstream has it. Returns the client's end and the upstream's.
    fn hold(&self, path: &str) -> (UnixStream, UnixStream) {
        let client = self.send(path).unwrap();
        (client, self.held.recv_timeout(Duration::from_secs(20)).expect("the request is admitted"))
    }

    /// What is left, without a hit.
    fn remaining(&self, key: &str, value: &str) -> u64 {
        let entries = json!([{"key": key, "value": value}]);
        let request = json!({"domain": "d", "descriptors": [{"entries": entries, "hitsAddend": 0}]});
        let answer: Value =
            serde_json::from_str(&fetch(self.program.http, "POST", "/json", &request.to_string()).1).unwrap();
        answer["statuses"][0]["limitRemaining"].as_u64().unwrap_or(0)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.envoy.kill();
        let _ = self.envoy.wait();
    }
}

fn read(mut stream: UnixStream) -> Option<Answer> {
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(Answer { status: text.split(' ').nth(1)?.parse().ok()?, head: text.to_lowercase() })
}

fn upstream(listener: UnixListener) -> Receiver<UnixStream> {
    let (sender, held) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            if lines.first().is_some_and(|line| line.contains("hold")) {
                let _ = sender.send(stream);
            } else {
                answer(stream);
            }
        }
    });
    held
}

/// Envoy may be gone already at the end of a test.
fn answer(mut stream: UnixStream) {
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\nx-cost: 60\r\ncontent-length: 0\r\n\r\n");
    let _ = stream.shutdown(Shutdown::Write);
}

fn constant(key: &str, value: &str) -> Value {
    json!({"generic_key": {"descriptor_key": key, "descriptor_value": value}})
}

/// Hits are given back at the end of the stream.
fn give_back(action: &Value) -> Value {
    let hits = json!({"number": 1, "is_negative_hits": true});
    json!({"actions": [action], "apply_on_stream_done": true, "hits_addend": hits})
}

fn routes() -> Value {
    let asks = |key: &str, value: &str| json!({"actions": [constant(key, value)]});
    // Only an answer that took a slot sets this, so only such a stream makes a descriptor.
    let taken = json!({"metadata": {"descriptor_key": "slots", "metadata_key": {
        "key": "envoy.filters.http.ratelimit", "path": [{"key": "metadata"}, {"key": "slots"}],
    }}});
    let cost = json!({"format": "%DYNAMIC_METADATA(cost:tokens)%"});
    let limits = [
        ("/plain", vec![asks("plain", "a")]),
        ("/multiplied", vec![asks("multiplied", "a")]),
        ("/naive", vec![asks("slots", "naive"), give_back(&constant("slots", "naive"))]),
        ("/slots", vec![asks("slots", "api"), give_back(&taken)]),
        ("/denied", vec![asks("slots", "api"), asks("banned", "a"), give_back(&taken)]),
        (
            "/cost",
            vec![
                json!({"actions": [constant("tokens", "a")], "hits_addend": {"number": 0}}),
                json!({"actions": [constant("tokens", "a")], "apply_on_stream_done": true, "hits_addend": cost}),
            ],
        ),
        ("/open", vec![asks("unknown", "a")]),
    ];
    let route = |(prefix, limits): &(&str, Vec<Value>)| {
        json!({
            "match": {"prefix": prefix},
            "route": {"cluster": "upstream", "timeout": "60s"},
            "typed_per_filter_config": {"envoy.filters.http.ratelimit": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
                "rate_limits": limits,
            }},
        })
    };
    limits.iter().map(route).collect()
}

fn bootstrap(dir: &Path, grpc: u16) -> Value {
    let pipe = |name: &str| json!({"pipe": {"path": dir.join(name)}});
    let cluster = |name: &str, address: Value, options: Value| {
        let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "5s", "typed_extension_protocol_options": options,
            "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        })
    };
    let http2 = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
    let filter = |name: &str, kind: &str, mut config: Value| {
        config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.http.{kind}").into();
        json!({"name": format!("envoy.filters.http.{name}"), "typed_config": config})
    };
    let service = json!({"envoy_grpc": {"cluster_name": "ratelimit"}, "timeout": "5s"});
    let ratelimit = json!({
        "domain": "d", "timeout": "5s", "failure_mode_deny": true, "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "rate_limit_service": {"transport_api_version": "V3", "grpc_service": service},
    });
    let cost = json!({"metadata_namespace": "cost", "key": "tokens", "type": "NUMBER"});
    let chain = json!({"filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "front",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes()}]},
            "http_filters": [
                filter("ratelimit", "ratelimit.v3.RateLimit", ratelimit),
                filter("header_to_metadata", "header_to_metadata.v3.Config", json!({
                    "response_rules": [{"header": "x-cost", "on_header_present": cost}],
                })),
                filter("router", "router.v3.Router", json!({})),
            ],
        },
    }]});
    let service = json!({"socket_address": {"address": "127.0.0.1", "port_value": grpc}});
    json!({"static_resources": {
        "listeners": [{"name": "front", "address": pipe("front.sock"), "filter_chains": [chain]}],
        "clusters": [cluster("upstream", pipe("upstream.sock"), json!({})), cluster("ratelimit", service, http2)],
    }})
}

#[test]
fn envoy_denies_and_tells_the_window() {
    let house = House::build();
    for (path, limit) in [("/plain", "2, 2;w=31536000"), ("/multiplied", "2")] {
        for (status, remaining) in [(200, 1), (200, 0), (429, 0)] {
            let answer = house.get(path);
            assert_eq!(answer.status, status, "{path} {}", answer.head);
            let headers =
                [format!("x-ratelimit-limit: {limit}\r\n"), format!("x-ratelimit-remaining: {remaining}\r\n")];
            assert!(headers.iter().all(|header| answer.head.contains(header)), "{path} {}", answer.head);
            assert!(answer.head.contains("\r\nx-ratelimit-reset: "), "{path} {}", answer.head);
        }
    }
}

#[test]
fn slots_are_given_back_by_streams_that_took_one() {
    let house = House::build();
    let (first, second) = (house.hold("/slots/hold"), house.hold("/slots/hold"));
    for _ in 0..5 {
        assert_eq!(house.get("/slots").status, 429);
    }
    answer(second.1);
    assert_eq!(read(second.0).unwrap().status, 200);
    until("a slot comes back", || house.remaining("slots", "api") == 1);
    for _ in 0..5 {
        assert_eq!(house.get("/denied").status, 429, "by another limit, while a slot is free");
    }
    assert_eq!(house.remaining("slots", "api"), 1, "what took no slot gives none back");
    let (client, gone) = first;
    drop(client);
    until("the slot of a client that has gone comes back", || house.remaining("slots", "api") == 2);
    answer(gone);
    for _ in 0..5 {
        until("one after the other", || house.get("/slots").status == 200);
    }
    until("all come back", || house.remaining("slots", "api") == 2);
}

/// Envoy applies what is set for the end of a stream to denied ones, too; this is why the descriptor needs metadata.
#[test]
fn slots_given_back_by_all_streams_are_others_slots() {
    let house = House::build();
    let held = [house.hold("/naive/hold"), house.hold("/naive/hold")];
    assert_eq!(house.get("/naive").status, 429);
    until("a denied request frees a slot", || house.get("/naive").status == 200);
    drop(held);
}

#[test]
fn responses_are_charged_when_they_are_done() {
    let house = House::build();
    for left in [40, 0] {
        assert_eq!(house.get("/cost").status, 200);
        until("the charge", || house.remaining("tokens", "a") == left);
    }
    for _ in 0..2 {
        assert_eq!(house.get("/cost").status, 429, "the budget is used up");
    }
}

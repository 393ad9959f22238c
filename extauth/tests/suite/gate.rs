//! Rules and results behind a real Envoy, which says what the upstream and the client really get.

mod paths;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use proto::extauth::{Key, Method, Policy};
use serde_json::{Value, json};

use crate::envoy::{House, any_port, manager, seen};
use crate::support::{Response, api_keys, key, talk};

fn policy(name: &str, more: &Value) -> Policy {
    let mut policy = json!({"name": name, "methods": [], "optional": true});
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let acme = Key { tier: Some("gold & silver".into()), ..key("a-key", "acme") };
    Policy { methods: vec![Method::ApiKey(api_keys(vec![acme]))], ..serde_json::from_value(policy).unwrap() }
}

fn send(house: &House, method: &str, target: &str, headers: &[&str]) -> Option<Response> {
    let lines: String = headers.iter().flat_map(|line| [*line, "\r\n"]).collect();
    let head = format!("{method} {target} HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n{lines}\r\n");
    talk(UnixStream::connect(house.extauth.path("front.sock")).unwrap(), &head)
}

#[test]
fn results_reach_the_upstream_and_the_client() {
    let guard = policy(
        "guard",
        &json!({
            "optional": false,
            "rules": [{"name": "not-here", "action": "deny", "when": {"paths": [{"prefix": "/closed"}]}}],
            "default": "allow",
            "results": {
                "headers": [{"name": "x-user", "value": "{client}"}, {"name": "x-many", "value": "1"}, {"name": "x-many", "value": "2"}],
                "removeHeaders": ["x-debug"],
                "query": [{"name": "tier", "value": "{tier}"}],
                "removeQuery": ["debug"],
                "responseHeaders": [{"name": "x-tier", "value": "{tier}"}, {"name": "set-cookie", "value": "a=1"}, {"name": "set-cookie", "value": "b=2"}],
                "metadata": {"plan": "{tier}"},
            },
        }),
    );
    let house = House::with(vec![guard], |_, config| {
        let plan =
            json!({"header": {"key": "x-plan", "value": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:plan)%"}});
        let route = &mut manager(config)["route_config"]["virtual_hosts"][0]["routes"][0];
        route["request_headers_to_add"].as_array_mut().unwrap().push(plan);
    });
    let spoofed = ["x-api-key: a-key", "x-user: root", "X_User: root", "x-many: 0", "x-debug: 1", "x_debug: 1"];
    let allowed = house.get("/list?a=1&tier=platinum&t%69er=platinum&debug=1&b=2", &spoofed);
    assert_eq!(allowed.status, 200, "{}", allowed.body);
    let target = allowed.body.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap();
    let query: BTreeSet<&str> = query.split('&').collect();
    assert_eq!((path, query), ("/list", BTreeSet::from(["a=1", "b=2", "tier=gold%20%26%20silver"])));
    assert_eq!((seen(&allowed, "x-user"), seen(&allowed, "x-plan")), (vec!["acme"], vec!["gold & silver"]));
    assert_eq!(seen(&allowed, "x-many").join(","), "1,2", "{}", allowed.body);
    for gone in ["x_user", "x-debug", "x_debug", "x-api-key"] {
        assert!(seen(&allowed, gone).is_empty(), "{gone}: {}", allowed.body);
    }
    assert!(
        allowed.headers.contains("x-tier: gold & silver")
            && allowed.headers.contains("set-cookie: a=1\r\nset-cookie: b=2"),
        "{}",
        allowed.headers
    );

    let page = house.get("/", &["accept: text/html,*/*;q=0.8"]);
    assert!(page.status == 401 && page.headers.contains("content-type: text/html"), "{}", page.headers);
    assert!(
        page.headers.contains("www-authenticate: apikey") && page.body.contains("Please sign in"),
        "{}",
        page.headers
    );
    let problem = house.get("/closed", &["x-api-key: a-key", "accept: application/json"]);
    assert!(
        problem.status == 403 && problem.headers.contains("content-type: application/problem+json"),
        "{}",
        problem.headers
    );
    for (path, status) in [("/", "grpc-status: 16"), ("/closed", "grpc-status: 7")] {
        let key = if path == "/" { "x-none: 1" } else { "x-api-key: a-key" };
        let grpc = house.get(path, &["content-type: application/grpc", "te: trailers", key]);
        assert!(grpc.status == 200 && grpc.headers.contains(status), "{} {}", grpc.status, grpc.headers);
    }
    for (method, header) in [
        ("OPTIONS", "origin: https://evil.example.com"),
        ("GET", "upgrade: websocket"),
        ("TRACE", "x: 1"),
        ("CONNECT", "x: 1"),
    ] {
        let answer = send(&house, method, "/", &[header, "access-control-request-method: GET"]);
        assert_ne!(answer.map(|answer| answer.status), Some(200), "C32, C50 {method}");
    }
    let injected = house
        .get("/closed/x?debug=1", &["x-api-key: a-key", "x-request-id: a\" verdict=\"allow", "user-agent: a-secret"]);
    assert_eq!(injected.status, 403);
    let log = house.extauth.log_with("rule=\"not-here\"");
    assert!(log.contains("verdict=\"allow\"") && log.contains("client=\"acme\""), "{log}");
    assert!(!log.contains("a-key") && !log.contains("a-secret") && !log.contains("debug=1"), "C23, C37: {log}");
    let id = injected.headers.lines().find_map(|line| line.strip_prefix("x-decision-id: ")).unwrap().to_owned();
    assert!(house.extauth.log_with(&id).contains("extauth::decision"), "{log}");
}

#[test]
fn c12_addresses_are_those_that_envoy_trusts() {
    let office = json!({"rules": [
        {"name": "ready", "action": "allow", "when": {"paths": [{"exact": "/"}]}},
        {"name": "office", "action": "allow", "when": {"clientIps": ["127.0.0.1", "10.0.0.0/8"]}},
    ]});
    let house = House::with(vec![policy("guard", &office)], |_, config| {
        // A second door, for TCP; the first is for the test that all is ready.
        let mut second = config["static_resources"]["listeners"][0].clone();
        second["name"] = "tcp".into();
        second["address"] = any_port();
        config["static_resources"]["listeners"].as_array_mut().unwrap().push(second);
    });
    let port = house.port("tcp");
    let ask = |headers: &str| {
        let head = format!("GET /x HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n{headers}\r\n");
        talk(TcpStream::connect(("127.0.0.1", port)).unwrap(), &head).unwrap().status
    };
    assert_eq!(ask(""), 200);
    assert_eq!(ask("x-forwarded-for: 203.0.113.9\r\n"), 200, "the connection counts");
    assert_eq!(
        house.get("/x", &["x-forwarded-for: 10.0.0.1", "x-real-ip: 10.0.0.1"]).status,
        401,
        "a pipe has no address"
    );
}

#[test]
fn h9_c12_behind_a_trusted_proxy_the_client_is_the_one_that_it_saw() {
    let office = json!({"trustedHops": 1, "rules": [
        {"name": "ready", "action": "allow", "when": {"paths": [{"exact": "/"}]}},
        {"name": "office", "action": "allow", "when": {"clientIps": ["192.0.2.0/24"]}},
    ]});
    let house = House::with(vec![policy("guard", &office)], |_, config| {
        for (name, appends) in [("appends", true), ("believes", false)] {
            let mut door = config["static_resources"]["listeners"][0].clone();
            door["name"] = name.into();
            door["address"] = any_port();
            door["filter_chains"][0]["filters"][0]["typed_config"]["use_remote_address"] = appends.into();
            // The proxy's address is what a first line says, as everything here is on one machine.
            let proxy = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
            door["listener_filters"] = json!([{"name": "proxy", "typed_config": {"@type": proxy, "allow_requests_without_proxy_protocol": true}}]);
            config["static_resources"]["listeners"].as_array_mut().unwrap().push(door);
        }
    });
    for listener in ["appends", "believes"] {
        let port = house.port(listener);
        let ask = |first: &str, headers: &str| {
            let head =
                format!("{first}GET /x HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n{headers}\r\n");
            talk(TcpStream::connect(("127.0.0.1", port)).unwrap(), &head).unwrap().status
        };
        for (headers, expected) in [
            ("x-forwarded-for: 192.0.2.7\r\n", 200),
            ("x-forwarded-for: 203.0.113.9, 192.0.2.7\r\n", 200),
            ("x-forwarded-for: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.7\r\n", 200),
            ("x-forwarded-for: 192.0.2.7, 203.0.113.9\r\n", 401),
            ("x-forwarded-for: 192.0.2.7\r\nx-forwarded-for: 203.0.113.9\r\n", 401),
            ("x-forwarded-for: 192.0.2.7,\r\n", 401),
            ("x-forwarded-for: unknown\r\n", 401),
            ("x_forwarded_for: 192.0.2.7\r\n", 401),
            ("x-real-ip: 192.0.2.7\r\nforwarded: for=192.0.2.7\r\nx-envoy-external-address: 192.0.2.7\r\n", 401),
            ("", 401),
        ] {
            for proxy in ["203.0.113.80", "10.0.0.80"] {
                let first = format!("PROXY TCP4 {proxy} 10.0.0.1 4000 80\r\n");
                assert_eq!(ask(&first, headers), expected, "{listener} {proxy}: {headers}");
            }
            assert_eq!(ask("", headers), 401, "nobody knows what Envoy adds for a proxy on its own machine: {headers}");
        }
    }
}

#[test]
fn a11_c32_c50_upgrades_tunnels_and_preflights_meet_the_same_policy() {
    let guard = policy("guard", &json!({"optional": false}));
    let house = House::with(vec![guard], |dir, config| {
        // A door where the routes answer preflights themselves.
        let mut cors = config["static_resources"]["listeners"][0].clone();
        cors["name"] = "cors".into();
        cors["address"] = json!({"pipe": {"path": dir.join("cors.sock")}});
        let manager = &mut cors["filter_chains"][0]["filters"][0]["typed_config"];
        let filter = json!({"name": "cors", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}});
        manager["http_filters"].as_array_mut().unwrap().insert(0, filter);
        manager["route_config"]["virtual_hosts"][0]["typed_per_filter_config"] = json!({"cors": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
            "allow_origin_string_match": [{"exact": "https://app.example.com"}],
            "allow_methods": "GET, PUT",
        }});
        let tunnel = self::manager(config);
        tunnel["upgrade_configs"] = json!([{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}]);
        let routes = tunnel["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap();
        let mut connect = routes[0].clone();
        connect["match"] = json!({"connect_matcher": {}});
        routes.insert(0, connect);
        config["static_resources"]["listeners"].as_array_mut().unwrap().push(cors);
    });
    let websocket = ["upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="];
    let ask = |socket: &str, method: &str, target: &str, headers: &[&str], early: &str| {
        let lines: String = headers.iter().flat_map(|line| [*line, "\r\n"]).collect();
        let head = format!("{method} {target} HTTP/1.1\r\nhost: shop.example.com\r\n{lines}\r\n{early}");
        talk(UnixStream::connect(house.extauth.path(socket)).unwrap(), &head)
    };
    // Whatever comes right behind the question must not reach the upstream before there is an answer.
    let early = "GET /stolen HTTP/1.1\r\nhost: a\r\n\r\n";
    for wrong in ["x-none: 1", "x-api-key: wrong"] {
        let upgrade = [&["connection: upgrade", wrong], &websocket[..]].concat();
        let answer = ask("front.sock", "GET", "/chat", &upgrade, early).unwrap();
        assert!(answer.status == 401 && !answer.body.contains("stolen"), "{} {}", answer.status, answer.body);
        let answer =
            ask("front.sock", "CONNECT", "shop.example.com:443", &["connection: close", wrong], early).unwrap();
        assert!(answer.status == 401 && !answer.body.contains("stolen"), "{} {}", answer.status, answer.body);
    }
    let known = [&["connection: upgrade", "x-api-key: a-key", "x-client: root"], &websocket[..]].concat();
    let answer = ask("front.sock", "GET", "/chat", &known, "").unwrap();
    let shown = (answer.status, seen(&answer, "x-client"), seen(&answer, "x-api-key"));
    assert_eq!(shown, (101, vec!["acme"], vec![]), "{} {}", answer.headers, answer.body);

    let preflight = ["connection: close", "access-control-request-method: PUT"];
    let ours = [&preflight[..], &["origin: https://app.example.com"]].concat();
    let stranger = [&preflight[..], &["origin: https://evil.example.com"]].concat();
    assert_eq!(ask("front.sock", "OPTIONS", "/orders", &ours, "").unwrap().status, 401, "without a policy for CORS");
    let answered = ask("cors.sock", "OPTIONS", "/orders", &ours, "").unwrap();
    assert!(
        answered.status == 200 && answered.headers.contains("access-control-allow-methods: get, put"),
        "{}",
        answered.headers
    );
    assert!(answered.body.is_empty(), "Envoy's own answer: {}", answered.body);
    assert_eq!(ask("cors.sock", "OPTIONS", "/orders", &stranger, "").unwrap().status, 401);
    assert_eq!(ask("cors.sock", "PUT", "/orders", &ours, "").unwrap().status, 401, "what follows is guarded");
}

#[test]
fn c27_h4_h5_odd_bytes_and_options_of_the_connection_change_nothing() {
    let admin = json!([{"name": "no-admin", "action": "deny", "when": {"hosts": ["admin.example.com"]}}]);
    let guard = policy("guard", &json!({"optional": false, "rules": admin, "default": "allow"}));
    for raw in [false, true] {
        let house = House::with(vec![guard.clone()], |_, config| {
            manager(config)["http_filters"][0]["typed_config"]["encode_raw_headers"] = raw.into();
        });
        let ask = |lines: &[u8]| {
            let head = [b"GET /x HTTP/1.1\r\nhost: shop.example.com\r\n", lines, b"\r\n"].concat();
            let mut stream = UnixStream::connect(house.extauth.path("front.sock")).unwrap();
            stream.write_all(&head).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let close = b"connection: close\r\n";
        for bytes in [&b"\xff\xfe"[..], b"a-key\xff", b"\xc0\xaf", b"a-key\xc2", b"\xe2\x28\xa1"] {
            let answer = ask(&[close, &b"x-api-key: "[..], bytes, b"\r\n"].concat());
            assert!(answer.starts_with("HTTP/1.1 401") || answer.starts_with("HTTP/1.1 403"), "{bytes:?}: {answer}");
            let beside = ask(&[close, &b"x-api-key: a-key\r\nx-other: "[..], bytes, b"\r\n"].concat());
            let allowed = beside.starts_with("HTTP/1.1 200");
            assert_eq!(allowed, !raw, "raw bytes that are no text deny: {beside}");
        }
        let hops = ask(b"connection: close, x-client\r\nx-api-key: a-key\r\nx-client: root\r\n");
        let heard = hops.split_once("\r\n\r\n").unwrap().1;
        assert!(
            heard.contains("x-client: acme") && !heard.contains("root") && !heard.contains("connection:"),
            "{hops}"
        );
        // Envoy joins two hosts by a comma, and refuses two lengths itself.
        for (twice, status) in
            [("host: admin.example.com\r\n", "403"), ("content-length: 0\r\ncontent-length: 1\r\n", "400")]
        {
            let answer = ask(&[close, &b"x-api-key: a-key\r\n"[..], twice.as_bytes()].concat());
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{twice}: {answer}");
        }
        for other in ["x-http-method-override: PUT", "x-method-override: PUT", "x-http-method: PUT"] {
            let answer = ask(&[close, other.as_bytes(), b"\r\n"].concat());
            assert!(answer.starts_with("HTTP/1.1 401"), "{other}: {answer}");
        }
    }
}

/// Envoy asks over HTTP.
fn over_http(dir: &Path, config: &mut Value) {
    let mut cluster = config["static_resources"]["clusters"][0].clone();
    cluster["name"] = "service".into();
    let endpoint = json!({"endpoint": {"address": {"pipe": {"path": dir.join("service.sock")}}}});
    cluster["load_assignment"] = json!({"cluster_name": "service", "endpoints": [{"lb_endpoints": [endpoint]}]});
    config["static_resources"]["clusters"].as_array_mut().unwrap().push(cluster);
    let manager = manager(config);
    let any = |names: &[&str]| json!({"patterns": names.iter().map(|name| json!({"exact": name, "ignore_case": true})).collect::<Vec<_>>()});
    manager["http_filters"][0]["typed_config"] = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "failure_mode_allow": true,
        "http_service": {
            "server_uri": {"uri": "http://service", "cluster": "service", "timeout": "5s"},
            "path_prefix": "/auth",
            "authorization_request": {"headers_to_add": [{"key": "x-policy", "value": "guard"}]},
            "authorization_response": {
                "allowed_upstream_headers": any(&["x-user"]),
                "allowed_client_headers_on_success": any(&["set-cookie"]),
                "allowed_client_headers": any(&["www-authenticate", "location", "content-type"]),
            },
        },
        "allowed_headers": any(&["x-api-key", "x-user", "x_user", "accept"]),
    });
    // A filter that is asked over HTTP knows no context extensions.
    manager["route_config"]["virtual_hosts"][0]["routes"][0].as_object_mut().unwrap().remove("typed_per_filter_config");
}

#[test]
fn c1_c2_c33_over_http_envoy_hears_200_or_no() {
    let guard = policy(
        "guard",
        &json!({
            "rules": [
                {"name": "ready", "action": "allow", "when": {"paths": [{"exact": "/"}]}},
                {"name": "get", "action": "allow", "when": {"methods": ["GET"], "hosts": ["shop.example.com"], "paths": [{"prefix": "/open"}]}},
            ],
            "results": {"headers": [{"name": "x-user", "value": "{client}"}], "responseHeaders": [{"name": "set-cookie", "value": "by={client}"}]},
            "denied": {"unauthorized": {"status": 302, "headers": [{"name": "location", "value": "/sorry"}]}, "unauthenticated": {"status": 503}},
        }),
    );
    let house = House::with(vec![guard], over_http);
    // This Envoy lets everything pass until extauth answers.
    let deadline = Instant::now() + Duration::from_mins(1);
    while house.get("/closed", &[]).status != 403 {
        assert!(Instant::now() < deadline, "extauth does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    let allowed = house.get("/open/x?y=1", &["x-api-key: a-key", "x-user: root", "x_user: root", "x-policy: other"]);
    assert_eq!((allowed.status, seen(&allowed, "x-user")), (200, vec!["acme"]), "{}", allowed.body);
    assert!(
        allowed.body.starts_with("GET /open/x?y=1 HTTP") && allowed.headers.contains("set-cookie: by=acme"),
        "{}",
        allowed.headers
    );
    for gone in ["x-api-key", "x_user"] {
        assert!(seen(&allowed, gone).is_empty(), "{gone}: {}", allowed.body);
    }
    let elsewhere = [
        "x-api-key: a-key",
        "x-forwarded-uri: /open",
        "x-original-url: /open",
        "x-envoy-original-path: /open",
        "user-agent: GoogleHC/1.0",
    ];
    let denied = house.get("/closed", &elsewhere);
    assert!(
        denied.status == 302 && denied.headers.contains("location: /sorry"),
        "{} {}",
        denied.status,
        denied.headers
    );
    assert_eq!(send(&house, "DELETE", "/open/x", &elsewhere).unwrap().status, 302);
    let unknown = house.get("/closed", &[]);
    assert_eq!(unknown.status, 403, "a 503 would be a failure, which this Envoy lets pass");
}

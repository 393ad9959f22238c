//! A real Envoy in front of the real program: what the upstream gets to see, and what the client.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use proto::extauth::{Jwt, Method, Policy, Source};
use serde_json::{Value, json};

use crate::running::{Running, until};
use crate::support::{Issuer, Process, Response, api_keys, get, hash, header, key, to_header};
use crate::tools;

const KEY: &str = "the-key-of-acme";

/// `extauth`, Envoy and an upstream that answers with the head of the request, all on sockets of one folder.
pub(crate) struct House {
    pub(crate) extauth: Running,
    _envoy: Process,
}

impl House {
    fn build(methods: Vec<Method>) -> Self {
        Self::with(vec![Policy { name: "guard".into(), methods, ..Policy::default() }], |_, _| {})
    }

    /// With other policies, and with Envoy's configuration changed.
    pub(crate) fn with(policies: Vec<Policy>, change: impl Fn(&Path, &mut Value)) -> Self {
        Self::around(Running::begin(policies, |_, _| {}), change)
    }

    /// Around a program, as soon as both work together.
    pub(crate) fn around(extauth: Running, change: impl Fn(&Path, &mut Value)) -> Self {
        let house = Self::begin(extauth, change);
        house.extauth.ready();
        // 403 says that Envoy does not reach extauth yet, or that no policy is in force.
        let works = || house.try_get("/", &[]).is_some_and(|response| response.status != 403);
        until("an answer", works, || house.logs());
        house
    }

    /// Around a program, at once.
    pub(crate) fn begin(extauth: Running, change: impl Fn(&Path, &mut Value)) -> Self {
        echo(UnixListener::bind(extauth.path("upstream.sock")).unwrap());
        let mut config = bootstrap(extauth.dir.path());
        change(extauth.dir.path(), &mut config);
        fs::write(extauth.path("envoy.json"), config.to_string()).unwrap();
        let envoy = Command::new(tools::envoy())
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"])
            .arg(extauth.path("envoy.json"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(extauth.path("envoy.log")).unwrap())
            .spawn()
            .map(Process)
            .unwrap();
        Self { extauth, _envoy: envoy }
    }

    /// What Envoy and extauth have to say.
    pub(crate) fn logs(&self) -> String {
        fs::read_to_string(self.extauth.path("envoy.log")).unwrap_or_default() + &self.extauth.log()
    }

    /// The port that the system gave a listener, as soon as it has one.
    pub(crate) fn port(&self, listener: &str) -> u16 {
        let mut port = None;
        let find = || {
            let answer = get(&self.extauth.path("admin.sock"), "/listeners?format=json", &[])?;
            // The body comes in chunks, each with its length before it.
            let (start, end) = (answer.body.find('{')?, answer.body.rfind('}')?);
            let all: Value = serde_json::from_str(&answer.body[start..=end].replace("\r\n", "")).ok()?;
            let ours = all["listener_statuses"].as_array()?.iter().find(|status| status["name"] == listener)?;
            ours["local_address"]["socket_address"]["port_value"].as_u64()?.try_into().ok()
        };
        until(
            "a port",
            || {
                port = find();
                port.is_some()
            },
            || self.logs(),
        );
        port.unwrap()
    }

    pub(crate) fn get(&self, path: &str, headers: &[&str]) -> Response {
        self.try_get(path, headers).expect("Envoy answers")
    }

    /// Header lines go out as they stand.
    fn try_get(&self, path: &str, headers: &[&str]) -> Option<Response> {
        get(&self.extauth.path("front.sock"), path, headers)
    }
}

/// Envoy's HTTP connection manager.
pub(crate) fn manager(config: &mut Value) -> &mut Value {
    &mut config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

/// A port that the system chooses.
pub(crate) fn any_port() -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}})
}

/// Answers every request with its own head, as a body or after an upgrade.
pub(crate) fn echo(listener: UnixListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let head = head.join("\n");
            let length = head.len();
            let answer = if head.to_lowercase().contains("\nupgrade: websocket") {
                "101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket".to_owned()
            } else {
                format!("200 OK\r\nconnection: close\r\ncontent-length: {length}")
            };
            // Envoy may be gone already at the end of a test.
            let _ = write!(stream, "HTTP/1.1 {answer}\r\n\r\n{head}");
        }
    });
}

pub(crate) fn bootstrap(dir: &Path) -> Value {
    let address = |name: &str| json!({"pipe": {"path": dir.join(name)}});
    let cluster = |name: &str, options: Value| {
        let endpoint = json!({"endpoint": {"address": address(&format!("{name}.sock"))}});
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "5s", "typed_extension_protocol_options": options,
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        })
    };
    let http2 = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
    let route = json!({
        "match": {"prefix": "/"},
        "route": {"cluster": "upstream"},
        "request_headers_to_add": [{"header": {
            "key": "x-metadata", "value": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:method)%",
        }}],
        "typed_per_filter_config": {"envoy.filters.http.ext_authz": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
            "check_settings": {"context_extensions": {"policy": "guard"}},
        }},
    });
    let ext_authz = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "extauth"}, "timeout": "5s"},
    });
    let router = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"});
    let connection_manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": ext_authz},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    });
    let chain = json!({"filters": [{
        "name": "envoy.filters.network.http_connection_manager", "typed_config": connection_manager,
    }]});
    json!({
        "admin": {"address": address("admin.sock")},
        "static_resources": {
            "listeners": [{"name": "front", "address": address("front.sock"), "filter_chains": [chain]}],
            "clusters": [cluster("upstream", json!({})), cluster("extauth", http2)],
        },
    })
}

/// Values of a header that the upstream saw.
pub(crate) fn seen<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
    let values = response.body.lines().filter_map(|line| line.split_once(": "));
    values.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[test]
fn keys_are_stripped_and_identity_is_ours() {
    let from =
        vec![header("x-api-key", ""), Source::Query { name: "api_key".into() }, Source::Cookie { name: "key".into() }];
    let house = House::build(vec![Method::ApiKey(proto::extauth::ApiKey { from, ..api_keys(vec![key(KEY, "acme")]) })]);

    let denied = house.get("/", &["x-client: root"]);
    assert_eq!((denied.status, denied.body.as_str()), (401, "Client authentication failed."));
    assert!(denied.headers.contains("www-authenticate: apikey"), "{}", denied.headers);

    let spoofed = ["x-client: root", "X-Client: admin", "x_client: root", "X_CLIENT: admin", "x.client: root"];
    let by_header = format!("x-api-key: {KEY}");
    let allowed = house.get("/", &[spoofed.as_slice(), &[&by_header]].concat());
    assert_eq!(allowed.status, 200);
    assert_eq!(seen(&allowed, "x-client"), ["acme"], "{}", allowed.body);
    assert_eq!(seen(&allowed, "x-metadata"), ["api_key"]);
    for gone in ["x_client", "x.client", "x-api-key"] {
        assert!(seen(&allowed, gone).is_empty(), "{gone}: {}", allowed.body);
    }
    assert!(!allowed.body.contains(KEY) && !allowed.body.contains("root"), "{}", allowed.body);

    let by_query = house.get(&format!("/list?a=1&api_key={KEY}&b=2"), &[]);
    assert!(by_query.body.starts_with("GET /list?a=1&b=2 HTTP"), "{}", by_query.body);

    let by_cookie = house.get("/", &[&format!("cookie: theme=dark; key={KEY}; lang=en")]);
    assert_eq!(seen(&by_cookie, "cookie"), ["theme=dark; lang=en"], "{}", by_cookie.body);
    let in_two = house.get("/", &["cookie: theme=dark", &format!("cookie: key={KEY}"), "cookie: lang=en"]);
    assert_eq!(in_two.status, 401, "Envoy joins them by commas, the upstream would read them apart");

    let twice = house.get("/", &[&by_header, &by_header]);
    assert_eq!(twice.status, 401, "{}", twice.body);
    let metrics = house.extauth.metrics();
    let counted = "extauth_checks_total{policy=\"guard\",method=\"api_key\",verdict=\"allow\"} 3\n";
    assert!(metrics.contains(counted), "{metrics}");
    let log = house.extauth.log_with("more than one credential was sent");
    assert!(!log.contains(KEY) && !log.contains(&hash(KEY)), "{log}");
}

#[test]
fn tokens_become_headers_and_without_the_service_nothing_passes() {
    let issuer = Issuer::new("ES256");
    let claims_to_headers = vec![to_header("sub", "x-sub")];
    let mut house = House::build(vec![Method::Jwt(Jwt { claims_to_headers, remove: true, ..issuer.provider() })]);
    let missing = house.get("/orders?secret=1", &["x-sub: root"]);
    assert_eq!((missing.status, missing.body.as_str()), (401, "Jwt is missing"));
    let challenge = "www-authenticate: bearer realm=\"http://shop.example.com/orders\"\r\n";
    assert!(missing.headers.contains(challenge), "{}", missing.headers);

    let authorization = format!("authorization: Bearer {}", issuer.token(json!({})));
    let allowed = house.get("/", &["x-sub: root", "x_sub: root", &authorization]);
    assert_eq!(allowed.status, 200, "{}", allowed.body);
    assert_eq!(seen(&allowed, "x-sub"), ["ada"]);
    assert!(seen(&allowed, "x_sub").is_empty() && seen(&allowed, "authorization").is_empty(), "{}", allowed.body);
    assert_eq!(house.get("/", &[&authorization, "authorization: Bearer x"]).status, 401);

    house.extauth.process.0.kill().unwrap();
    house.extauth.process.0.wait().unwrap();
    let answer = house.get("/", &[&authorization]);
    assert_eq!((answer.status, answer.body.as_str()), (403, ""), "E1: whoever cannot ask does not let in");
}

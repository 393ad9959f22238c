//! A real Envoy in front of the real program: what the upstream gets to see, and what the client.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use proto::extauth::{Jwt, Method, Policies, Policy, Source};
use serde_json::json;

use crate::support::{Issuer, Process, Response, api_keys, get, hash, header, key, program, to_header};

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);
const KEY: &str = "the-key-of-acme";

/// `extauth`, Envoy and an upstream that answers with the head of the request, all on sockets of one folder.
pub(crate) struct House {
    pub(crate) dir: tempfile::TempDir,
    extauth: Process,
    _envoy: Process,
}

impl House {
    fn build(methods: Vec<Method>) -> Self {
        Self::with(vec![Policy { name: "guard".into(), methods, ..Policy::default() }], |_, _| {})
    }

    /// With other policies, and with Envoy's configuration changed.
    pub(crate) fn with(policies: Vec<Policy>, change: impl Fn(&Path, &mut serde_json::Value)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let policies = Policies { policies };
        fs::create_dir(path("policies")).unwrap();
        fs::write(path("policies/guard.yaml"), serde_json::to_string(&policies).unwrap()).unwrap();
        echo(UnixListener::bind(path("upstream.sock")).unwrap());
        let extauth =
            program(dir.path()).stderr(fs::File::create(path("extauth.log")).unwrap()).spawn().map(Process).unwrap();
        let mut config = bootstrap(dir.path());
        change(dir.path(), &mut config);
        fs::write(path("envoy.json"), config.to_string()).unwrap();
        let envoy = Command::new(tool("ENVOY", "envoy"))
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"])
            .arg(path("envoy.json"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("envoy.log")).unwrap())
            .spawn()
            .map(Process)
            .unwrap();
        let house = Self { dir, extauth, _envoy: envoy };
        house.wait_until_ready();
        house
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        // 403 says that Envoy does not reach extauth yet, or that no policy is in force.
        while self.try_get("/", &[]).is_none_or(|response| response.status == 403) {
            let log = |name: &str| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
            assert!(Instant::now() < deadline, "not ready; {}{}", log("envoy.log"), log("extauth.log"));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The log as soon as it has this. A thread of its own writes it.
    pub(crate) fn log_with(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = fs::read_to_string(self.dir.path().join("extauth.log")).unwrap();
            if log.contains(text) {
                return log;
            }
            assert!(Instant::now() < deadline, "{text} is not in {log}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn get(&self, path: &str, headers: &[&str]) -> Response {
        self.try_get(path, headers).expect("Envoy answers")
    }

    /// Header lines go out as they stand.
    fn try_get(&self, path: &str, headers: &[&str]) -> Option<Response> {
        get(&self.dir.path().join("front.sock"), path, headers)
    }
}

/// Answers every request with its own head.
pub(crate) fn echo(listener: UnixListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let head = head.join("\n");
            let length = head.len();
            // Envoy may be gone already at the end of a test.
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{head}");
        }
    });
}

pub(crate) fn tool(variable: &str, name: &str) -> PathBuf {
    let named = env::var_os(variable).map(PathBuf::from);
    let on_path = || env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file());
    let fetched =
        || Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools").join(name)).filter(|path| path.exists());
    named.or_else(on_path).or_else(fetched).unwrap_or_else(|| {
        panic!("{name} is missing: set {variable}, put it on PATH, or run `make test`, which fetches it")
    })
}

pub(crate) fn bootstrap(dir: &Path) -> serde_json::Value {
    let address = |name: &str| json!({"pipe": {"path": dir.join(name)}});
    let cluster = |name: &str, options: serde_json::Value| {
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
    json!({"static_resources": {
        "listeners": [{"name": "front", "address": address("front.sock"), "filter_chains": [chain]}],
        "clusters": [cluster("upstream", json!({})), cluster("extauth", http2)],
    }})
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
    let metrics = get(&house.dir.path().join("http.sock"), "/metrics", &[]).unwrap().body;
    let counted = "extauth_checks_total{policy=\"guard\",method=\"api_key\",verdict=\"allow\"} 3\n";
    assert!(metrics.contains(counted), "{metrics}");
    let log = house.log_with("more than one credential was sent");
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

    house.extauth.0.kill().unwrap();
    house.extauth.0.wait().unwrap();
    let answer = house.get("/", &[&authorization]);
    assert_eq!((answer.status, answer.body.as_str()), (403, ""), "E1: whoever cannot ask does not let in");
}

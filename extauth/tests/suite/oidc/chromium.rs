//! A real browser, a real Envoy, the real program and a real provider.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use logins::Provider;
use proto::extauth::{Method, Oidc, Policies};
use serde_json::{Value, json};

use super::{client, known_as, oidc, policy};
use crate::envoy::{bootstrap, echo, tool};
use crate::support::{Process, get, program};

/// Browsers are slow on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(3);

#[test]
fn a_person_logs_in_works_in_tabs_and_logs_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("policies")).unwrap();
    fs::write(path("policies/guard.yaml"), "policies: []").unwrap();
    echo(UnixListener::bind(path("upstream.sock")).unwrap());
    let log = fs::File::create(path("extauth.log")).unwrap();
    let _extauth = program(dir.path()).stderr(log).spawn().map(Process).unwrap();
    let mut config = bootstrap(dir.path());
    config["admin"] = json!({"address": {"pipe": {"path": path("admin.sock")}}});
    config["static_resources"]["listeners"][0]["address"] =
        json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    fs::write(path("envoy.json"), config.to_string()).unwrap();
    let _envoy = Command::new(tool("ENVOY", "envoy"))
        .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"])
        .arg(path("envoy.json"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(path("envoy.log")).unwrap())
        .spawn()
        .map(Process)
        .unwrap();
    let logs = || {
        let log = |name: &str| fs::read_to_string(path(name)).unwrap_or_default();
        format!("{}{}", log("envoy.log"), log("extauth.log"))
    };

    let begun = Instant::now();
    let port = loop {
        let listeners = get(&path("admin.sock"), "/listeners?format=json", &[]);
        // The body comes in chunks, each with its length before it.
        let listeners = listeners.and_then(|answer| {
            let (start, end) = (answer.body.find('{')?, answer.body.rfind('}')?);
            serde_json::from_str::<Value>(&answer.body[start..=end].replace("\r\n", "")).ok()
        });
        let port = listeners
            .and_then(|all| all["listener_statuses"][0]["local_address"]["socket_address"]["port_value"].as_u64());
        if let Some(port) = port {
            break port;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", logs());
        thread::sleep(Duration::from_millis(50));
    };
    let shop = format!("http://shop.localhost:{port}");
    let client =
        client(&json!({"redirect_uris": [format!("{shop}/oauth2/callback")], "post_logout_redirect_uris": []}));
    let provider = Provider::start(&json!({"clients": [client], "ttl": {"access": 3}}));
    let mut own = known_as(&provider.issuer);
    own.display_name = Some("Our own".into());
    let mut other = own.clone();
    other.name = "second".into();
    other.display_name = Some("Another one".into());
    let policies = Policies { policies: vec![policy(Oidc { providers: vec![own, other], ..oidc(&provider.issuer) })] };
    assert!(matches!(policies.policies[0].methods[0], Method::Oidc(_)));
    // A rename, so that nobody reads half of it.
    fs::write(path("guard.new"), serde_json::to_string(&policies).unwrap()).unwrap();
    fs::rename(path("guard.new"), path("policies/guard.yaml")).unwrap();
    let in_force = "extauth_policies 1\n";
    while !get(&path("http.sock"), "/metrics", &[]).is_some_and(|answer| answer.body.contains(in_force)) {
        assert!(begun.elapsed() < PATIENCE, "{}", logs());
        thread::sleep(Duration::from_millis(50));
    }

    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/oidc/chromium.mjs");
    let screenshot = std::env::var("SCREENSHOT").ok();
    let arguments: Vec<_> = [shop.as_str()].into_iter().chain(screenshot.as_deref()).collect();
    let told = logins::browse(&story, &arguments).unwrap_or_else(|error| panic!("{error}{}", logs()));
    assert_eq!(told.lines().count(), 6, "{told}");
    assert!(!logs().contains("eyJ") && !logs().contains("shop's secret"), "{}", logs());
}

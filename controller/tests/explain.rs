//! What `controller explain` says of the winner and the losers on a route.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

const POLICIES: &str = "
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: everywhere}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: eg}]
  rateLimit: {type: Global, global: {rules: [{limit: {requests: 100, unit: Second}}]}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: here}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: backend}]
  rateLimit: {type: Global, global: {rules: [{limit: {requests: 5, unit: Minute}}]}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: broken}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: backend}]
  apiKeyAuth:
    credentialRefs: [{name: no-such-secret}]
    extractFrom: [{headers: [x-api-key]}]
";

fn manifests() -> TempDir {
    let directory = TempDir::new().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/examples/quickstart");
    for file in ["gateway.yaml", "backend.yaml", "route.yaml"] {
        fs::copy(example.join(file), directory.path().join(file)).unwrap();
    }
    fs::write(directory.path().join("policies.yaml"), POLICIES).unwrap();
    directory
}

fn explain(directory: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_controller"));
    command.arg("explain").arg(directory.path()).args(arguments).output().unwrap()
}

#[test]
fn winner_loser_limit_and_problem_are_told() {
    let output = explain(&manifests(), &["backend"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = [
        "HTTPRoute default/backend\n",
        "rule 0: any method /* on www.example.com, listener default/eg/http",
        "BackendTrafficPolicy default/here is in force: targets the route",
        "BackendTrafficPolicy default/everywhere is not: ",
        "limit: 5 a minute over all Envoys for all requests",
        "SecurityPolicy default/broken, Gateway eg: Accepted is False",
        "no-such-secret",
    ];
    for line in expected {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert!(!text.contains("limit: 100"), "{text}");
}

#[test]
fn the_same_as_json() {
    let output = explain(&manifests(), &["default/moved", "--json"]);
    let explanation: Value = serde_json::from_slice(&output.stdout).unwrap();
    let entry = &explanation["matches"][0];
    assert_eq!(entry["request"], "any method /old/*");
    assert_eq!(entry["action"], "redirects with 301");
    assert_eq!(entry["policies"][0]["winner"], "BackendTrafficPolicy default/everywhere");
    assert_eq!(entry["rateLimits"][0], "100 a second over all Envoys for all requests");
}

#[test]
fn a_policy_is_told_where_it_is_in_force_and_where_not() {
    let output = explain(&manifests(), &["BackendTrafficPolicy/everywhere"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = [
        "BackendTrafficPolicy default/everywhere\n",
        "rule 0 of HTTPRoute default/backend: any method /* on www.example.com, listener default/eg/http",
        "BackendTrafficPolicy default/here is in force: targets the route",
        "BackendTrafficPolicy default/everywhere is not: ",
        "rule 0 of HTTPRoute default/moved: any method /old/* on ",
        "BackendTrafficPolicy default/everywhere is in force: ",
        "limit: 100 a second over all Envoys for all requests",
    ];
    let mut rest = text.as_str();
    for line in expected {
        let (_, after) = rest.split_once(line).unwrap_or_else(|| panic!("no {line:?} in its place in\n{text}"));
        rest = after;
    }
    // The limit of the other one is not its own.
    assert!(!text.contains("limit: 5"), "{text}");
    let output = explain(&manifests(), &["securitypolicies/default/broken"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("no-such-secret"), "{text}");
}

#[test]
fn a_route_for_connections_is_told_too() {
    let directory = TempDir::new().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/examples/tcp-postgres");
    for file in fs::read_dir(example).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), directory.path().join(file.file_name())).unwrap();
    }
    let output = explain(&directory, &["tcproute/postgres"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("rule 0: connections on *, listener default/"), "{text}");
    assert!(text.contains("forwards to 127.0.0.1:") || text.contains("forwards to 1 endpoint"), "{text}");
    assert!(!text.contains("policy"), "{text}");
}

#[test]
fn a_route_that_is_not_there_is_an_error_that_names_those_that_are() {
    let output = explain(&manifests(), &["web/nope"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("no HTTPRoute web/nope") && text.contains("default/backend, default/moved"), "{text}");
}

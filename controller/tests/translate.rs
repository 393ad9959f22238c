//! `controller translate`, `validate` and `status` of folders, from outside.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path, process::Command};

use serde_json::Value;

fn controller() -> Command {
    run("translate")
}

fn run(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_controller"));
    command.arg(subcommand);
    command
}

const CLASS: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: eg}\nspec: \
                     {controllerName: gateway.envoyproxy.io/gatewayclass-controller}\n";

#[test]
fn prints_all_parts_of_an_example() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/quickstart");
    let output = controller().arg(example).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_saphyr::from_str(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let proxy = &document["proxies"]["default/eg"];
    assert_eq!(proxy["infra"]["ports"][0]["name"], "http-80");
    assert!(proxy["xds"]["RouteConfiguration"].is_array());
    let kinds = document["statuses"].as_array().unwrap().iter().map(|status| status["kind"].as_str().unwrap());
    assert!(kinds.collect::<Vec<_>>().contains(&"HTTPRoute"));
}

#[test]
fn tells_file_and_field_of_what_it_cannot_read_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("class.yaml"), CLASS).unwrap();
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: app}\nspec:\n  rules: 7\n";
    fs::write(folder.path().join("route.yaml"), route).unwrap();

    let output = controller().arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("route.yaml:5:"), "{errors}");
    assert!(errors.contains("HTTPRoute default/app: spec.rules: invalid type"), "{errors}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("Valid GatewayClass"));
}

#[test]
fn validates_what_is_right_and_says_where_it_is_wrong() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/quickstart");
    let output = run("validate").arg(example).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");

    let folder = tempfile::tempdir().unwrap();
    let gateway = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: eg}\nspec:\n  \
                   gatewayClassName: eg\n  listeners: [{name: http, port: 80, protocol: HTTP}]\n";
    let route = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: app}\nspec:\n  \
                 parentRefs: [{name: eg}]\n  rules: [{backendRefs: [{name: gone, port: 80}]}]\n";
    fs::write(folder.path().join("all.yaml"), format!("{CLASS}{gateway}{route}")).unwrap();
    fs::write(folder.path().join("bad.yaml"), route.replace("app", "bad").replace("80", "many")).unwrap();
    let output = run("validate").arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines = String::from_utf8(output.stdout).unwrap();
    let has = |words: &[&str]| lines.lines().any(|line| words.iter().all(|word| line.contains(word)));
    let unresolved =
        ["all.yaml:13:1: HTTPRoute default/app, Gateway eg: ResolvedRefs is False (BackendNotFound)", "gone"];
    assert!(has(&unresolved), "{lines}");
    assert!(has(&["bad.yaml:7:", "HTTPRoute default/bad: spec.rules[0].backendRefs[0].port: invalid type"]), "{lines}");
    let output = run("validate").arg(folder.path()).arg("--json").output().unwrap();
    let problems: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(problems[0]["line"], 13);

    let output = run("status").arg(folder.path()).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let row = table.lines().find(|line| line.starts_with("HTTPRoute")).unwrap();
    assert!(row.contains("default/app") && row.contains("ResolvedRefs=False (BackendNotFound)"), "{table}");
}

//! `controller translate`, from outside.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path, process::Command};

use serde_json::Value;

fn controller() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_controller"));
    command.arg("translate");
    command
}

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
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: eg}\nspec: \
                 {controllerName: gateway.envoyproxy.io/gatewayclass-controller}\n";
    fs::write(folder.path().join("class.yaml"), class).unwrap();
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: app}\nspec:\n  rules: 7\n";
    fs::write(folder.path().join("route.yaml"), route).unwrap();

    let output = controller().arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("route.yaml:5:"), "{errors}");
    assert!(errors.contains("HTTPRoute default/app: spec.rules: invalid type"), "{errors}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("Valid GatewayClass"));
}

//! What a Gateway and its EnvoyProxy come to in Kubernetes: every `infra/CASE.yaml`, with `infra/_base.yaml` before it,
//! against `CASE.snap` beside it. After a change on purpose: `INSTA_UPDATE=always cargo test --test infra`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use controller_core::{Credentials, Settings, Snapshot, Translation, infra, translate};
use serde_json::{Value, json};

fn settings(case: &Path) -> Settings {
    let is_about = |what| case.file_stem().is_some_and(|name| name.to_string_lossy().contains(what));
    Settings {
        gateway_namespace_mode: is_about("gateway_namespace"),
        credentials: if is_about("token") { Credentials::CertificateAndToken } else { Credentials::default() },
        controller_image: "controller:test".into(),
        ..Settings::default()
    }
}

fn translation(case: &Path) -> Translation {
    let mut snapshot = Snapshot::default();
    for file in [case.with_file_name("_base.yaml"), case.to_owned()] {
        let text = fs::read_to_string(&file).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("manifests");
        for object in objects {
            snapshot.insert(object).unwrap();
        }
    }
    translate(&snapshot, &settings(case))
}

fn objects(case: &Path) -> Vec<Value> {
    let translation = translation(case);
    let fleets = translation.proxies.values().map(|proxy| &proxy.infra).filter(|fleet| !fleet.placement.held);
    fleets.flat_map(|fleet| infra::objects(fleet, &settings(case)).unwrap()).map(|object| object.value).collect()
}

/// The bootstrap is shown as a document of its own, since nobody can read it within an argument.
fn with_readable_bootstrap(mut object: Value) -> Value {
    let args = object.pointer_mut("/spec/template/spec/containers/0/args").and_then(Value::as_array_mut);
    for arg in args.into_iter().flatten() {
        let bootstrap = arg.as_str().and_then(|arg| arg.strip_prefix("--config-yaml "));
        if let Some(bootstrap) = bootstrap.map(|text| serde_json::from_str::<Value>(text).unwrap()) {
            *arg = json!({"--config-yaml": bootstrap});
        }
    }
    object
}

#[test]
fn fleets_are_as_written_down() {
    insta::glob!("infra", "*.yaml", |case| {
        if case.ends_with("_base.yaml") {
            return;
        }
        let objects: Vec<Value> = objects(case).into_iter().map(with_readable_bootstrap).collect();
        let ours = ["GatewayClass", "Gateway", "EnvoyProxy"];
        let statuses = translation(case).statuses.into_iter().map(Arc::unwrap_or_clone);
        let mut statuses: Vec<_> = statuses.filter(|status| ours.contains(&status.kind)).collect();
        for status in &mut statuses {
            // The same everywhere.
            status.status.edit(|status| {
                status.as_object_mut().unwrap().remove("supportedFeatures");
            });
        }
        let text = serde_saphyr::to_string(&json!({"statuses": statuses, "objects": objects})).unwrap();
        insta::with_settings!({
            snapshot_path => "infra", prepend_module_to_snapshot => false, snapshot_suffix => "",
            omit_expression => true,
        }, {
            insta::assert_snapshot!(case.file_stem().unwrap().to_str().unwrap(), text);
        });
    });
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/infra");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut cases: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|end| end == "yaml") && !file.ends_with("_base.yaml"))
        .collect();
    cases.sort();
    cases
}

/// The files that the bootstraps name, as pods mount them, below `root`.
fn mount(root: &Path, objects: &[Value]) {
    for folder in ["sds", "certs"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let map = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
    for (name, content) in map["data"].as_object().unwrap() {
        let content = content.as_str().unwrap().replace("/certs/", &format!("{}/certs/", root.display()));
        fs::write(root.join("sds").join(name), content).unwrap();
    }
}

#[test]
fn envoy_takes_every_bootstrap() {
    let Some(envoy) = std::env::var_os("ENVOY") else { panic!("ENVOY must name Envoy's binary: deploy/dev/envoy.sh") };
    for case in cases() {
        let objects = objects(&case);
        let Some(workload) = objects.iter().find(|object| object.pointer("/spec/template").is_some()) else { continue };
        let root = tempfile::tempdir().unwrap();
        mount(root.path(), &objects);
        let args = workload.pointer("/spec/template/spec/containers/0/args").unwrap().as_array().unwrap();
        let root_text = root.path().display().to_string();
        let args = args.iter().map(|arg| {
            arg.as_str().unwrap().replace("$(ENVOY_POD_NAME)", "pod").replace("\"/sds/", &format!("\"{root_text}/sds/"))
        });
        let output = Command::new(&envoy).args(args).args(["--mode", "validate"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {text}", case.display());
    }
}

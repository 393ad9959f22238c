//! Manifests and what they come to: every `golden/FOLDER/CASE.yaml`, with `_base.yaml` of its folder and of `golden`
//! before it, against `CASE.snap` beside it. After a change on purpose: `INSTA_UPDATE=always cargo test --test golden`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use controller_core::{Settings, Snapshot, Translation, translate, xds::Type};
use serde_json::{Map, Value, json};

#[path = "support/envoy.rs"]
mod envoy;

fn settings() -> Settings {
    let addresses = [("default/eg".to_owned(), "10.1.2.3".parse().unwrap())].into();
    Settings { addresses, access_log: None, ..Settings::default() }
}

fn translation(case: &Path) -> Translation {
    let folder = case.parent().unwrap();
    let mut snapshot = Snapshot::default();
    for file in [folder.parent().unwrap().join("_base.yaml"), folder.join("_base.yaml"), case.to_owned()] {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("manifests");
        for object in objects {
            snapshot.insert(object).unwrap();
        }
    }
    translate(&snapshot, &settings())
}

fn document(translation: &Translation) -> Value {
    let mut proxies = Map::new();
    for (key, proxy) in &translation.proxies {
        let mut xds = Map::new();
        for kind in Type::ALL {
            let name = kind.url().rsplit('/').next().unwrap();
            // The readiness listener is the same everywhere.
            let resources = proxy.resources.of(kind).filter(|(name, _)| !name.starts_with("envoy-gateway-proxy-ready"));
            let resources: Vec<Value> = resources
                .map(|(_, resource)| {
                    let mut json = proto::json::encode(name, &resource.any.value).unwrap();
                    if kind == Type::Secret {
                        shorten(&mut json);
                    }
                    json
                })
                .collect();
            if !resources.is_empty() {
                xds.insert(format!("{kind:?}"), resources.into());
            }
        }
        proxies.insert(key.clone(), json!({"infra": serde_json::to_value(&proxy.infra).unwrap(), "xds": xds}));
    }
    let rate_limits: Vec<Value> =
        translation.rate_limits.iter().map(|config| proto::json::to_json(config).unwrap()).collect();
    let mut document = Map::new();
    let mut statuses = serde_json::to_value(&translation.statuses).unwrap();
    for status in statuses.as_array_mut().unwrap() {
        // The same everywhere.
        status["status"].as_object_mut().unwrap().remove("supportedFeatures");
    }
    for (name, part) in [
        ("statuses", statuses),
        ("proxies", proxies.into()),
        ("rateLimits", rate_limits.into()),
        ("authPolicies", serde_json::to_value(&translation.auth_policies).unwrap()),
    ] {
        if part.as_array().is_none_or(|list| !list.is_empty()) {
            document.insert(name.to_owned(), part);
        }
    }
    document.into()
}

/// Certificates and keys, of which only the length is of interest.
fn shorten(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if key == "inlineBytes" => *value = format!("{} characters", text.len()).into(),
                    _ => shorten(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(shorten),
        _ => {}
    }
}

fn is_base(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "_base.yaml")
}

#[test]
fn translations_are_as_written_down() {
    insta::glob!("golden", "*/*.yaml", |path| {
        if is_base(path) {
            return;
        }
        let text = serde_saphyr::to_string(&document(&translation(path))).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        insta::with_settings!({
            snapshot_path => path.parent().unwrap(), prepend_module_to_snapshot => false, snapshot_suffix => "",
            omit_expression => true,
        }, {
            insta::assert_snapshot!(name, text);
        });
    });
}

#[test]
fn envoy_takes_every_translation() {
    let mut cases = 0;
    for folder in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).unwrap() {
        let folder = folder.unwrap().path();
        let Ok(files) = fs::read_dir(&folder) else { continue };
        let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        for case in files.iter().filter(|file| file.extension().is_some_and(|end| end == "yaml") && !is_base(file)) {
            for (key, proxy) in translation(case).proxies {
                eprintln!("{} {key}", case.display());
                envoy::validate(&proxy.resources);
            }
            cases += 1;
        }
    }
    assert!(cases > 0);
}

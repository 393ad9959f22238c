//! Configuration in a directory that changes, as a ConfigMap does.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use ratelimit::{
    config::Domains,
    service::CurrentConfig,
    source::dir::{Dir, Error},
};

fn domain(name: &str) -> String {
    format!("domain: {name}\ndescriptors:\n  - key: k\n    rate_limit: {{ unit: second, requests_per_unit: 1 }}\n")
}

fn knows(config: &CurrentConfig, name: &str) -> bool {
    config.load().as_ref().is_some_and(|config| config.domain(name).is_some())
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Lays a volume out as the kubelet does: files are links into `..data`, which is a link to a directory.
fn config_map(dir: &Path, generation: &str, files: &[(&str, &str)]) {
    let data = dir.join(format!("..{generation}"));
    fs::create_dir(&data).unwrap();
    for (name, text) in files {
        fs::write(data.join(name), text).unwrap();
    }
    let new = dir.join("..data_tmp");
    symlink(format!("..{generation}"), &new).unwrap();
    fs::rename(new, dir.join("..data")).unwrap();
    for (name, _) in files {
        // It is there already after the first time.
        let _ = symlink(format!("..data/{name}"), dir.join(name));
    }
}

#[tokio::test]
async fn a_swapped_config_map_is_followed_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = CurrentConfig::default();
    config_map(dir.path(), "1", &[("a.yaml", &domain("first"))]);
    let follow = tokio::spawn(Dir::new(dir.path(), Domains::Distinct, Arc::clone(&config)).follow());
    until("the first load", || knows(&config, "first")).await;

    config_map(dir.path(), "2", &[("a.yaml", &domain("second"))]);
    until("the swap", || knows(&config, "second") && !knows(&config, "first")).await;

    config_map(dir.path(), "3", &[("a.yaml", "domain: ''"), ("b.yaml", &domain("third"))]);
    config_map(dir.path(), "4", &[("a.yaml", &domain("fourth")), ("b.yaml", &domain("third"))]);
    until("the next good one", || knows(&config, "fourth") && knows(&config, "third")).await;
    follow.abort();
}

#[tokio::test]
async fn a_swapped_root_and_a_plain_file_are_followed() {
    let root = tempfile::tempdir().unwrap();
    for version in ["one", "two"] {
        fs::create_dir(root.path().join(version)).unwrap();
        fs::write(root.path().join(version).join("a.yml"), domain(version)).unwrap();
    }
    let current = root.path().join("current");
    symlink("one", &current).unwrap();
    let config = CurrentConfig::default();
    let follow = tokio::spawn(Dir::new(&current, Domains::Distinct, Arc::clone(&config)).follow());
    until("the first load", || knows(&config, "one")).await;

    symlink("two", root.path().join("next")).unwrap();
    fs::rename(root.path().join("next"), &current).unwrap();
    until("the swap", || knows(&config, "two")).await;

    fs::write(current.join("b.yaml"), domain("three")).unwrap();
    until("the new file", || knows(&config, "three")).await;
    fs::remove_file(current.join("b.yaml")).unwrap();
    until("the removal", || !knows(&config, "three")).await;
    follow.abort();
}

#[test]
fn one_bad_file_keeps_all_of_the_last_good_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = CurrentConfig::default();
    let mut source = Dir::new(dir.path(), Domains::Distinct, Arc::clone(&config));
    fs::write(dir.path().join("a.yaml"), domain("a")).unwrap();
    source.load().unwrap();

    fs::write(dir.path().join("b.yaml"), "domain: b\nnonsense: 1\n").unwrap();
    fs::write(dir.path().join("c.yaml"), domain("c")).unwrap();
    let error = source.load().unwrap_err();
    assert!(error.to_string().contains("b.yaml:2:1: "), "{error}");
    assert!(knows(&config, "a") && !knows(&config, "c"));
    source.load().expect("what was refused once is not refused again before it changes");

    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    source.load().unwrap();
    assert!(knows(&config, "a") && knows(&config, "c"));
}

#[test]
fn only_yaml_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["notes.txt", ".hidden.yaml", "yaml"] {
        fs::write(dir.path().join(name), "not a configuration").unwrap();
    }
    fs::create_dir(dir.path().join("folder.yaml")).unwrap();
    let config = CurrentConfig::default();
    Dir::new(dir.path(), Domains::Distinct, Arc::clone(&config)).load().unwrap();
    assert_eq!(config.load().as_ref().unwrap().dump(), "");
}

#[test]
fn a_missing_directory_is_an_error_that_names_it() {
    let config = CurrentConfig::default();
    let error = Dir::new("/does/not/exist", Domains::Distinct, Arc::clone(&config)).load().unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    assert!(error.to_string().starts_with("cannot read /does/not/exist: "), "{error}");
    assert!(config.load().is_none());
}

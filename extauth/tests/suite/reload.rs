//! Policies that change while requests flow.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use extauth::resources::Keys;
use extauth::service::Authorizer;
use extauth::source::dir::{Dir, validate};
use proto::readiness::Readiness;

use crate::support::{Answer, hash, request, resources};

fn policies(key: &str) -> String {
    let hash = hash(key);
    let source = "{header: {name: x-api-key}}";
    let method = format!("apiKey: {{from: [{source}], keys: [{{hash: '{hash}', client: acme}}]}}");
    format!("policies:\n- name: guard\n  methods:\n  - {method}\n")
}

fn with(key: &str) -> CheckRequest {
    request(&[("x-api-key", key)])
}

async fn status(authorizer: &Authorizer, request: CheckRequest) -> u16 {
    Answer::of(authorizer.answer(&request, std::time::SystemTime::now()).await).status
}

/// Writes files the way the kubelet mounts a ConfigMap: through a link that is swapped.
fn mount(dir: &Path, generation: &str, text: &str) {
    mount_files(dir, generation, &[("policies.yaml", text)]);
}

fn mount_files(dir: &Path, generation: &str, files: &[(&str, &str)]) {
    let data = dir.join(format!("..{generation}"));
    fs::create_dir(&data).unwrap();
    for (name, text) in files {
        fs::write(data.join(name), text).unwrap();
    }
    let next = dir.join("..data_tmp");
    symlink(format!("..{generation}"), &next).unwrap();
    fs::rename(&next, dir.join("..data")).unwrap();
    for (name, _) in files {
        if !dir.join(name).exists() {
            symlink(Path::new("..data").join(name), dir.join(name)).unwrap();
        }
    }
}

#[tokio::test]
async fn i10_a_secret_with_several_clients_is_read_and_followed() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("shop-keys");
    fs::create_dir(&secret).unwrap();
    mount_files(&secret, "1", &[("acme", "key-of-acme\n"), ("zeta.yaml", "key-of-zeta")]);
    let text =
        "policies: [{name: guard, methods: [{apiKey: {from: [{header: {name: x-api-key}}], keysDir: shop-keys}}]}]";
    fs::write(dir.path().join("policies.yaml"), text).unwrap();
    let authorizer = Authorizer::new(resources());
    let mut source = Dir::new(dir.path(), authorizer.clone(), None);
    source.load().unwrap();
    assert_eq!(status(&authorizer, with("key-of-acme")).await, 200);
    assert_eq!(status(&authorizer, with("key-of-zeta")).await, 200);
    assert_eq!(status(&authorizer, with("acme")).await, 401);
    assert!(!format!("{source:?}").contains("key-of-acme"));

    tokio::spawn(source.follow());
    mount_files(&secret, "2", &[("acme", "new-key-of-acme"), ("zeta.yaml", "key-of-zeta")]);
    let start = Instant::now();
    while status(&authorizer, with("key-of-acme")).await != 401 {
        assert!(start.elapsed() < Duration::from_secs(30), "the secret is not followed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(status(&authorizer, with("new-key-of-acme")).await, 200);
}

#[test]
fn k5_a_secret_with_one_key_for_two_clients_is_refused_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("shop-keys");
    fs::create_dir(&secret).unwrap();
    let text =
        "policies: [{name: guard, methods: [{apiKey: {from: [{header: {name: x-api-key}}], keysDir: shop-keys}}]}]";
    fs::write(dir.path().join("policies.yaml"), text).unwrap();
    let problem = || validate(dir.path(), &Keys::default()).unwrap_err().to_string();
    assert!(problem().contains("apiKey.keysDir: there is no directory `shop-keys` with keys"), "{}", problem());
    for (client, key) in [("acme", "one-key"), ("zeta", "one-key\n")] {
        fs::write(secret.join(client), key).unwrap();
    }
    let error = problem();
    assert!(error.contains("is also the key of client `acme`; give `zeta`") && !error.contains("one-key"), "{error}");
    fs::write(secret.join("zeta"), "a key").unwrap();
    let error = problem();
    assert!(error.contains("the key of client `zeta` is not") && !error.contains("a key\n"), "{error}");
    fs::write(secret.join("zeta"), b"\xff\xfe").unwrap();
    assert!(problem().contains("`zeta`"), "{}", problem());
    fs::remove_file(secret.join("zeta")).unwrap();
    assert_eq!(validate(dir.path(), &Keys::default()).unwrap(), 1);
}

#[tokio::test]
async fn a_bad_file_keeps_the_last_good_policies() {
    let dir = tempfile::tempdir().unwrap();
    let authorizer = Authorizer::new(resources());
    let readiness = Readiness::new();
    let mut source = Dir::new(dir.path(), authorizer.clone(), Some(readiness.block("policies")));
    assert_eq!(status(&authorizer, with("first")).await, 403, "nothing is in force yet");

    source.load().unwrap_err();
    assert!(!readiness.is_ready());
    let file = dir.path().join("policies.yaml");
    fs::write(&file, policies("first")).unwrap();
    assert!(source.load().unwrap());
    assert!(readiness.is_ready());
    assert!(!source.load().unwrap(), "nothing has changed");
    assert_eq!(status(&authorizer, with("first")).await, 200);

    for bad in ["policies: [", "polices: []", "policies: [{name: guard, methods: []}]"] {
        fs::write(&file, bad).unwrap();
        let error = source.load().unwrap_err().to_string();
        assert!(error.starts_with("policies.yaml:1:"), "{error}");
        assert_eq!(status(&authorizer, with("first")).await, 200);
    }
    fs::write(dir.path().join("more.yaml"), "policies: []").unwrap();
    fs::remove_file(&file).unwrap();
    assert!(source.load().unwrap());
    assert_eq!(status(&authorizer, with("first")).await, 403, "a policy that is gone denies");
    fs::remove_dir_all(dir.path()).unwrap();
    assert!(source.load().unwrap_err().to_string().starts_with("reading "));
    assert!(readiness.is_ready(), "what was ready stays so");
}

#[tokio::test]
async fn k8_a_swapped_config_map_changes_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    mount(dir.path(), "2026_11_21_1", &policies("first"));
    let authorizer = Authorizer::new(resources());
    let following = tokio::spawn(Dir::new(dir.path(), authorizer.clone(), None).follow());
    becomes(&authorizer, "first", 200).await;
    mount(dir.path(), "2026_11_21_2", &policies("second"));
    becomes(&authorizer, "second", 200).await;
    assert_eq!(status(&authorizer, with("first")).await, 401, "the old key went with the same swap");
    following.abort();
}

async fn becomes(authorizer: &Authorizer, key: &str, expected: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while status(authorizer, with(key)).await != expected {
        assert!(Instant::now() < deadline, "the key `{key}` is never answered with {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn validating_says_what_would_happen() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), policies("first")).unwrap();
    assert_eq!(validate(dir.path(), &Keys::default()).unwrap(), 1);
    fs::write(dir.path().join("b.yaml"), policies("second")).unwrap();
    let error = validate(dir.path(), &Keys::default()).unwrap_err().to_string();
    assert_eq!(error, "b.yaml:2:3: policies[0].name: another policy has the same name (policy `guard`)");
}

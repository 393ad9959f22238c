//! The program itself: its way up and down, and its small commands.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use proto::extauth::{Method, Policies, Policy};

use crate::support::{Process, api_keys, get, key, program};

fn write_policies(dir: &Path) {
    let methods = vec![Method::ApiKey(api_keys(vec![key("a-key", "acme")]))];
    let policies = Policies { policies: vec![Policy { name: "guard".into(), methods, ..Policy::default() }] };
    fs::write(dir.join("policies/guard.yaml"), serde_json::to_string(&policies).unwrap()).unwrap();
}

/// What `probe` finds, as soon as it finds something.
fn eventually<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never happens");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_is_healthy_once_policies_are_in_force_and_ends_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    let mut process = Process(program(dir.path()).stderr(Stdio::piped()).spawn().unwrap());
    let health = || get(&dir.path().join("http.sock"), "/healthcheck", &[]);
    let before = eventually(health);
    assert_eq!((before.status, before.body.as_str()), (503, "waiting for policies"));
    let metrics = || get(&dir.path().join("http.sock"), "/metrics", &[]).map(|response| response.body);
    let failed = "extauth_config_reloads_total{result=\"failure\"} 1\n";
    eventually(|| metrics().filter(|metrics| metrics.contains(failed)));
    write_policies(dir.path());
    eventually(|| health().filter(|response| response.status == 200));
    // Policies are in force, and the program healthy, a moment before that is counted.
    let loaded = "extauth_config_reloads_total{result=\"success\"} 1\n";
    let metrics = eventually(|| metrics().filter(|metrics| metrics.contains(loaded)));
    assert!(metrics.contains("extauth_policies 1\n"), "{metrics}");

    let killed = Command::new("kill").arg(process.0.id().to_string()).status().unwrap();
    assert!(killed.success());
    let status = eventually(|| process.0.try_wait().unwrap());
    let mut log = String::new();
    process.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(status.success(), "{log}");
    assert!(log.contains("no file ends in .yaml or .yml"), "{log}");
}

#[test]
fn a_key_is_hashed_from_standard_input() {
    let hash = |key: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_extauth"))
            .arg("hash-key")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(key.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let good = hash("abc\n");
    let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
    assert_eq!(String::from_utf8(good.stdout).unwrap(), expected);
    let bad = hash("two words\n");
    assert!(!bad.status.success() && bad.stdout.is_empty());
    assert!(!String::from_utf8(bad.stderr).unwrap().contains("two words"));
}

#[test]
fn validate_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    let validate = || program(dir.path()).arg("validate").output().unwrap();
    write_policies(dir.path());
    let good = validate();
    assert_eq!((good.status.success(), good.stdout.as_slice()), (true, b"1 policies are valid\n".as_slice()));
    fs::write(dir.path().join("policies/bad.yaml"), "policies:\n- name: bad\n  methods: []\n").unwrap();
    let bad = validate();
    let told = String::from_utf8(bad.stderr).unwrap();
    assert!(!bad.status.success() && told.contains("bad.yaml:2:3: policies[0].methods"), "{told}");
}

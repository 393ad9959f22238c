#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

use super::{Files, Manifests};

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: NAME
spec:
  rules:
  - backendRefs:
    - name: app
      port: PORT
";

fn route(name: &str, port: &str) -> String {
    ROUTE.replace("NAME", name).replace("PORT", port)
}

fn write(directory: &TempDir, name: &str, text: &str) {
    fs::write(directory.path().join(name), text).unwrap();
}

fn routes(manifests: &Manifests) -> Vec<&str> {
    manifests.snapshot.http_routes.keys().map(|(_, name)| name.as_str()).collect()
}

/// `file:line:column: message`, with the directory cut off.
fn problems(directory: &TempDir, manifests: &Manifests) -> Vec<String> {
    let prefix = format!("{}/", directory.path().display());
    manifests.problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

fn port(manifests: &Manifests, name: &str) -> Option<i32> {
    let route = &manifests.snapshot.http_routes[&("default".to_owned(), name.to_owned())];
    route.spec.rules.as_ref().unwrap()[0].backend_refs.as_ref().unwrap()[0].port
}

#[test]
fn reads_yaml_json_lists_and_many_documents() {
    let directory = TempDir::new().unwrap();
    write(&directory, "a.yaml", &format!("# nothing\n---\n{}---\n{}---\n", route("a1", "80"), route("a2", "80")));
    write(&directory, "b.json", r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"}, "spec": {}}"#);
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", route("c", "80").trim().replace('\n', "\n  "));
    write(&directory, "c.yml", &list);
    write(&directory, "d.txt", "not a manifest");
    write(&directory, ".e.yaml", "not: [a manifest");
    let manifests = Files::new(directory.path()).load().unwrap();
    assert_eq!(problems(&directory, &manifests), [""; 0]);
    assert_eq!(routes(&manifests), ["a1", "a2", "c"]);
    assert_eq!(manifests.snapshot.services.len(), 1);
}

#[test]
fn says_nothing_when_nothing_has_changed() {
    let directory = TempDir::new().unwrap();
    write(&directory, "a.yaml", &route("a", "80"));
    write(&directory, "b.yaml", "a: [");
    let mut files = Files::new(directory.path());
    assert!(files.load().is_some());
    assert!(files.load().is_none());
    write(&directory, "a.yaml", &route("a", "81"));
    assert_eq!(port(&files.load().unwrap(), "a"), Some(81));
    fs::remove_file(directory.path().join("a.yaml")).unwrap();
    assert_eq!(routes(&files.load().unwrap()), [""; 0]);
    assert!(files.load().is_none());
}

#[test]
fn a_file_that_does_not_parse_keeps_its_last_good_objects() {
    let directory = TempDir::new().unwrap();
    write(&directory, "a.yaml", &route("a", "80"));
    write(&directory, "b.yaml", "kind: [");
    let mut files = Files::new(directory.path());
    let manifests = files.load().unwrap();
    assert_eq!(routes(&manifests), ["a"]);
    let [problem] = &problems(&directory, &manifests)[..] else { panic!("one problem expected") };
    assert!(problem.starts_with("b.yaml:1:") && problem.ends_with("nothing in it is used"), "{problem}");

    let good = route("a", "80");
    write(&directory, "a.yaml", &format!("{good}  broken"));
    fs::remove_file(directory.path().join("b.yaml")).unwrap();
    let manifests = files.load().unwrap();
    assert_eq!(port(&manifests, "a"), Some(80));
    let [problem] = &problems(&directory, &manifests)[..] else { panic!("one problem expected") };
    assert!(problem.starts_with("a.yaml:1") && problem.ends_with("stays in force"), "{problem}");

    write(&directory, "a.yaml", &good);
    assert_eq!(problems(&directory, &files.load().unwrap()), [""; 0]);
}

#[test]
fn an_object_with_a_bad_field_keeps_what_it_said_before() {
    let directory = TempDir::new().unwrap();
    let mut files = Files::new(directory.path());
    write(&directory, "a.yaml", &format!("{}---{}", route("a", "http"), route("b", "80")));
    let manifests = files.load().unwrap();
    assert_eq!(routes(&manifests), ["b"]);
    let [problem] = &problems(&directory, &manifests)[..] else { panic!("one problem expected") };
    let expected = "a.yaml:10:13: HTTPRoute default/a: spec.rules[0].backendRefs[0].port: invalid type";
    assert!(problem.starts_with(expected) && problem.ends_with("it is left out"), "{problem}");

    write(&directory, "a.yaml", &format!("{}---{}", route("a", "81"), route("b", "80")));
    assert_eq!(routes(&files.load().unwrap()), ["a", "b"]);
    write(&directory, "a.yaml", &format!("{}---{}", route("a", "http"), route("b", "82")));
    let manifests = files.load().unwrap();
    assert_eq!((port(&manifests, "a"), port(&manifests, "b")), (Some(81), Some(82)));
    assert!(problems(&directory, &manifests)[0].ends_with("what it said before stays in force"));
}

#[test]
fn an_object_that_stands_in_two_files_is_reported() {
    let directory = TempDir::new().unwrap();
    write(&directory, "a.yaml", &route("a", "80"));
    write(&directory, "b.yaml", &route("a", "81"));
    let manifests = Files::new(directory.path()).load().unwrap();
    assert_eq!(port(&manifests, "a"), Some(81));
    let [problem] = &problems(&directory, &manifests)[..] else { panic!("one problem expected") };
    assert_eq!(problem, "b.yaml:2:1: HTTPRoute default/a stands in a.yaml:2 too; this one is in force");
}

#[test]
fn other_kinds_are_noted_and_broken_secrets_not_quoted() {
    let directory = TempDir::new().unwrap();
    write(&directory, "a.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\n");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {key: 'open-sesame!'}\n";
    write(&directory, "b.yaml", secret);
    write(&directory, "c.yaml", &format!("{secret}stringData: {{a: 'open-sesame!'}}\ndata: 'open-sesame!'\n"));
    let manifests = Files::new(directory.path()).load().unwrap();
    assert_eq!(manifests.ignored.len(), 1);
    let problems = problems(&directory, &manifests);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(!problems.concat().contains("open-sesame"), "{problems:?}");
}

#[test]
fn a_directory_that_is_gone_takes_nothing_with_it() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("manifests");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("a.yaml"), route("a", "80")).unwrap();
    let mut files = Files::new(&directory);
    files.load().unwrap();
    fs::rename(&directory, parent.path().join("elsewhere")).unwrap();
    let manifests = files.load().unwrap();
    assert_eq!(routes(&manifests), ["a"]);
    assert_eq!(manifests.problems.len(), 1);
}

#[tokio::test]
async fn changes_are_followed_through_symlinks() {
    let directory = TempDir::new().unwrap();
    let version = |name: &str, port: &str| {
        fs::create_dir(directory.path().join(name)).unwrap();
        fs::write(directory.path().join(name).join("a.yaml"), route("a", port)).unwrap();
    };
    let swap = |target: &str| {
        let (data, fresh): (&Path, _) = (&directory.path().join("..data"), directory.path().join("..fresh"));
        symlink(target, &fresh).unwrap();
        fs::rename(fresh, data).unwrap();
    };
    version("..1", "81");
    version("..2", "82");
    swap("..1");
    symlink("..data/a.yaml", directory.path().join("a.yaml")).unwrap();
    let mut receiver = crate::source::watch(Files::new(directory.path()));
    assert_eq!(port(&receiver.borrow_and_update(), "a"), Some(81));
    swap("..2");
    let changed = tokio::time::timeout(std::time::Duration::from_secs(20), receiver.changed()).await;
    changed.expect("the swap is noticed").unwrap();
    assert_eq!(port(&receiver.borrow(), "a"), Some(82));
}

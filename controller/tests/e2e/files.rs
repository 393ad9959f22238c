//! How changes of the manifests reach Envoy.

use std::fs;

use crate::standalone::{Manifests, Standalone};

const HOST: &str = "many.example.com";

/// A hundred routes with policies of their own; each revision answers at other paths.
fn routes(revision: u32) -> String {
    let of_route = |index: u32| {
        format!(
            r#"---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: many-{index}}}
spec:
  parentRefs: [{{name: eg}}]
  hostnames: [{HOST}]
  rules:
  - matches: [{{path: {{value: /{index}/{revision}}}}}]
    backendRefs: [{{name: backend, port: 3000}}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {{name: many-{index}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: many-{index}}}]
  cors: {{allowOrigins: ["https://{index}.example.com"]}}
"#
        )
    };
    (0..100).map(of_route).collect()
}

#[tokio::test]
async fn a_changed_file_of_a_hundred_routes_replaces_them_and_nothing_else() {
    let manifests = Manifests::of("quickstart");
    manifests.write("many.yaml", &routes(1));
    let gateway = Standalone::start(manifests).await;
    gateway.answers(HOST, "/0/1", 200).await;

    // In place, as `tee` would.
    fs::write(gateway.manifests().folder().join("many.yaml"), routes(2)).unwrap();
    for index in 0..100 {
        gateway.answers(HOST, &format!("/{index}/2"), 200).await;
        gateway.answers(HOST, &format!("/{index}/1"), 404).await;
    }
    assert_eq!(gateway.get("www.example.com", "/get", &[]).await.status, 200);

    // One of them makes no sense.
    gateway.manifests().write("many.yaml", &routes(3).replace("value: /7/3", "value: [7]"));
    gateway.answers(HOST, "/99/3", 200).await;
    gateway.answers(HOST, "/8/2", 404).await;
    gateway.answers(HOST, "/7/2", 200).await;

    // The file is no YAML any more, which the next one does not mind.
    let text = gateway.manifests().read("many.yaml");
    gateway.manifests().write("many.yaml", &format!("{text}---\nkind: ["));
    gateway.manifests().write("other.yaml", &routes(4).replace("many", "other"));
    gateway.answers("other.example.com", "/99/4", 200).await;
    let log = gateway.log();
    let about_file = |line: &&str| line.contains("many.yaml") && !line.contains("HTTPRoute");
    let line = log.lines().find(about_file).expect("the file is complained of");
    assert!(line.contains("what it said before stays in force"), "{line}");
    gateway.answers(HOST, "/7/2", 200).await;
    gateway.answers(HOST, "/99/3", 200).await;
    gateway.stop().await;
}

//! Rules that Envoy decides by itself.

use crate::standalone::{Manifests, Standalone};

const WWW: &str = "www.example.com";
const POLICY: &str = r#"
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata:
  name: rules
spec:
  targetRefs:
    - group: gateway.networking.k8s.io
      kind: HTTPRoute
      name: backend
  authorization:
    defaultAction: Deny
    rules:
      - action: Deny
        cel: "request.path.startsWith('/admin') && !('x-admin' in request.headers)"
      - action: Allow
        cel: "request.headers['x-team'] in ['red', 'blue']"
        operation:
          methods: [GET]
"#;

#[tokio::test]
async fn rules_in_cel_decide() {
    let manifests = Manifests::of("api-key");
    manifests.write("policy.yaml", POLICY);
    let gateway = Standalone::start(manifests).await;
    for (path, headers, status) in [
        ("/", vec![("x-team", "red")], 200),
        ("/", vec![("x-team", "blue")], 200),
        ("/", vec![("x-team", "green")], 403),
        ("/", vec![], 403),
        ("/admin", vec![("x-team", "red")], 403),
        ("/admin", vec![("x-team", "red"), ("x-admin", "1")], 200),
    ] {
        assert_eq!(gateway.get(WWW, path, &headers).await.status, status, "{path} {headers:?}");
    }
}

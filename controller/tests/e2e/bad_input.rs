//! What is wrong is said once, by name; its route answers 500, and the rest works.

use crate::{
    standalone::{Manifests, Standalone},
    tool::eventually,
};

const WWW: &str = "www.example.com";

#[tokio::test]
async fn a_manifest_that_does_not_parse() {
    let manifests = Manifests::of("quickstart");
    manifests.write("broken.yaml", "apiVersion: v1\nkind: Service\nmetadata: [\n");
    let gateway = Standalone::start(manifests).await;
    gateway.logs(&["broken.yaml"]).await;
    assert_eq!(gateway.get(WWW, "/", &[]).await.status, 200);
    assert!(gateway.admin("/status").await.body.contains("broken.yaml"));
}

#[tokio::test]
async fn a_manifest_that_breaks_later_leaves_the_last_good_one_in_force() {
    let gateway = Standalone::start(Manifests::of("quickstart")).await;
    let good = gateway.manifests().read("route.yaml");
    gateway.manifests().write("route.yaml", "{ not: [yaml");
    gateway.logs(&["route.yaml"]).await;
    assert_eq!(gateway.get(WWW, "/", &[]).await.status, 200);
    gateway.manifests().write("route.yaml", &good.replace("/old", "/older"));
    gateway.answers(WWW, "/older", 301).await;
}

#[tokio::test]
async fn a_field_of_the_wrong_type() {
    let manifests = Manifests::of("quickstart");
    let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: wrong\nspec:\n  ports: nine\n";
    manifests.write("wrong.yaml", service);
    let gateway = Standalone::start(manifests).await;
    gateway.logs(&["wrong.yaml", "ports"]).await;
    assert_eq!(gateway.get(WWW, "/", &[]).await.status, 200);
}

#[tokio::test]
async fn c12_a_missing_secret() {
    let manifests = Manifests::of("quickstart");
    manifests.replace("api-key.yaml", "        name: apikey-secret", "        name: nosuch");
    let gateway = Standalone::start(manifests).await;
    assert_eq!(gateway.get(WWW, "/keys", &[("x-api-key", "supersecret")]).await.status, 500);
    assert_eq!(gateway.get(WWW, "/", &[]).await.status, 200);
    gateway.logs(&["nosuch", "api-key"]).await;
    assert!(gateway.admin("/status").await.body.contains("nosuch"));

    // It comes later.
    gateway.manifests().replace("api-key.yaml", "name: nosuch", "name: apikey-secret");
    gateway.answers(WWW, "/keys", 401).await;
}

#[tokio::test]
async fn a_route_to_a_missing_backend() {
    let manifests = Manifests::of("quickstart");
    manifests.replace("fault.yaml", "name: backend", "name: nosuch");
    let gateway = Standalone::start(manifests).await;
    gateway.logs(&["nosuch", "fault"]).await;
    let status = gateway.admin("/status").await.body;
    assert!(status.contains("BackendNotFound") && status.contains("nosuch"), "{status}");
    assert_eq!(gateway.get(WWW, "/", &[]).await.status, 200);
}

#[tokio::test]
async fn a_route_whose_only_backend_is_missing_answers_500() {
    let manifests = Manifests::of("redirect-rewrite");
    manifests.replace("route.yaml", "name: backend", "name: nosuch");
    let gateway = Standalone::start(manifests).await;
    assert_eq!(gateway.get("path.rewrite.example", "/get", &[]).await.status, 500);
    assert_eq!(gateway.get("redirect.example", "/old", &[]).await.status, 301);
}

/// A route that redirects one path, if the header matches.
fn redirect(path: &str, to: &str, header: &str) -> String {
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {path}}}
spec:
  parentRefs: [{{name: eg}}]
  hostnames: [{WWW}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /{path}}}, headers: [{{type: RegularExpression, name: x-name, value: '{header}'}}]}}]
    filters: [{{type: RequestRedirect, requestRedirect: {{statusCode: {to}}}}}]
"
    )
}

#[tokio::test]
async fn what_envoy_refuses_holds_back_only_itself() {
    let manifests = Manifests::of("quickstart");
    manifests.write("one.yaml", &redirect("one", "301", "b"));
    let gateway = Standalone::start(manifests).await;
    let headers = &[("x-name", "b")][..];
    let moves = async |path: &str, status: u16| {
        let what = format!("{path} is answered with {status}");
        eventually(&what, async || (gateway.get(WWW, path, headers).await.status == status).then_some(())).await;
    };
    moves("/one", 301).await;
    // A class of characters that is in the language of regular expressions, and not in Envoy's.
    gateway.manifests().write("one.yaml", &redirect("one", "302", r"\p{Alphabetic}"));
    gateway.logs(&["HTTPRoute default/one", "Programmed", "Envoy refuses", "Alphabetic"]).await;
    gateway.manifests().write("two.yaml", &redirect("two", "302", "b"));
    moves("/two", 302).await;
    assert_eq!(gateway.get(WWW, "/one", headers).await.status, 301);
    assert_eq!(gateway.get(WWW, "/", &[]).await.status, 200);
    assert!(gateway.admin("/status").await.body.contains("Alphabetic"));

    gateway.manifests().write("one.yaml", &redirect("one", "302", "b"));
    moves("/one", 302).await;
    eventually("the status is good again", async || {
        (!gateway.admin("/status").await.body.contains("Alphabetic")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_jwks_that_is_none() {
    let manifests = Manifests::of("quickstart");
    manifests.replace("jwt.yaml", r#"{"keys": [{"#, r#"{"nokeys": [{"#);
    let gateway = Standalone::start(manifests).await;
    gateway.logs(&["jwt", "JWKS"]).await;
    let admin = std::fs::read_to_string(crate::tool::workspace().join("deploy/examples/jwt/admin.jwt")).unwrap();
    let bearer = format!("Bearer {}", admin.trim());
    for headers in [&[][..], &[("authorization", bearer.as_str())]] {
        assert_eq!(gateway.get(WWW, "/jwt", headers).await.status, 500);
    }
    assert_eq!(gateway.get(WWW, "/", &[]).await.status, 200);
}

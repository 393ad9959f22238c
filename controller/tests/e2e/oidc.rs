//! Logins: the manifests that people write, a real provider and a real browser.

use std::fs;
use std::path::Path;

use logins::Provider;
use serde_json::{Value, json};

use crate::standalone::{Manifests, Standalone};
use crate::tool;

/// The provider that the examples name, at the address of a test.
pub(crate) fn provider(manifests: &Manifests) -> Provider {
    Provider::start(&options(manifests))
}

fn options(manifests: &Manifests) -> Value {
    let options = fs::read_to_string(tool::workspace().join("deploy/dev/logins/examples.json")).unwrap();
    serde_json::from_str(&options.replace("127.0.0.1", &manifests.address().to_string())).unwrap()
}

/// Lets Chromium go to the hosts of `*.localhost` at the address of a test.
fn browse(story: &str, gateway: &Standalone, more: &[&str]) -> String {
    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e").join(story);
    let hosts = format!("MAP *.localhost {}", gateway.manifests().address());
    logins::browse(&story, &[&[hosts.as_str()], more].concat()).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_browser_logs_in_by_the_tutorial_s_manifest_and_logs_out() {
    let manifests = Manifests::of("oidc");
    let provider = provider(&manifests);
    let gateway = Standalone::start(manifests).await;
    let told = browse("oidc.mjs", &gateway, &[]);
    assert_eq!(told.lines().count(), 5, "{told}");
    assert!(provider.count("/token").await > 0, "codes are exchanged by the provider that the manifest names");
    assert!(!gateway.log().contains("eyJ") && !gateway.log().contains("myapps-secret"), "a secret is in the log");
    gateway.stop().await;
}

#[tokio::test]
async fn a_claim_of_the_session_says_how_much_its_user_gets() {
    let manifests = Manifests::of("oidc-tiers");
    let _provider = provider(&manifests);
    let gateway = Standalone::start(manifests).await;
    let told = browse("tiers.mjs", &gateway, &[]);
    assert_eq!(told.lines().count(), 3, "{told}");
}

#[tokio::test]
async fn a_session_ends_when_its_provider_says_so() {
    let manifests = Manifests::of("oidc");
    // The provider finds no *.localhost.
    manifests.replace("route.yaml", "  hostnames:\n    - \"www.localhost\"\n", "");
    let mut options = options(&manifests);
    let logout = format!("http://{}:9080/myapp/oauth2/backchannel-logout", manifests.address());
    options["clients"][0]["backchannel_logout_uri"] = json!(logout);
    let provider = Provider::start(&options);
    let gateway = Standalone::start(manifests).await;
    let told = browse("oidc-ends.mjs", &gateway, &[&provider.issuer]);
    assert_eq!(told.lines().count(), 3, "{told}");
    gateway.logs(&["a provider ended 1 sessions"]).await;
}

#[tokio::test]
async fn a_provider_is_reached_through_the_backends_that_the_policy_names() {
    let manifests = Manifests::of("oidc");
    let provider = provider(&manifests);
    // Browsers and tokens know the provider by a name that leads nowhere.
    let address = manifests.address();
    manifests.replace("policy.yaml", &format!("      issuer: \"http://{address}:9400\"\n"), &format!(
        "      issuer: \"http://{address}:9400\"\n      tokenEndpoint: \"https://idp.invalid/token\"\n      backendRefs:\n        - name: idp\n          port: 80\n"
    ));
    manifests.write("idp.yaml", IDP);
    let gateway = Standalone::start(manifests).await;
    let told = browse("oidc.mjs", &gateway, &[]);
    assert_eq!(told.lines().count(), 5, "{told}");
    assert!(provider.count("/token").await > 0, "the code is exchanged at the backend");
}

/// The provider as a Service of the cluster.
const IDP: &str = "
apiVersion: v1
kind: Service
metadata:
  name: idp
spec:
  ports:
    - name: http
      port: 80
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: idp-1
  labels:
    kubernetes.io/service-name: idp
addressType: IPv4
ports:
  - name: http
    port: 9400
    protocol: TCP
endpoints:
  - addresses: [\"127.0.0.1\"]
";

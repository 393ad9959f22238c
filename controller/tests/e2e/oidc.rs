//! Logins: the manifests that people write, a real provider and a real browser.

use std::fs;
use std::path::Path;

use logins::Provider;

use crate::standalone::{Manifests, Standalone};
use crate::tool;

/// The provider that the examples name, at the address of a test.
pub(crate) fn provider(manifests: &Manifests) -> Provider {
    let options = fs::read_to_string(tool::workspace().join("deploy/dev/logins/examples.json")).unwrap();
    Provider::start(&serde_json::from_str(&options.replace("127.0.0.1", &manifests.address().to_string())).unwrap())
}

/// Lets Chromium go to the hosts of `*.localhost` at the address of a test.
fn browse(story: &str, gateway: &Standalone) -> String {
    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e").join(story);
    let hosts = format!("MAP *.localhost {}", gateway.manifests().address());
    logins::browse(&story, &[&hosts]).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_browser_logs_in_by_the_tutorial_s_manifest_and_logs_out() {
    let manifests = Manifests::of("oidc");
    let provider = provider(&manifests);
    let gateway = Standalone::start(manifests).await;
    let told = browse("oidc.mjs", &gateway);
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
    let told = browse("tiers.mjs", &gateway);
    assert_eq!(told.lines().count(), 3, "{told}");
}

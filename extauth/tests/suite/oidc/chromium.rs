//! A real browser, a real Envoy, the real program and a real provider.

use std::path::Path;

use logins::Provider;
use proto::extauth::Oidc;
use serde_json::json;

use super::{client, known_as, oidc, policy};
use crate::envoy::{House, any_port};
use crate::running::{Running, until};

#[test]
fn a_person_logs_in_works_in_tabs_and_logs_out() {
    let house = House::begin(Running::begin(Vec::new(), |_, _| {}), |_, config| {
        config["static_resources"]["listeners"][0]["address"] = any_port();
    });
    let shop = format!("http://shop.localhost:{}", house.port("front"));
    let client =
        client(&json!({"redirect_uris": [format!("{shop}/oauth2/callback")], "post_logout_redirect_uris": []}));
    let provider = Provider::start(&json!({"clients": [client], "ttl": {"access": 3}}));
    let mut own = known_as(&provider.issuer);
    own.display_name = Some("Our own".into());
    let mut other = own.clone();
    other.name = "second".into();
    other.display_name = Some("Another one".into());
    house.extauth.put(vec![policy(Oidc { providers: vec![own, other], ..oidc(&provider.issuer) })]);
    until("the policy", || house.extauth.metrics().contains("extauth_policies 1\n"), || house.logs());

    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/oidc/chromium.mjs");
    let screenshot = std::env::var("SCREENSHOT").ok();
    let arguments: Vec<_> = [shop.as_str()].into_iter().chain(screenshot.as_deref()).collect();
    let told = logins::browse(&story, &arguments).unwrap_or_else(|error| panic!("{error}{}", house.logs()));
    assert_eq!(told.lines().count(), 6, "{told}");
    assert!(!house.logs().contains("eyJ") && !house.logs().contains("shop's secret"), "{}", house.logs());
}

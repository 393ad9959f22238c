//! A real browser, a real Envoy, the real program and a real provider.

use std::path::{Path, PathBuf};

use logins::Provider;
use proto::extauth::{Oidc, Secret, SessionKind};
use serde_json::json;

use super::{client, known_as, oidc, policy};
use crate::envoy::{House, any_port};
use crate::running::{Running, until};

/// A house whose door has a port, the shop's URL, and a provider that knows it.
fn open() -> (House, String, Provider) {
    let house = House::begin(Running::begin(Vec::new(), |_, _| {}), |_, config| {
        config["static_resources"]["listeners"][0]["address"] = any_port();
    });
    let shop = format!("http://shop.localhost:{}", house.port("front"));
    let client =
        client(&json!({"redirect_uris": [format!("{shop}/oauth2/callback")], "post_logout_redirect_uris": []}));
    let provider = Provider::start(&json!({"clients": [client], "ttl": {"access": 3}}));
    (house, shop, provider)
}

fn story(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/oidc").join(name)
}

#[test]
fn a_person_logs_in_works_in_tabs_and_logs_out() {
    let (house, shop, provider) = open();
    let mut own = known_as(&provider.issuer);
    own.display_name = Some("Our own".into());
    let mut other = own.clone();
    other.name = "second".into();
    other.display_name = Some("Another one".into());
    house.extauth.put(vec![policy(Oidc { providers: vec![own, other], ..oidc(&provider.issuer) })]);
    until("the policy", || house.extauth.metrics().contains("extauth_policies 1\n"), || house.logs());

    let screenshot = std::env::var("SCREENSHOT").ok();
    let arguments: Vec<_> = [shop.as_str()].into_iter().chain(screenshot.as_deref()).collect();
    let told =
        logins::browse(&story("chromium.mjs"), &arguments).unwrap_or_else(|error| panic!("{error}{}", house.logs()));
    assert_eq!(told.lines().count(), 6, "{told}");
    assert!(!house.logs().contains("eyJ") && !house.logs().contains("shop's secret"), "{}", house.logs());
}

#[test]
fn a_browser_keeps_its_session_itself_in_sealed_cookies() {
    let (house, shop, provider) = open();
    let sealing_keys = Some(Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    house.extauth.put(vec![policy(Oidc { session: SessionKind::Sealed, sealing_keys, ..oidc(&provider.issuer) })]);
    until("the policy", || house.extauth.metrics().contains("extauth_policies 1\n"), || house.logs());
    let told = logins::browse(&story("sealed.mjs"), &[&shop]);
    let told = told.unwrap_or_else(|error| panic!("{error}{}", house.logs()));
    assert_eq!(told.lines().count(), 5, "{told}");
    assert!(!house.logs().contains("eyJ") && !house.logs().contains("shop's secret"), "{}", house.logs());
}

//! Tokens that are revoked while they are in time, also those that were verified before.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use extauth::resources::{Options, Resources, Storage};
use extauth::revocation::{Revocation, Target, revoke};
use proto::extauth::{Introspection, Method, Secret};
use serde_json::{Value, json};

use crate::redis::Single;
use crate::support::{ISSUER, Issuer, NOW, Service, bearer, resources, wait};
use crate::web::{Reply, Web};

const HOUR: Duration = Duration::from_hours(1);

fn apply(resources: &Resources, target: Target, issuer: Option<&str>) {
    let revocation = Revocation { target, issuer: issuer.map(str::to_owned), at: NOW };
    wait(revoke(&resources.store, &revocation, HOUR)).unwrap();
}

/// Asks until the answer is what it should become, within the two seconds that a revocation may take, and patiently.
fn becomes(service: &Service, token: &str, status: u16) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while service.ask(&bearer(token)).status != status {
        assert!(Instant::now() < deadline, "it is not {status} yet");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_token_is_revoked_by_its_id_also_where_it_is_cached() {
    let issuer = Issuer::new("EdDSA");
    let resources = resources();
    let service = Service::sharing(&resources, vec![Method::Jwt(issuer.provider())]);
    let (bad, good) = (issuer.token(json!({"jti": "bad"})), issuer.token(json!({"jti": "good"})));
    for token in [&bad, &good] {
        assert_eq!(service.ask(&bearer(token)).status, 200);
    }
    apply(&resources, Target::Id("bad".into()), None);
    becomes(&service, &bad, 401);
    assert_eq!(service.ask(&bearer(&bad)).body, "Jwt is revoked");
    assert_eq!(service.ask(&bearer(&good)).status, 200);
    // A token that was never seen is revoked as well.
    assert_eq!(service.ask(&bearer(&issuer.token(json!({"jti": "bad", "sub": "eve"})))).status, 401);
}

#[test]
fn a_subjects_tokens_are_revoked_until_new_ones_are_issued() {
    let issuer = Issuer::new("EdDSA");
    let resources = resources();
    let service = Service::sharing(&resources, vec![Method::Jwt(issuer.provider())]);
    let token = |iat: Value| issuer.token(json!({"iat": iat}));
    let (old, now, new, none) = (token(json!(NOW - 1)), token(json!(NOW)), token(json!(NOW + 1)), token(json!(null)));
    apply(&resources, Target::Subject("ada".into()), Some(ISSUER));
    for token in [&old, &now, &none, &token(json!("never"))] {
        becomes(&service, token, 401);
    }
    assert_eq!(service.ask(&bearer(&new)).status, 200);
    assert_eq!(service.ask(&bearer(&issuer.token(json!({"sub": "eve"})))).status, 200);
}

#[test]
fn another_issuers_subject_is_somebody_else() {
    let issuer = Issuer::new("EdDSA");
    let resources = resources();
    let service = Service::sharing(&resources, vec![Method::Jwt(issuer.provider())]);
    apply(&resources, Target::Subject("ada".into()), Some("https://two.example.com"));
    apply(&resources, Target::Id("bad".into()), None);
    becomes(&service, &issuer.token(json!({"jti": "bad"})), 401);
    assert_eq!(service.ask(&bearer(&issuer.token(json!({})))).status, 200);
}

#[test]
fn what_an_authority_vouched_for_is_revoked_as_well() {
    let web = Web::replying(Reply::ok(json!({"active": true, "sub": "ada", "jti": "one"}).to_string()));
    let resources = resources();
    let config = Introspection {
        name: "main".into(),
        endpoint: web.url("/introspect"),
        client_id: "tollgate".into(),
        client_secret: Some(Secret::new("secret")),
        ..Introspection::default()
    };
    let service = Service::sharing(&resources, vec![Method::Introspection(config)]);
    assert_eq!(service.ask(&bearer("opaque")).status, 200);
    apply(&resources, Target::Id("one".into()), None);
    becomes(&service, "opaque", 401);
    assert_eq!(web.asked().len(), 1, "nobody was asked again");
}

#[test]
fn a_revocation_ends_with_its_time() {
    let issuer = Issuer::new("EdDSA");
    let resources = resources();
    let service = Service::sharing(&resources, vec![Method::Jwt(issuer.provider())]);
    let revocation = Revocation::now(Target::Id("short".into()), None);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now - revocation.at < 60);
    wait(revoke(&resources.store, &revocation, Duration::from_secs(3))).unwrap();
    let token = issuer.token(json!({"jti": "short"}));
    becomes(&service, &token, 401);
    thread::sleep(Duration::from_secs(3));
    // Any news has the list read again.
    apply(&resources, Target::Id("other".into()), None);
    becomes(&service, &token, 200);
}

#[test]
fn tokens_are_revoked_from_the_command_line_on_all_replicas_within_two_seconds() {
    let server = Single::start();
    let issuer = Issuer::new("EdDSA");
    let options = || Options { store: Storage::Redis(server.node.options()), ..Options::default() };
    let replicas = [Resources::new(&options()).unwrap(), Resources::new(&options()).unwrap()];
    let services = replicas.each_ref().map(|replica| Service::sharing(replica, vec![Method::Jwt(issuer.provider())]));
    let (bad, good) = (issuer.token(json!({"jti": "bad"})), issuer.token(json!({"jti": "good"})));
    for service in &services {
        becomes(service, &bad, 200);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_extauth"));
    command.args(["tokens", "--redis-url", &server.node.address(), "--redis-prefix", "test:"]);
    let output = command.args(["--redis-timeout-ms", "5000", "revoke", "--id", "bad"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let revoked = Instant::now();
    for service in &services {
        becomes(service, &bad, 401);
        assert_eq!(service.ask(&bearer(&good)).status, 200);
    }
    assert!(revoked.elapsed() < Duration::from_secs(10), "{:?}", revoked.elapsed());
    // A replica that starts later hears of it, too.
    let late = Resources::new(&options()).unwrap();
    let late = Service::sharing(&late, vec![Method::Jwt(issuer.provider())]);
    assert_eq!(late.ask(&bearer(&bad)).status, 401);
    assert_eq!(late.ask(&bearer(&good)).status, 200);
}

#[test]
fn while_nobody_knows_what_is_revoked_nothing_passes() {
    let mut server = Single::start();
    let options = Options { store: Storage::Redis(server.node.options()), ..Options::default() };
    server.node.kill();
    let issuer = Issuer::new("EdDSA");
    let resources = Resources::new(&options).unwrap();
    let service = Service::sharing(&resources, vec![Method::Jwt(issuer.provider())]);
    let token = issuer.token(json!({}));
    assert_eq!(service.ask(&bearer(&token)).status, 503);
    server.node.restart();
    becomes(&service, &token, 200);
    server.node.kill();
    assert_eq!(service.ask(&bearer(&token)).status, 200, "what is known stays known");
}

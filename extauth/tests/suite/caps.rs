//! Caches that clients can fill hold no more bytes than they say, however large what they are filled with.

use extauth::resources::{Options, Resources};
use proto::extauth::{Introspection, Method, Secret};
use serde_json::json;

use crate::support::{Issuer, Service, alone, bearer, resident, resources};
use crate::web::{Reply, Web};

const MEBIBYTE: usize = 1 << 20;

#[test]
fn caches_are_capped_in_bytes() {
    alone("caps::memory_of_full_caches");
}

/// Bytes that `number` questions leave behind.
fn growth(number: usize, ask: impl FnMut(usize)) -> usize {
    let before = resident();
    (0..number).for_each(ask);
    resident().saturating_sub(before)
}

#[test]
#[ignore = "another test runs it, alone in its process"]
fn memory_of_full_caches() {
    let issuer = Issuer::new("EdDSA");
    let long = "x".repeat(5000);
    let tokens = |capacity: usize| {
        let options = Options { token_cache_bytes: capacity as u64, ..Options::default() };
        let service = Service::sharing(&Resources::new(&options).unwrap(), vec![Method::Jwt(issuer.provider())]);
        let ask = |n| assert_eq!(service.ask(&bearer(&issuer.token(json!({"jti": n, "long": long})))).status, 200);
        // What is taken once.
        (0..200).for_each(ask);
        growth(3000, |n| ask(200 + n))
    };
    let (capped, free) = (tokens(2 * MEBIBYTE), tokens(1024 * MEBIBYTE));
    println!("tokens: {capped} bytes, {free} without a cap");
    assert!(capped < 6 * MEBIBYTE, "{capped} bytes for 2 MiB");
    assert!(free > 12 * MEBIBYTE, "15 MB of tokens are seen in the memory of the process: {free}");

    let answer = json!({"active": true, "sub": "ada", "long": "x".repeat(MEBIBYTE / 2)}).to_string();
    let web = Web::replying(Reply::ok(answer));
    let opaque = Introspection {
        name: "opaque".into(),
        endpoint: web.url("/introspect"),
        client_id: "tollgate".into(),
        client_secret: Some(Secret::new("secret")),
        ..Introspection::default()
    };
    let service = Service::sharing(&resources(), vec![Method::Introspection(opaque)]);
    let answers = growth(150, |n| assert_eq!(service.ask(&bearer(&format!("opaque-{n}"))).status, 200));
    println!("answers of an issuer: {answers} bytes");
    assert!(answers < 40 * MEBIBYTE, "{answers} bytes for 16 MiB and what one question takes; all are 75 MiB");
}

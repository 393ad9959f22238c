//! What somebody may do who is known.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::address::Address as Place;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Peer;
use extauth::policy::Policies;
use proto::extauth::{Jwt, Key, Method, Policy};
use serde_json::{Value, json};

use crate::support::{ISSUER, Issuer, Service, api_keys, key, request, request_to, resources};

/// A policy as it is written, with one key of `acme` and anonymous access.
pub(crate) fn policy(rules: &Value, default: Option<&str>) -> Policy {
    let tiers = Key { tier: Some("gold".into()), labels: BTreeMap::new(), ..key("a-key", "acme") };
    let mut policy = json!({"name": "guard", "optional": true, "methods": [], "rules": rules});
    if let Some(default) = default {
        policy["default"] = default.into();
    }
    let mut policy: Policy = serde_json::from_value(policy).unwrap();
    policy.methods = vec![Method::ApiKey(api_keys(vec![tiers, key("b-key", "bcme")]))];
    policy
}

/// Allows what meets the conditions.
pub(crate) fn only(when: &Value) -> Service {
    Service::with(policy(&json!([{"name": "it", "action": "allow", "when": when}]), None))
}

/// Denies what meets the conditions.
pub(crate) fn all_but(when: &Value) -> Service {
    Service::with(policy(&json!([{"name": "it", "action": "deny", "when": when}]), Some("allow")))
}

pub(crate) fn acme(path: &str) -> CheckRequest {
    request_to(path, &[("x-api-key", "a-key")])
}

pub(crate) fn with(headers: &[(&str, &str)]) -> CheckRequest {
    request(&[&[("x-api-key", "a-key")], headers].concat())
}

pub(crate) fn from(address: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let mut request = with(headers);
    let socket = SocketAddress { address: address.into(), ..SocketAddress::default() };
    let address = Address { address: Some(Place::SocketAddress(socket)) };
    request.attributes.as_mut().unwrap().source = Some(Peer { address: Some(address), ..Peer::default() });
    request
}

pub(crate) fn error(policy: Policy) -> String {
    Policies::compile(&[policy], &resources()).unwrap_err().to_string()
}

/// Status for a token with these claims.
pub(crate) fn token(when: &Value, claims: Value) -> u16 {
    let issuer = Issuer::new("EdDSA");
    let mut policy = policy(&json!([{"name": "it", "action": "allow", "when": when}]), None);
    policy.methods = vec![Method::Jwt(Jwt { name: "main".into(), ..issuer.provider() })];
    let bearer = format!("Bearer {}", issuer.token(claims));
    Service::with(policy).ask(&request(&[("authorization", &bearer)])).status
}

#[test]
fn the_first_rule_that_fits_decides() {
    let service = Service::with(policy(
        &json!([
            {"name": "no-deletes", "action": "deny", "when": {"methods": ["DELETE"]}},
            {"name": "acme", "action": "allow", "when": {"clients": ["acme"]}, "unless": {"paths": [{"prefix": "/billing"}]}},
        ]),
        None,
    ));
    assert_eq!(service.ask(&acme("/orders")).status, 200);
    assert_eq!(service.ask(&acme("/billing/1")).status, 403);
    assert_eq!(service.ask(&request(&[("x-api-key", "b-key")])).status, 403, "the default denies");
    let mut delete = acme("/orders");
    delete.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap().method = "DELETE".into();
    assert_eq!(service.ask(&delete).status, 403);
    let anonymous = service.ask(&request(&[]));
    assert_eq!((anonymous.status, anonymous.challenge.as_deref()), (401, Some("ApiKey")), "who is unknown may say who");
    assert_eq!(service.ask(&request(&[("x-api-key", "wrong")])).status, 401, "rules do not make up for a wrong key");
}

#[test]
fn clients_tiers_and_methods_of_authentication_are_conditions() {
    for (when, expected) in [
        (json!({"clients": ["bcme", "acme"]}), 200),
        (json!({"clients": ["ACME"]}), 403),
        (json!({"tiers": ["gold"]}), 200),
        (json!({"tiers": ["silver"]}), 403),
        (json!({"tenants": ["blue"]}), 403),
        (json!({"authenticatedBy": ["api_key"]}), 200),
        (json!({"authenticatedBy": ["anonymous"]}), 403),
        (json!({"clients": ["acme"], "tiers": ["silver"]}), 403),
        (json!({"scopes": ["read"]}), 403),
        (json!({"claims": [{"claim": "client", "exact": "acme"}]}), 403),
        (json!({"methods": ["GET", "HEAD"], "hosts": ["*.example.com"]}), 200),
        (json!({"hosts": ["example.com"]}), 403),
    ] {
        assert_eq!(only(&when).ask(&acme("/")).status, expected, "{when}");
    }
}

#[test]
fn claims_scopes_roles_and_groups_are_conditions() {
    let claims = json!({
        "groups": ["ops", "dev"], "realm_access": {"roles": ["admin"]}, "https://example.com/plan": "pro", "level": 3,
        "email_verified": true, "scope": "read write", "nothing": null, "empty": "", "big": 9_007_199_254_740_993_u64,
    });
    for (when, expected) in [
        (json!({"groups": ["ops"]}), 200),
        (json!({"groups": ["op", "o"]}), 403),
        (json!({"roles": ["admin"]}), 200),
        (json!({"scopes": ["read", "write"]}), 200),
        (json!({"scopes": ["read", "delete"]}), 403),
        (json!({"claims": [{"claim": "realm_access.roles", "contains": "admin"}]}), 200),
        (json!({"claims": [{"claim": "realm_access.roles", "exact": "admin"}]}), 403),
        (json!({"claims": [{"claim": "https://example.com/plan", "in": ["free", "pro"]}]}), 200),
        (json!({"claims": [{"claim": "level", "exact": "3"}, {"claim": "email_verified", "exact": "true"}]}), 200),
        (json!({"claims": [{"claim": "level", "exact": "4"}]}), 403),
        (json!({"claims": [{"claim": "big", "exact": "9007199254740992"}]}), 403),
        (json!({"claims": [{"claim": "sub", "exact": "ada", "provider": "main"}]}), 200),
        (json!({"claims": [{"claim": "nothing", "present": false}, {"claim": "empty", "present": true}]}), 200),
        (json!({"claims": [{"claim": "absent", "present": true}]}), 403),
        (json!({"clients": ["ada"]}), 403),
    ] {
        assert_eq!(token(&when, claims.clone()), expected, "{when}");
    }
    for (claim, scopes) in [("scp", json!(["read"])), ("scp", json!("read write")), ("scope", json!(["read"]))] {
        assert_eq!(token(&json!({"scopes": ["read"]}), json!({(claim): scopes})), 200, "{claim}");
    }
    assert_eq!(token(&json!({"scopes": ["read"]}), json!({"scope": "readwrite", "scp": "spread"})), 403);
    assert_eq!(token(&json!({"claims": [{"claim": "iss", "exact": ISSUER}]}), json!({})), 200);
}

#[test]
fn a1_a5_cve_2026_26205_a_path_with_two_readings_is_neither_allowed_nor_spared() {
    let paths = [
        "//admin/secret",
        "/a//b",
        "/./admin",
        "/%2e%2e/admin",
        "/public/..%2fadmin",
        "/public/../admin",
        "/admin%2Fx",
        "/admin;x",
        "/public\\..\\admin",
        "/%2561dmin",
        "/%c0%ae%c0%ae/admin",
        "http://evil/admin",
        "/public%00/admin",
        "/public#/admin",
        "/public%23/../admin",
        "*",
        "shop.example.com:443",
    ];
    let (public, no_admin) =
        (only(&json!({"paths": [{"prefix": "/public"}]})), all_but(&json!({"paths": [{"prefix": "/admin"}]})));
    let regex = all_but(&json!({"paths": [{"regex": "/admin(/.*)?"}]}));
    for path in paths {
        for service in [&public, &no_admin, &regex] {
            assert_eq!(service.ask(&acme(path)).status, 403, "{path}");
        }
    }
    for service in [&no_admin, &regex] {
        assert_eq!(service.ask(&acme("/%61dmin/x")).status, 403);
        assert_eq!(service.ask(&acme("/administrators")).status, 200);
    }
}

#[test]
fn cve_2025_54576_a_query_is_no_part_of_the_path() {
    let status = only(&json!({"paths": [{"regex": "/api/.*/status"}]}));
    assert_eq!(status.ask(&acme("/api/x/status?full=1")).status, 200);
    assert_eq!(status.ask(&acme("/api/private/x?path=/status")).status, 403);
    assert_eq!(only(&json!({"paths": [{"exact": "/a"}]})).ask(&acme("/b?/a")).status, 403);
}

#[test]
fn cve_2026_40575_headers_that_name_another_path_are_not_looked_at() {
    let public = only(&json!({"paths": [{"prefix": "/public"}], "methods": ["GET"], "hosts": ["shop.example.com"]}));
    let headers =
        ["x-forwarded-uri", "x-original-uri", "x-original-url", "x-envoy-original-path", "x-forwarded-prefix"];
    for header in headers {
        let asked = request_to("/orders", &[("x-api-key", "a-key"), (header, "/public")]);
        assert_eq!(public.ask(&asked).status, 403, "{header}");
    }
    let elsewhere = only(&json!({"hosts": ["other.example.com"], "methods": ["POST"]}));
    let asked =
        [("x-forwarded-host", "other.example.com"), ("x-forwarded-method", "POST"), ("x-http-method-override", "POST")];
    assert_eq!(elsewhere.ask(&with(&asked)).status, 403);
}

#[test]
fn cve_2026_26308_headers_with_several_values_must_agree() {
    for when in [
        json!({"headers": [{"name": "x-role", "exact": "admin"}]}),
        json!({"headers": [{"name": "x-role", "in": ["admin", "root"]}]}),
        json!({"headers": [{"name": "x-role", "prefix": "adm"}]}),
        json!({"headers": [{"name": "X-Role", "regex": "adm.n"}]}),
    ] {
        let (admins, others) = (only(&when), all_but(&when));
        for (sent, may, may_not) in [
            (&[("x-role", "admin")][..], 200, 403),
            (&[("x-role", "admin, admin")], 200, 403),
            (&[("x-role", "user")], 403, 200),
            (&[], 403, 200),
            (&[("x-role", "user,admin")], 403, 403),
            (&[("x-role", "user"), ("X-Role", "admin")], 403, 403),
            (&[("x-role", "admin"), ("x_role", "user")], 403, 403),
            (&[("x.role", "admin")], 403, 403),
        ] {
            assert_eq!((admins.ask(&with(sent)).status, others.ask(&with(sent)).status), (may, may_not), "{sent:?}");
        }
    }
    let any = only(&json!({"headers": [{"name": "x-role", "contains": "admin"}]}));
    assert_eq!(any.ask(&with(&[("x-role", "user, admin")])).status, 200);
    let without = only(&json!({"headers": [{"name": "x-debug", "present": false}]}));
    assert_eq!(without.ask(&with(&[])).status, 200);
    assert_eq!(without.ask(&with(&[("x-debug", "")])).status, 403);
}

#[test]
fn addresses_are_envoys_and_no_headers() {
    let office = json!({"clientIps": ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]});
    let (inside, outside) = (only(&office), all_but(&office));
    for (address, may, may_not) in [
        ("10.1.2.3", 200, 403),
        ("::ffff:10.1.2.3", 200, 403),
        ("192.0.2.7", 200, 403),
        ("2001:db8::1", 200, 403),
        ("192.0.2.8", 403, 200),
        ("203.0.113.1", 403, 200),
        ("not an address", 403, 403),
    ] {
        let asked = from(address, &[("x-forwarded-for", "10.1.2.3"), ("x-real-ip", "10.1.2.3")]);
        assert_eq!((inside.ask(&asked).status, outside.ask(&asked).status), (may, may_not), "{address}");
    }
    assert_eq!(outside.ask(&acme("/")).status, 403, "who cannot be placed is not let in");
}

#[test]
fn h4_a_host_with_two_readings_is_neither_allowed_nor_spared() {
    let admin = json!({"hosts": ["admin.example.com"]});
    let (inside, outside) = (only(&admin), all_but(&admin));
    for (host, may, may_not) in [
        ("admin.example.com", 200, 403),
        ("ADMIN.example.com.:8080", 200, 403),
        ("shop.example.com", 403, 200),
        ("admin.example.com,shop.example.com", 403, 403),
        ("shop.example.com,admin.example.com", 403, 403),
        ("shop.example.com@admin.example.com", 403, 403),
        ("admin.example.com/", 403, 403),
        ("", 403, 403),
    ] {
        let mut asked = acme("/");
        let http = asked.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
        http.host = host.into();
        assert_eq!((inside.ask(&asked).status, outside.ask(&asked).status), (may, may_not), "{host}");
    }
}

#[test]
fn h9_a_forwarded_address_is_the_one_that_the_trusted_proxies_saw() {
    let rules = json!([{"name": "office", "action": "allow", "when": {"clientIps": ["192.0.2.0/24"], "cel": "source.address.startsWith('192.0.2.')"}}]);
    let behind = |hops| Service::with(Policy { trusted_hops: hops, ..policy(&rules, None) });
    let ask = |hops: u8, forwarded: &[&str]| {
        let headers: Vec<_> = forwarded.iter().map(|value| ("x-forwarded-for", *value)).collect();
        behind(hops).ask(&from("10.0.0.1", &headers)).status
    };
    for (hops, forwarded, expected) in [
        (1, &["192.0.2.7"][..], 200),
        (1, &["192.0.2.7, 10.0.0.1"], 200),
        (1, &["203.0.113.9, ::ffff:192.0.2.7"], 200),
        (2, &["192.0.2.7, 10.0.0.2"], 200),
        (2, &["192.0.2.7,10.0.0.2,10.0.0.1"], 200),
        (1, &["192.0.2.7, 203.0.113.9"], 403),
        (1, &["192.0.2.7, 203.0.113.9, 10.0.0.1"], 403),
        (0, &["192.0.2.7"], 403),
        // Who did not come through all of the proxies is nobody whose address is known.
        (1, &[], 403),
        (1, &["10.0.0.1"], 403),
        (2, &["192.0.2.7"], 403),
        (1, &["192.0.2.7, "], 403),
        (1, &["192.0.2.7, unknown"], 403),
        (1, &["192.0.2.7:80"], 403),
    ] {
        assert_eq!(ask(hops, forwarded), expected, "{hops} {forwarded:?}");
    }
    let near = from("127.0.0.1", &[("x-forwarded-for", "192.0.2.7, 192.0.2.2")]);
    assert_eq!(behind(1).ask(&near).status, 403, "Envoy may have added an address of its own machine");
    let unnamed = behind(1).ask(&request(&[("x-api-key", "a-key"), ("x-forwarded-for", "192.0.2.7")]));
    assert_eq!(unnamed.status, 403, "without Envoy's word nothing says how many of the addresses are proxies");
}

#[test]
fn what_could_never_have_an_effect_is_refused() {
    for (rules, default, problem) in [
        (json!([]), Some("allow"), "default: has no effect without `rules`"),
        (json!([{"name": "", "action": "allow"}]), None, "rules[0].name: must be set, and be no other rule's"),
        (
            json!([{"name": "a", "action": "allow"}, {"name": "a", "action": "deny"}]),
            None,
            "rules[1].name: must be set, and be no other rule's",
        ),
        (
            json!([{"name": "a", "action": "allow", "when": {"groups": ["ops", ""]}}]),
            None,
            "rules[0].when.groups[1]: is empty",
        ),
        (
            json!([{"name": "a", "action": "deny", "when": {"methods": ["get"]}}]),
            None,
            "rules[0].when.methods[0]: is no HTTP method; they are written in capitals",
        ),
        (
            json!([{"name": "a", "action": "deny", "when": {"authenticatedBy": ["jwt"]}}]),
            None,
            "rules[0].when.authenticatedBy[0]: is none of api_key, anonymous, which this policy has",
        ),
        (
            json!([{"name": "a", "action": "deny", "unless": {"hosts": ["https://a"]}}]),
            None,
            "rules[0].unless.hosts[0]: is no host name, no `*.` before one, and no `*`",
        ),
        (
            json!([{"name": "a", "action": "deny", "when": {"paths": [{"prefix": "admin"}]}}]),
            None,
            "rules[0].when.paths[0]: the path does not start with a slash",
        ),
        (
            json!([{"name": "a", "action": "deny", "when": {"paths": [{"exact": "/%61"}]}}]),
            None,
            "rules[0].when.paths[0]: must be written decoded and without query",
        ),
        (
            json!([{"name": "a", "action": "deny", "when": {"paths": [{"regex": "("}]}}]),
            None,
            "rules[0].when.paths[0]: error: unclosed group",
        ),
        (
            json!([{"name": "a", "action": "deny", "when": {"clientIps": ["10.0.0.0/33"]}}]),
            None,
            "rules[0].when.clientIps[0]: is no IP address, and no network such as 10.0.0.0/8",
        ),
        (
            json!([{"name": "a", "action": "deny", "when": {"headers": [{"name": "x"}]}}]),
            None,
            "rules[0].when.headers[0].name: takes exactly one of `exact`, `in`, `prefix`, `regex`, `contains` and `present`",
        ),
        (
            json!([{"name": "a", "action": "deny", "when": {"claims": [{"claim": "x", "exact": "1", "present": true}]}}]),
            None,
            "rules[0].when.claims[0].claim: takes exactly one of `exact`, `in`, `contains` and `present`",
        ),
        (
            json!([{"name": "a", "action": "deny", "when": {"claims": [{"claim": "x", "provider": "y", "exact": "1"}]}}]),
            None,
            "rules[0].when.claims[0].provider: is the name of no method of this policy",
        ),
    ] {
        assert_eq!(error(policy(&rules, default)), format!("policy `guard`: {problem}"));
    }
    let hops = Policy { trusted_hops: 1, ..policy(&json!([]), None) };
    assert_eq!(error(hops), "policy `guard`: trustedHops: has no effect without `rules`");
    let unknown = json!([{"name": "a", "action": "deny", "when": {"path": "/admin"}}]);
    assert!(serde_json::from_value::<Policy>(json!({"name": "a", "methods": [], "rules": unknown})).is_err());
}

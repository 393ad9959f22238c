//! Which policy guards a request when Envoy names none.

use std::time::UNIX_EPOCH;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use extauth::check::Check;
use extauth::policy::Policies;
use proto::extauth::{Method, Policy};
use serde_json::{Value, json};

use crate::support::{Answer, api_keys, key, request_to, resources, wait};

/// A policy that lets everybody pass and says its name.
fn policy(name: &str, matches: &Value) -> Policy {
    let policy = json!({
        "name": name, "optional": true, "methods": [], "match": matches, "results": {"headers": [{"name": "x-policy", "value": name}]},
    });
    Policy {
        methods: vec![Method::ApiKey(api_keys(vec![key("a-key", "acme")]))],
        ..serde_json::from_value(policy).unwrap()
    }
}

fn asked(host: &str, path: &str, named: Option<&str>) -> CheckRequest {
    let mut request = request_to(path, &[]);
    let attributes = request.attributes.as_mut().unwrap();
    attributes.context_extensions.clear();
    attributes.context_extensions.extend(named.map(|name| ("policy".to_owned(), name.to_owned())));
    attributes.request.as_mut().unwrap().http.as_mut().unwrap().host = host.into();
    request
}

fn ask(policies: &Policies, request: &CheckRequest) -> String {
    let answer = Answer::of(wait(policies.check(&Check::new(request, UNIX_EPOCH).unwrap())).into());
    answer.set.get("x-policy").cloned().unwrap_or_else(|| answer.status.to_string())
}

#[test]
fn the_longest_host_and_then_the_longest_path_wins() {
    let policies = [
        policy("shop", &json!([{"hosts": ["shop.example.com"]}])),
        policy(
            "admin",
            &json!([{"hosts": ["shop.example.com", "*.example.com"], "pathPrefixes": ["/admin", "/admin/api/"]}]),
        ),
        policy("deep", &json!([{"hosts": ["*.eu.example.com"]}])),
        policy("health", &json!([{"pathPrefixes": ["/healthz"]}])),
        policy("named", &json!([])),
    ];
    let policies = Policies::compile(&policies, &resources()).unwrap();
    for (host, path, expected) in [
        ("shop.example.com", "/", "shop"),
        ("SHOP.example.com:8443", "/orders", "shop"),
        ("shop.example.com.", "/administrators", "shop"),
        ("shop.example.com", "/admin?x", "admin"),
        ("shop.example.com", "/%61dmin/x", "admin"),
        ("blog.example.com", "/admin/x", "admin"),
        ("blog.example.com", "/", "403"),
        ("blog.example.com", "/healthz", "403"),
        ("a.eu.example.com", "/admin", "deep"),
        ("other.org", "/healthz", "health"),
        ("other.org", "/", "403"),
        ("user@shop.example.com", "/", "403"),
        ("", "/", "403"),
        // One of these paths is somebody else's; nobody knows whose the request is.
        ("shop.example.com", "//admin", "403"),
        ("shop.example.com", "/x/..%2fadmin", "403"),
        ("shop.example.com", "*", "403"),
        // There is no path to choose by.
        ("a.eu.example.com", "//x", "deep"),
    ] {
        assert_eq!(ask(&policies, &asked(host, path, None)), expected, "{host} {path}");
    }
    for (named, expected) in [("named", "named"), ("shop", "shop"), ("other", "403"), ("", "403")] {
        assert_eq!(
            ask(&policies, &asked("shop.example.com", "/admin", Some(named))),
            expected,
            "Envoy's word comes first"
        );
    }
}

#[test]
fn c38_nothing_but_the_one_extension_and_envoys_own_host_chooses() {
    let policies = [
        policy("open", &json!([{"hosts": ["open.example.com"]}])),
        policy("shut", &json!([{"hosts": ["shut.example.com"]}])),
    ];
    let policies = Policies::compile(&policies, &resources()).unwrap();
    let mut request = asked("shut.example.com", "/", None);
    let attributes = request.attributes.as_mut().unwrap();
    attributes.context_extensions.insert("host".into(), "open.example.com".into());
    let http = attributes.request.as_mut().unwrap().http.as_mut().unwrap();
    for name in ["host", "x-forwarded-host", "x-policy", "policy"] {
        http.headers.insert(name.into(), "open.example.com".into());
    }
    assert_eq!(ask(&policies, &request), "shut");
}

#[test]
fn two_policies_do_not_share_a_place() {
    let place = json!([{"hosts": ["a.example.com"], "pathPrefixes": ["/x/"]}]);
    let error = |second: &Value| {
        Policies::compile(&[policy("one", &place), policy("two", second)], &resources()).unwrap_err().to_string()
    };
    assert_eq!(
        error(&json!([{"hosts": ["A.example.com"], "pathPrefixes": ["/x"]}])),
        "policy `two`: match[0].hosts: host and path are those of the policy `one` as well"
    );
    let host = "policy `two`: match[0].hosts[0]: is no host name, no `*.` before one, and no `*`";
    assert_eq!(error(&json!([{"hosts": ["a.example.com:443"]}])), host);
    let path = "policy `two`: match[0].pathPrefixes[0]: is no path that starts with a slash, decoded and without query";
    assert_eq!(error(&json!([{"pathPrefixes": ["x"]}])), path);
}

#[test]
fn a_broken_policy_keeps_its_place() {
    let mut broken = policy("broken", &json!([{"hosts": ["shop.example.com"], "pathPrefixes": ["/admin"]}]));
    broken.methods.clear();
    let open = policy("open", &json!([{"hosts": ["shop.example.com"]}]));
    let (policies, errors) = Policies::compile_each(&[open.clone(), broken], &resources());
    assert_eq!(errors.len(), 1);
    assert_eq!(ask(&policies, &asked("shop.example.com", "/admin/x", None)), "500");
    assert_eq!(ask(&policies, &asked("shop.example.com", "/", None)), "open");

    let unreadable = policy("unreadable", &json!([{"hosts": ["shop.example.com"], "pathPrefixes": ["admin"]}]));
    let (policies, _) = Policies::compile_each(&[open, unreadable], &resources());
    assert_eq!(ask(&policies, &asked("shop.example.com", "/admin/x", None)), "403", "no other policy takes over");
    assert_eq!(ask(&policies, &asked("", "/", Some("open"))), "open");
}

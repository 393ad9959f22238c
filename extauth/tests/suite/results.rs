//! What goes out with a request that may pass, and what a client reads whose request may not.

use proto::extauth::{Jwt, Key, Method, Policy};
use serde_json::{Value, json};

use crate::support::{Answer, Issuer, Service, api_keys, key, request, request_to, resources};

/// A policy with an API key and JSON beside it.
fn service(more: &Value) -> Service {
    Service::with(policy(more))
}

fn policy(more: &Value) -> Policy {
    let mut policy = json!({"name": "guard", "methods": []});
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut policy: Policy = serde_json::from_value(policy).unwrap();
    let labels = [("team".to_owned(), "blue & co".to_owned())].into();
    let acme = Key { tier: Some("gold".into()), labels, ..key("a-key", "acme") };
    policy.methods = vec![Method::ApiKey(api_keys(vec![acme]))];
    policy
}

fn problem(more: &Value) -> String {
    extauth::policy::Policies::compile(&[policy(more)], &resources()).unwrap_err().to_string()
}

fn accepting(accept: &str) -> Answer {
    service(&json!({})).ask(&request(&[("accept", accept)]))
}

#[test]
fn headers_parameters_and_metadata_go_out() {
    let service = service(&json!({"results": {
        "headers": [
            {"name": "x-user", "value": "{client}"}, {"name": "x-from", "value": "team {labels.team} of {tier}"},
            {"name": "x-none", "value": "{tenant}"}, {"name": "x-static", "value": "yes"}, {"name": "x-client", "value": "ours"},
        ],
        "removeHeaders": ["x-debug"],
        "query": [{"name": "tier", "value": "{tier}"}, {"name": "team", "value": "{labels.team}"}, {"name": "none", "value": "{tenant}"}],
        "removeQuery": ["debug"],
        "responseHeaders": [{"name": "x-tier", "value": "{tier}"}],
        "metadata": {"plan": "{tier}", "static": "1", "who": "{method}:{client}", "all": "{labels.team}", "none": "{tenant}"},
    }}));
    let headers = [
        ("x-api-key", "a-key"),
        ("X_User", "root"),
        ("x-none", "root"),
        ("x.none", "root"),
        ("x-debug", "1"),
        ("X_Debug", "1"),
    ];
    let answer = service.ask(&request_to("/?a=1&tier=platinum&t%69er=platinum&none=x&debug=1&d%65bug=1", &headers));
    assert_eq!(answer.status, 200);
    let expected =
        [("x-client", "ours"), ("x-from", "team blue & co of gold"), ("x-static", "yes"), ("x-user", "acme")];
    assert_eq!(answer.set, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    for gone in ["X_User", "x-none", "x.none", "x-debug", "X_Debug"] {
        assert!(answer.removes(gone), "{gone}: {:?}", answer.removed);
    }
    assert_eq!(
        answer.query_set,
        [("tier", "gold"), ("team", "blue%20%26%20co")].map(|(a, b)| (a.into(), b.into())).into()
    );
    let mut removed = answer.query_removed.clone();
    removed.sort();
    assert_eq!(removed, ["d%65bug", "debug", "none", "t%69er"], "however a client encodes them");
    assert_eq!(answer.headers["x-tier"], "gold");
    let (plan, who) = (&answer.metadata["plan"], &answer.metadata["who"]);
    assert_eq!((plan, who, &answer.metadata["static"]), (&json!("gold"), &json!("api_key:acme"), &json!("1")));
    assert_eq!((answer.metadata.get("none"), &answer.metadata["client"]), (None, &json!("acme")));
}

#[test]
fn h1_results_are_nobodys_own_on_any_way_through() {
    let results = json!({"optional": true, "results": {"headers": [{"name": "x-user", "value": "{client}"}]}});
    let answer = service(&results).ask(&request(&[("x-user", "root"), ("x_user", "root")]));
    assert_eq!((answer.status, answer.set.len()), (200, 0));
    assert!(answer.removes("x-user") && answer.removes("x_user"));
}

#[test]
fn claims_keep_their_type_in_metadata_and_never_break_a_header() {
    let issuer = Issuer::new("EdDSA");
    let mut policy = policy(&json!({"results": {
        "headers": [{"name": "x-groups", "value": "{claims.groups}"}, {"name": "x-name", "value": "<{claims.name}>"}],
        "metadata": {"groups": "{claims.groups}", "level": "{claims.org.level}", "text": "l{claims.org.level}"},
    }}));
    policy.methods = vec![Method::Jwt(Jwt { name: "main".into(), ..issuer.provider() })];
    let service = Service::with(policy);
    let ask = |claims: Value| service.ask(&request(&[("authorization", &format!("Bearer {}", issuer.token(claims)))]));
    let answer = ask(json!({"groups": ["a", "b"], "org": {"level": 3}, "name": "Ada"}));
    assert_eq!((answer.set["x-groups"].as_str(), answer.set["x-name"].as_str()), ("a,b", "<Ada>"));
    assert_eq!(answer.metadata["groups"], json!(["a", "b"]));
    assert_eq!((&answer.metadata["level"], &answer.metadata["text"]), (&json!(3.0), &json!("l3")));
    assert!(!ask(json!({"groups": ["a,admin"], "name": {}})).set.contains_key("x-groups"), "two groups are not one");
    for name in ["Ada\r\nx-admin: 1", "Ada\0", "Ada\u{85}"] {
        assert_eq!(ask(json!({"name": name})).status, 403, "H6 {name:?}");
    }
}

#[test]
fn results_that_cannot_be_are_refused() {
    for (results, expected) in [
        (
            json!({"headers": [{"name": "host", "value": "a"}]}),
            "results.headers[0].name: names a header that must not be set",
        ),
        (
            json!({"headers": [{"name": "x", "value": "{clients}"}]}),
            "results.headers[0].value: has `{clients}`, which is none of client, tier, tenant, method, scopes, labels.NAME and claims.PATH",
        ),
        (
            json!({"responseHeaders": [{"name": "x", "value": "a\r\nb"}]}),
            "results.responseHeaders[0].value: has characters that a header value must not have",
        ),
        (
            json!({"query": [{"name": "a&b", "value": "1"}]}),
            "results.query[0]: is no name of letters, digits, `-`, `_`, `.` and `~`",
        ),
        (
            json!({"metadata": {"client": "root"}}),
            "results.metadata.client: is none of ours: method, client, tier, tenant, scopes, labels",
        ),
    ] {
        assert_eq!(problem(&json!({"results": results})), format!("policy `guard`: {expected}"));
    }
    for (denied, expected) in [
        (json!({"unauthorized": {"status": 200}}), "denied.unauthorized.status: is no HTTP status from 300 to 599"),
        (json!({"unauthenticated": {"json": "{"}}), "denied.unauthenticated.json: is no JSON"),
        (
            json!({"unauthenticated": {"headers": [{"name": "x", "value": "a\nb"}]}}),
            "denied.unauthenticated.headers[0].value: has characters that a header value must not have",
        ),
    ] {
        assert_eq!(problem(&json!({"denied": denied})), format!("policy `guard`: {expected}"));
    }
}

#[test]
fn people_read_a_page_programs_a_problem_and_all_others_text() {
    let browser = accepting("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    assert_eq!((browser.status, browser.headers["content-type"].as_str()), (401, "text/html; charset=utf-8"));
    assert!(
        browser.body.contains("<h1>Please sign in</h1>") && browser.body.contains("Status 401"),
        "{}",
        browser.body
    );
    assert!(!browser.body.contains("<script") && !browser.body.contains("http"), "nothing runs, nothing is fetched");
    assert!(browser.headers["content-security-policy"].starts_with("default-src 'none'"));
    assert_eq!((browser.headers["cache-control"].as_str(), browser.challenge.as_deref()), ("no-store", Some("ApiKey")));

    for accept in ["application/json", "application/json, text/plain, */*", "application/problem+json;q=0.9, text/html"]
    {
        let program = accepting(accept);
        assert_eq!(program.headers["content-type"], "application/problem+json", "{accept}");
        let problem: Value = serde_json::from_str(&program.body).unwrap();
        let expected = json!({
            "type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "Client authentication failed.",
        });
        assert_eq!(problem, expected);
    }
    for accept in ["*/*", "", "image/png", "text/plain, text/html"] {
        let other = accepting(accept);
        assert_eq!(
            (other.body.as_str(), other.headers["content-type"].as_str()),
            ("Client authentication failed.", "text/plain")
        );
    }
    let unknown = service(&json!({"rules": [{"name": "none", "action": "deny"}]}));
    let page = unknown.ask(&request(&[("x-api-key", "a-key"), ("accept", "text/html")]));
    assert!(page.status == 403 && page.body.contains("<h1>You have no access</h1>"), "{}", page.body);
}

#[test]
fn a_policy_has_its_own_words() {
    let service = service(&json!({
        "rules": [{"name": "none", "action": "deny"}],
        "denied": {
            "unauthenticated": {"status": 302, "headers": [{"name": "location", "value": "https://login.example.com/"}], "text": ""},
            "unauthorized": {"status": 404, "text": "nothing here", "json": "{\"error\": 1}", "html": "<h1>None</h1>"},
        },
    }));
    let login = service.ask(&request(&[]));
    assert_eq!(
        (login.status, login.headers["location"].as_str(), login.body.as_str()),
        (302, "https://login.example.com/", "")
    );
    for (accept, body, kind) in [
        ("*/*", "nothing here", "text/plain"),
        ("text/html", "<h1>None</h1>", "text/html; charset=utf-8"),
        ("application/json", "{\"error\": 1}", "application/json"),
    ] {
        let answer = service.ask(&request(&[("x-api-key", "a-key"), ("accept", accept)]));
        assert_eq!((answer.status, answer.body.as_str(), answer.headers["content-type"].as_str()), (404, body, kind));
    }
    for kind in ["application/grpc", "application/grpc+proto", "application/grpc-web"] {
        let grpc = service.ask(&request(&[("x-api-key", "a-key"), ("content-type", kind), ("accept", "text/html")]));
        assert_eq!((grpc.status, grpc.body.as_str()), (403, "Forbidden"), "Envoy makes grpc-status of it");
    }
}

#[test]
fn a_shadow_lets_pass_as_nobody() {
    let service = service(&json!({
        "shadow": true,
        "rules": [{"name": "gold", "action": "allow", "when": {"paths": [{"prefix": "/open"}]}}],
        "results": {"headers": [{"name": "x-user", "value": "{client}"}]},
    }));
    let known = service.ask(&request_to("/open", &[("x-api-key", "a-key"), ("x-user", "root")]));
    assert_eq!((known.status, known.set["x-user"].as_str()), (200, "acme"));
    for headers in [&[("x-api-key", "a-key")][..], &[("x-api-key", "wrong")], &[]] {
        let spared =
            service.ask(&request_to("/closed", &[headers, &[("x-user", "root"), ("x_client", "root")]].concat()));
        assert_eq!((spared.status, spared.set.len()), (200, 0), "{headers:?}");
        assert!(spared.removes("x-user") && spared.removes("x_client"));
        assert_eq!(spared.metadata, json!({"method": "anonymous"}));
    }
}

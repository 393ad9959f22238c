//! Conditions in CEL: what they see, what they may cost, and what becomes of those that fail.

use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::rules::{acme, all_but, error, from, only, policy, token, with};

fn allows(expression: &str, request: &CheckRequest) -> bool {
    only(&json!({"cel": expression})).ask(request).status == 200
}

/// Why an expression does not load.
fn problem(expression: &str) -> String {
    let error = error(policy(&json!([{"name": "it", "action": "allow", "when": {"cel": expression}}]), None));
    error.strip_prefix("policy `guard`: rules[0].when.cel: ").unwrap().to_owned()
}

fn with_body(body: &[u8], partial: Option<&str>) -> CheckRequest {
    let mut request =
        with(&partial.map(|partial| ("x-envoy-auth-partial-body", partial)).into_iter().collect::<Vec<_>>());
    let http = request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.size = -1;
    http.raw_body = body.to_vec();
    request
}

#[test]
fn expressions_see_the_request_and_who_sent_it() {
    let request = from("10.1.2.3", &[("x-role", "user, admin"), ("X-Team", "blue")]);
    for expression in [
        "request.method == 'GET' && request.host == 'shop.example.com'",
        "request.path == '/orders' && request.path.startsWith('/or')",
        "request.query == '' && request.time == 1900000000",
        "'admin' in request.headers['x-role'] && request.headers['x-role'].size() == 2",
        "request.headers['x-team'] == ['blue']",
        "request.headers['x-role'].exists(role, role.matches('^adm.n$'))",
        "request.headers['x-role'].filter(role, role != 'user') == ['admin']",
        "request.headers['x-role'].map(role, role.size()) == [4, 5]",
        "auth.method == 'api_key' && auth.client == 'acme' && auth.tier == 'gold'",
        "!has(auth.tenant)",
        "source.address == '10.1.2.3'",
    ] {
        assert!(allows(expression, &request), "{expression}");
    }
    let claims = json!({"groups": ["ops"], "realm": {"tenant": "blue"}, "level": 3, "https://example.com/plan": "pro"});
    for (expression, expected) in [
        ("claims.sub == 'ada' && claims.level >= 3 && claims.level == 3", 200),
        ("claims.realm.tenant == 'blue' && claims['https://example.com/plan'] == 'pro'", 200),
        ("claims.groups.all(group, group in ['ops', 'dev'])", 200),
        ("claims.groups.exists_one(group, group == 'dev')", 403),
    ] {
        assert_eq!(token(&json!({"cel": expression}), claims.clone()), expected, "{expression}");
    }
}

#[test]
fn c45_an_expression_that_fails_denies_in_either_kind_of_rule() {
    for expression in [
        "claims.sub == 'ada'",
        "request.headers['x-role'] == ['admin']",
        "auth.tenant == 'blue'",
        "source.address == '10.1.2.3'",
        "auth.client > 3",
        "auth.client",
        "1 / 0 == 1",
        "[1][3] == 1",
        "9223372036854775807 + 1 > 0",
        "int(auth.client) == 1",
    ] {
        let when = json!({"cel": expression});
        assert_eq!(only(&when).ask(&acme("/")).status, 403, "{expression}");
        assert_eq!(all_but(&when).ask(&acme("/")).status, 403, "{expression}");
    }
    assert_eq!(all_but(&json!({"cel": "auth.client == 'bcme'"})).ask(&acme("/")).status, 200);
    let path = all_but(&json!({"cel": "request.path.startsWith('/admin')"}));
    assert_eq!(path.ask(&acme("//admin")).status, 403, "A1");
    assert_eq!(path.ask(&acme("/%61dmin")).status, 403);
    assert_eq!(
        all_but(&json!({"cel": "request.method == 'PUT'"})).ask(&acme("//admin")).status,
        200,
        "no path is asked"
    );
}

#[test]
fn c46_a_body_that_is_cut_off_is_no_body() {
    let harmless = all_but(&json!({"cel": "body.contains('drop table')"}));
    assert_eq!(harmless.ask(&with_body(b"select", Some("false"))).status, 200);
    assert_eq!(harmless.ask(&with_body(b"drop table", Some("false"))).status, 403);
    for (body, partial) in [(&b"select"[..], Some("true")), (b"", None), (b"select", None), (b"\xff", Some("false"))] {
        assert_eq!(harmless.ask(&with_body(body, partial)).status, 403, "{body:?} {partial:?}");
    }
    let mut twice = with_body(b"select", Some("false,true"));
    assert_eq!(harmless.ask(&twice).status, 403, "a client's own header does not make it whole");
    twice = with_body(b"select", Some("false"));
    let http = twice.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.headers.insert("content-length".into(), "600".into());
    assert_eq!(harmless.ask(&twice).status, 403);
    assert_eq!(harmless.ask(&with_body(&vec![b'a'; 70_000], Some("false"))).status, 403, "more than is looked at");
}

#[test]
fn cve_2022_28946_expressions_that_cannot_be_bounded_do_not_load() {
    for (expression, expected) in [
        (&"a".repeat(5000)[..], "is longer than 4096 bytes"),
        (&format!("{}true{}", "(".repeat(40), ")".repeat(40)), "is nested too deep"),
        ("auth.client.matches(auth.tier)", "`matches` takes a regular expression that stands in the rule"),
        ("auth.client.matches('(')", "matches: error: unclosed group"),
        ("auth.client.matches('((a{1000}){1000}){1000}')", "matches: needs more than 262144 bytes; count less in it"),
        ("['a'].map(x, x + x).size() == 1", "adds within a loop"),
        ("['a'].map(x, [x, x]).size() == 1", "builds a list or a map within a loop"),
        ("['a'].map(x, {'k': x}).size() == 1", "builds a list or a map within a loop"),
        ("auth.client.format(['x'])", "calls `format`, which is not known"),
        ("auth.client.replace('', 'xxxx') == ''", "calls `replace`, which is not known"),
        ("client == 'acme'", "knows no `client`, only auth, body, claims, request and source"),
        ("request.url == ''", "`request` has no `url`, only method, host, path, query, headers, time"),
        ("claims.a.all(x, claims.a.all(y, x == y))", "may take"),
        (&format!("{}a == 1", "a.".repeat(500)), "is nested too deep"),
        (&format!("{}1 == 1", "1-".repeat(2000)), "is nested too deep"),
        (&format!("{}1 == 17", "1+".repeat(17)), "adds more than 16 times"),
    ] {
        assert!(problem(expression).starts_with(expected), "{expression}: {}", problem(expression));
    }
    for bad in ["", "true &&", "auth.", "'", "\u{0}", "((((", "true;", "a.b{c: 1}", "!!!!!!", "-", "[", "x ? y"] {
        problem(bad);
    }
    let start = Instant::now();
    for text in ["!", "-", "a.", "a?", "1+", "x[", "(", "{", "\"", "//", "a?b:", "!(", "f(", "a||", "[["] {
        problem(&text.repeat(4096 / text.len()));
    }
    assert!(start.elapsed() < Duration::from_mins(1), "reading bad expressions took {:?}", start.elapsed());
}

#[test]
fn c45_the_dearest_expression_is_bounded() {
    let groups: Vec<Value> = (0..1024).map(|n| json!(format!("group-{n}"))).collect();
    let body = "(g != 'x' && g.contains('p-') && g.matches('^(a+)+$|g') && g in ['a','b','c'] || g.size() == 3)";
    let dear = format!("claims.g.all(g, {})", [body; 2].join(" && "));
    let start = Instant::now();
    let status = token(&json!({"cel": dear}), json!({"g": groups[..500]}));
    assert_eq!(status, 403, "no group is one of these");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let many = "claims.g.size() > 0";
    let short: Vec<Value> = (0..1100).map(|n| json!(n % 10)).collect();
    assert_eq!(token(&json!({"cel": many}), json!({"g": short[..1000]})), 200);
    assert_eq!(token(&json!({"cel": many}), json!({"g": short})), 403, "more than is looked at");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_expression_panics(expression in "(request|claims|auth|source|body|\\.|path|\\[|\\]|\\(|\\)|'a'|1|==|&&|\\|\\||!|\\?|:|in|has|all|exists|map|x|,| |\\+|-|\\{|\\}){0,24}") {
        let policy = policy(&json!([{"name": "it", "action": "allow", "when": {"cel": expression}}]), None);
        if let Ok(policies) = extauth::policy::Policies::compile(&[policy], &crate::support::resources()) {
            let request = acme("/");
            let check = extauth::check::Check::new(&request, std::time::UNIX_EPOCH).unwrap();
            crate::support::wait(policies.check(&check));
        }
    }
}

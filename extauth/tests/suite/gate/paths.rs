//! Paths in every spelling: what the rules take for harmless, no upstream may take for anything else.

use std::collections::BTreeSet;

use extauth::path::below;
use serde_json::{Value, json};

use super::{policy, send};
use crate::envoy::{House, manager};

/// Every path that some server may make of one.
fn readings(path: &str) -> BTreeSet<String> {
    let mut readings = BTreeSet::from([path.split('?').next().unwrap().to_owned()]);
    let steps: [fn(&str) -> String; 8] = [
        |path| percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned(),
        |path| path.replace('\\', "/"),
        |path| path.split('/').map(|segment| segment.split(';').next().unwrap()).collect::<Vec<_>>().join("/"),
        |path| path.split(['#', '?', '\0']).next().unwrap().to_owned(),
        |path| path.split("//").filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"),
        without_dots,
        |path| path.replace("%c0%ae", ".").replace("%c0%af", "/"),
        |path| path.strip_prefix("http://evil").unwrap_or(path).to_owned(),
    ];
    // Each step after any other, as often as they find something new.
    loop {
        let new: Vec<_> = readings.iter().flat_map(|path| steps.map(|step| step(path))).collect();
        let before = readings.len();
        readings.extend(new.into_iter().map(|path| if path.starts_with('/') { path } else { format!("/{path}") }));
        if readings.len() == before {
            return readings;
        }
    }
}

fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

const PATHS: [&str; 58] = [
    "/",
    "/public",
    "/public/x",
    "/public/a%20b",
    "/public/%E4%BD%A0",
    "/publications",
    "/orders",
    "/administrators",
    "/admin",
    "/admin/",
    "/admin/users?x=/public",
    "/public?x=/admin",
    "//admin",
    "///admin/x",
    "/public//admin",
    "/./admin",
    "/public/./x",
    "/public/../admin",
    "/public/..",
    "/public/../../admin",
    "/public/%2e%2e/admin",
    "/public/%2E%2e/admin",
    "/public/.%2e/admin",
    "/%2e/admin",
    "/public%2f..%2fadmin",
    "/public%2F../admin",
    "/public/..%2fadmin",
    "/%2fadmin",
    "/admin%2fx",
    "/admin%2e",
    "/public/..%5cadmin",
    "/public%5c..%5cadmin",
    "/public\\..\\admin",
    "/\\admin",
    "/admin;x",
    "/admin;x=1/y",
    "/public/..;/admin",
    "/;/admin",
    "/public;/../admin",
    "/%61dmin",
    "/%61%64%6d%69%6e/x",
    "/%2561dmin",
    "/%252e%252e/admin",
    "/public/%252e%252e/admin",
    "/admin%00",
    "/admin%00.png",
    "/public/%00/../admin",
    "/admin%23",
    "/admin%3f",
    "/public#/../admin",
    "/public%23/../admin",
    "/%c0%ae%c0%ae/admin",
    "/public/%c0%ae%c0%ae/admin",
    "/%c0%afadmin",
    "/admin%ff",
    "/admin%zz",
    "http://evil/admin",
    "*",
];

/// Two routes for `/admin` and two for the rest; a header chooses between the policies.
fn two_policies(config: &mut Value) {
    let host = &mut manager(config)["route_config"]["virtual_hosts"][0];
    let plain = host["routes"][0].clone();
    let route = |path: &str, kind: &str, policy: &str| {
        let mut route = plain.clone();
        let name = json!([{"name": "x-case", "string_match": {"exact": policy}}]);
        route["match"] = json!({path: kind, "headers": name});
        route["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["check_settings"]["context_extensions"]["policy"] =
            policy.into();
        route["response_headers_to_add"] = json!([{"header": {"key": "x-route", "value": kind}}]);
        route
    };
    let routes: Vec<Value> = ["open", "shut"]
        .iter()
        .flat_map(|policy| [route("path_separated_prefix", "/admin", policy), route("prefix", "/", policy)])
        .chain([plain.clone()])
        .collect();
    host["routes"] = routes.into();
}

#[test]
fn a12_cve_2026_26205_the_rules_path_is_the_one_that_the_upstream_sees() {
    let open = json!({"rules": [{"name": "no-admin", "action": "deny", "when": {"paths": [{"prefix": "/admin"}]}}], "default": "allow"});
    let shut = json!({"rules": [{"name": "public", "action": "allow", "when": {"paths": [{"prefix": "/public"}]}}]});
    for normalized in [false, true] {
        let policies = vec![policy("guard", &json!({})), policy("open", &open), policy("shut", &shut)];
        let house = House::with(policies, |_, config| {
            two_policies(config);
            let manager = manager(config);
            manager["normalize_path"] = normalized.into();
            manager["merge_slashes"] = normalized.into();
        });
        let mut passed = 0;
        for path in PATHS {
            for case in ["open", "shut"] {
                let Some(answer) = send(&house, "GET", path, &[&format!("x-case: {case}")]) else { continue };
                if answer.status != 200 {
                    continue;
                }
                passed += 1;
                let target = answer.body.split(' ').nth(1).unwrap();
                assert!(!answer.headers.contains("x-route: /admin"), "{case} {path}: Envoy takes it for /admin");
                for reading in readings(target) {
                    let admin = below(&reading, "/admin");
                    let public = below(&reading, "/public");
                    assert!(if case == "open" { !admin } else { public }, "{case} {path}: {target} may be {reading}");
                }
            }
        }
        assert!(passed >= 10, "{passed} of them are harmless");
        for (path, case, expected) in
            [("/orders", "open", 200), ("/administrators", "open", 200), ("/public/a%20b", "shut", 200)]
        {
            assert_eq!(send(&house, "GET", path, &[&format!("x-case: {case}")]).unwrap().status, expected, "{path}");
        }
        let merged = send(&house, "GET", "/public//x", &["x-case: shut"]).unwrap().status;
        assert_eq!(merged, if normalized { 200 } else { 401 }, "what Envoy makes clear is clear");
    }
}

//! Policies attach, win, lose, merge and report as upstream has it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use controller_core::{
    Settings, Snapshot, Translation,
    ir::{Action, HttpRoute, Jwks},
    translate,
    xds::Type,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Two Gateways, the first with two listeners, and a route with two rules on all of them.
const BASE: &str = r"
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: eg},
 spec: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: gw, namespace: default},
 spec: {gatewayClassName: eg, listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 81, protocol: HTTP}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: other, namespace: default},
 spec: {gatewayClassName: eg, listeners: [{name: a, port: 80, protocol: HTTP}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: app, namespace: default, labels: {team: x}},
 spec: {parentRefs: [{name: gw}, {name: other}], rules: [
  {name: one, matches: [{path: {value: /one}}], backendRefs: [{name: svc, port: 80}]},
  {name: two, matches: [{path: {value: /two}}], backendRefs: [{name: svc, port: 80}]}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: plain, namespace: default},
 spec: {parentRefs: [{name: gw, sectionName: a}], rules: [
  {matches: [{path: {value: /plain}}], backendRefs: [{name: svc, port: 80}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: svc, namespace: default}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {name: svc, namespace: default, labels: {kubernetes.io/service-name: svc}},
 ports: [{name: http, port: 8080, protocol: TCP}], endpoints: [{addresses: [10.0.0.1]}]}
---
{apiVersion: v1, kind: Secret, metadata: {name: keys, namespace: default, annotations: {tollgate.dev/tier: gold}},
 stringData: {alice: secret-of-alice}}
";

fn objects(yaml: &str) -> Vec<Value> {
    let documents = yaml.split("\n---\n").filter(|document| !document.trim().is_empty());
    documents.map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

fn translated_with(settings: &Settings, policies: impl IntoIterator<Item = Value>) -> Translation {
    let mut snapshot = Snapshot::default();
    for object in objects(BASE).into_iter().chain(policies) {
        snapshot.insert(object).unwrap();
    }
    translate(&snapshot, settings)
}

fn translated(policies: impl IntoIterator<Item = Value>) -> Translation {
    translated_with(&Settings::default(), policies)
}

fn policy(kind: &str, name: &str, spec: &str) -> Value {
    json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": serde_saphyr::from_str::<Value>(&format!("{{{spec}}}")).unwrap(),
    })
}

fn traffic(name: &str, spec: &str) -> Value {
    policy("BackendTrafficPolicy", name, spec)
}

fn security(name: &str, spec: &str) -> Value {
    policy("SecurityPolicy", name, spec)
}

fn target(kind: &str, name: &str, section: &str) -> String {
    let section = if section.is_empty() { String::new() } else { format!(", sectionName: {section}") };
    format!("targetRefs: [{{group: gateway.networking.k8s.io, kind: {kind}, name: {name}{section}}}]")
}

fn routes(translation: &Translation) -> Vec<(String, &HttpRoute)> {
    let listeners = translation.proxies.values().flat_map(|proxy| &proxy.ir.http);
    listeners.flat_map(|listener| listener.routes.iter().map(|route| (listener.name.clone(), route))).collect()
}

fn route<'t>(translation: &'t Translation, listener: &str, name: &str) -> &'t HttpRoute {
    let found = routes(translation).into_iter().find(|(on, route)| on == listener && route.name.starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} on {listener}")).1
}

/// The policy that is in force, by rule of the route `app` on the listeners of both Gateways.
fn winners(translation: &Translation) -> Vec<(String, String)> {
    let named = |(listener, route): (String, &HttpRoute)| {
        let winner = route.traffic.as_ref().map_or("-", |traffic| traffic.policy.name.as_str());
        let rule = route.rule_name.clone().unwrap_or_default();
        (format!("{listener} {rule}").trim_end().to_owned(), winner.to_owned())
    };
    let mut winners: Vec<_> = routes(translation).into_iter().map(named).collect();
    winners.sort();
    winners
}

/// `section|type=status/reason: message` of each condition of a policy.
fn conditions(translation: &Translation, name: &str) -> Vec<String> {
    let status = translation.statuses.iter().find(|status| status.name == name).unwrap();
    let ancestors = status.status["ancestors"].as_array().unwrap();
    let of = |ancestor: &Value| {
        let reference = &ancestor["ancestorRef"];
        let section = reference["sectionName"].as_str().map(|section| format!("/{section}")).unwrap_or_default();
        let gateway = format!("{}{section}", reference["name"].as_str().unwrap());
        let conditions = ancestor["conditions"].as_array().unwrap().iter();
        let text = |condition: &Value, field: &str| condition[field].as_str().unwrap().to_owned();
        let describe = |one: &Value| {
            let [kind, status, reason, message] = ["type", "status", "reason", "message"].map(|field| text(one, field));
            format!("{gateway}|{kind}={status}/{reason}: {message}")
        };
        conditions.map(describe).collect::<Vec<_>>()
    };
    ancestors.iter().flat_map(of).collect()
}

#[test]
fn the_most_specific_policy_wins_wholesale() {
    let translation = translated([
        traffic("gateway", &format!("{}, timeout: {{http: {{requestTimeout: 9s}}}}", target("Gateway", "gw", ""))),
        traffic("listener", &target("Gateway", "gw", "b")),
        traffic("route", &target("HTTPRoute", "app", "")),
        traffic("rule", &target("HTTPRoute", "app", "one")),
    ]);
    let expected = [
        ("default/gw/a", "gateway"),
        ("default/gw/a one", "rule"),
        ("default/gw/a two", "route"),
        ("default/gw/b one", "rule"),
        ("default/gw/b two", "route"),
        ("default/other/a one", "rule"),
        ("default/other/a two", "route"),
    ];
    assert_eq!(winners(&translation), expected.map(|(route, winner)| (route.to_owned(), winner.to_owned())));
    let rule = route(&translation, "default/gw/a", "httproute/default/app/rule/0").traffic.as_ref().unwrap();
    assert_eq!(rule.spec.timeout, None, "an empty policy switches off what it would inherit");

    let accepted = "Accepted=True/Accepted: Policy has been accepted.";
    assert_eq!(conditions(&translation, "rule"), [format!("gw|{accepted}"), format!("other|{accepted}")]);
    let overridden = "Overridden=True/Overridden: This policy is being overridden by other";
    assert_eq!(
        conditions(&translation, "route")[1],
        format!("gw|{overridden} backendTrafficPolicy for these route rules: [one]")
    );
    assert_eq!(
        conditions(&translation, "listener")[1],
        format!("gw/b|{overridden} backendTrafficPolicies for these routes: [default/app]")
    );
    assert_eq!(
        conditions(&translation, "gateway")[1],
        format!(
            "gw|{overridden} backendTrafficPolicies for these gateway listeners: [default/gw/b] and these routes: \
             [default/app]"
        )
    );
}

#[test]
fn a_decision_names_the_winner_and_every_loser_with_the_reason() {
    let translation = translated([
        traffic("gateway", &target("Gateway", "gw", "")),
        traffic("late", &target("Gateway", "gw", "")),
        traffic("rule", &target("HTTPRoute", "app", "one")),
    ]);
    let decision = translation.decisions.iter().find(|one| one.listener == "default/gw/a" && one.winner.name == "rule");
    let decision = decision.unwrap();
    assert_eq!(decision.reason, "targets rule one of the route");
    let losers: Vec<_> =
        decision.losers.iter().map(|(policy, reason)| (policy.name.as_str(), reason.as_str())).collect();
    assert_eq!(
        losers,
        [
            ("gateway", "targets Gateway default/gw, which is less specific"),
            ("late", "BackendTrafficPolicy default/gateway has the same target and was there first"),
        ]
    );
}

#[test]
fn conflicts_missing_sections_and_missing_targets() {
    let translation = translated([
        security("a", &target("HTTPRoute", "app", "")),
        security("b", &target("HTTPRoute", "app", "")),
        security("c", &target("HTTPRoute", "app", "three")),
        security("d", &target("Gateway", "gw", "c")),
        security("e", &target("HTTPRoute", "nowhere", "")),
    ]);
    assert_eq!(
        conditions(&translation, "b")[0],
        "gw|Accepted=False/Conflicted: Unable to target HTTPRoute app, another SecurityPolicy has already attached to it"
    );
    let missing = "Accepted=False/TargetNotFound: No section name";
    assert_eq!(conditions(&translation, "c")[0], format!("gw|{missing} three found for HTTPRoute default/app"));
    assert_eq!(conditions(&translation, "d"), [format!("gw/c|{missing} c found for Gateway default/gw")]);
    assert_eq!(conditions(&translation, "e"), Vec::<String>::new());
    assert_eq!(conditions(&translation, "a").len(), 2, "a section that is not there overrides nothing");
}

#[test]
fn the_older_policy_keeps_a_target() {
    let mut old = traffic("z-old", &target("Gateway", "gw", ""));
    old["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
    let mut new = traffic("a-new", &target("Gateway", "gw", ""));
    new["metadata"]["creationTimestamp"] = json!("2021-01-01T00:00:00Z");
    let translation = translated([new, old]);
    assert_eq!(winners(&translation)[0].1, "z-old");
    assert!(conditions(&translation, "a-new")[0].contains("Conflicted"));
}

#[test]
fn a_selector_finds_routes_by_label() {
    let selector = |labels: &str| format!("targetSelectors: [{{kind: HTTPRoute, matchLabels: {{team: {labels}}}}}]");
    let translation = translated([traffic("mine", &selector("x")), traffic("none", &selector("other"))]);
    assert_eq!(winners(&translation)[0], ("default/gw/a".to_owned(), "-".to_owned()));
    assert_eq!(winners(&translation)[1], ("default/gw/a one".to_owned(), "mine".to_owned()));
    assert_eq!(conditions(&translation, "none"), Vec::<String>::new());
}

#[test]
fn a_merge_takes_the_policy_of_the_listener_or_gateway_in() {
    let rule = |name: &str| {
        format!(
            "{{clientSelectors: [{{headers: [{{name: {name}, type: Distinct}}]}}], limit: {{requests: 1, unit: Hour}}}}"
        )
    };
    let limits = |name: &str| format!("rateLimit: {{global: {{rules: [{}]}}}}", rule(name));
    let gateway = format!(
        "{}, {}, timeout: {{tcp: {{connectTimeout: 3s}}, http: {{requestTimeout: 9s}}}}",
        target("Gateway", "gw", ""),
        limits("x-parent")
    );
    let child = |merge: &str| {
        format!(
            "{}, mergeType: {merge}, {}, timeout: {{http: {{requestTimeout: 1s}}}}",
            target("HTTPRoute", "app", ""),
            limits("x-child")
        )
    };
    for (merge, names) in [
        ("StrategicMerge", vec!["default/child/rule/0", "default/gateway/rule/0"]),
        ("JSONMerge", vec!["default/child/rule/0"]),
    ] {
        let translation = translated([traffic("gateway", &gateway), traffic("child", &child(merge))]);
        let merged = route(&translation, "default/gw/a", "httproute/default/app/rule/0").traffic.clone().unwrap();
        assert_eq!(merged.policy.name, "child");
        assert_eq!(merged.global_rule_names, names, "{merge}");
        let timeout = serde_json::to_value(&merged.spec.timeout).unwrap();
        assert_eq!(timeout, json!({"tcp": {"connectTimeout": "3s"}, "http": {"requestTimeout": "1s"}}));
        let alone = route(&translation, "default/other/a", "httproute/default/app/rule/0").traffic.clone().unwrap();
        assert_eq!(alone.global_rule_names, ["default/child/rule/0"]);

        let accepted = "Accepted=True/Accepted: Policy has been accepted.";
        let merged = "Merged=True/Merged: Merged with policy default/gateway";
        assert_eq!(
            conditions(&translation, "child"),
            [format!("gw/a|{merged}"), format!("gw/b|{merged}"), format!("gw|{accepted}"), format!("other|{accepted}"),]
        );
        assert_eq!(
            conditions(&translation, "gateway")[1],
            "gw|Merged=True/Merged: This policy is being merged by other backendTrafficPolicies for these routes: [default/app]"
        );
        assert_eq!(conditions(&translation, "gateway").len(), 2, "a merged route overrides nothing");
    }
}

#[test]
fn a_broken_policy_closes_its_routes_and_no_others() {
    for (spec, message) in [
        ("passkeys: {}", "The field spec.passkeys is not supported yet."),
        ("basicAuth: {users: {name: keys}}", "BasicAuth: users list not found in secret default/keys."),
        ("basicAuth: {users: {name: nothing}}", "BasicAuth: secret default/nothing does not exist."),
        ("cors: {maxAge: soon}", "The policy cannot be read: spec.cors.maxAge: invalid duration \"soon\""),
        (
            "apiKeyAuth: {credentialRefs: [{name: nothing}], extractFrom: [{headers: [x-key]}]}",
            "APIKeyAuth: spec.apiKeyAuth.credentialRefs[0]: secret default/nothing does not exist",
        ),
        (
            "apiKeyAuth: {credentialRefs: [{name: keys, namespace: other}], extractFrom: [{headers: [x-key]}]}",
            "ReferenceGrant",
        ),
        ("jwt: {providers: [{name: p, localJWKS: {inline: '{}'}}]}", "localJWKS is no JWKS: it has no list of keys"),
        (
            "jwt: {providers: [{name: p, remoteJWKS: {uri: 'ftp://a.example'}}]}",
            "providers[0].remoteJWKS.uri \"ftp://a.example\" is no http or https URL",
        ),
        (
            "jwt: {providers: [{name: p, remoteJWKS: {uri: 'https://a.example', backendRefs: [{name: none, port: 80}]}}]}",
            "providers[0].remoteJWKS: service default/none not found",
        ),
        (
            "jwt: {providers: [{name: p, remoteJWKS: {uri: 'https://a.example'}, localJWKS: {inline: '{}'}}]}",
            "providers[0].must have exactly one of remoteJWKS and localJWKS",
        ),
        (
            "oidc: {provider: {issuer: 'https://a.example'}, clientID: app, clientSecret: {name: nothing}}",
            "OIDC: secret default/nothing does not exist.",
        ),
        (
            "oidc: {provider: {issuer: 'https://a.example'}, clientID: app, clientSecret: {name: keys}}",
            "OIDC: client secret not found in secret default/keys.",
        ),
        (
            "oidc: {provider: {issuer: 'a.example'}, clientID: app, clientSecret: {name: keys}}",
            "OIDC: spec.oidc.provider.issuer must be an http or https URL.",
        ),
        (
            "oidc: {provider: {issuer: 'https://a.example'}, clientID: app, clientSecret: {name: keys}, redirectURL: 'https://b.example/'}",
            "must be a URL with a path other than /",
        ),
        (
            "oidc: {provider: {issuer: 'https://a.example'}, clientID: app, clientSecret: {name: keys}, logoutPath: /oauth2/callback}",
            "spec.oidc.logoutPath \"/oauth2/callback\" must be a path other than that of the redirectURL",
        ),
        (
            "csrf: {shadowFraction: {numerator: 2, denominator: 1}}",
            "CSRF: spec.csrf.shadowFraction must be at most one",
        ),
        ("csrf: {additionalOrigins: ['https://']}", "spec.csrf.additionalOrigins[0] \"https://\" is no origin"),
        (
            "authorization: {rules: [{action: Allow, principal: {clientCIDRs: [10.0.0.0/99]}}]}",
            "\"10.0.0.0/99\" is no CIDR",
        ),
        ("authorization: {rules: [{action: Deny, cel: 'true'}]}", "rules[0].cel is not supported yet"),
        (
            "extAuth: {http: {backendRefs: [{name: svc, port: 80}], path: /a, pathOverride: /b}}",
            "ExtAuth: only one of path or pathOverride can be specified.",
        ),
        ("extAuth: {http: {}}", "ExtAuth: spec.extAuth.http.backendRefs must not be empty."),
        ("extAuth: {}", "ExtAuth: spec.extAuth must have exactly one of grpc and http."),
        ("extAuth: {grpc: {backendRefs: [{name: nothing, port: 80}]}}", "ExtAuth: service default/nothing not found."),
    ] {
        let translation = translated([security("broken", &format!("{}, {spec}", target("HTTPRoute", "app", "one")))]);
        let closed = route(&translation, "default/gw/a", "httproute/default/app/rule/0");
        assert_eq!(closed.action, Action::Respond { status: 500, body: String::new(), format: false }, "{spec}");
        assert_eq!(closed.security, None);
        let open = route(&translation, "default/gw/a", "httproute/default/app/rule/1");
        assert!(matches!(open.action, Action::Forward(_)), "{spec}");
        let condition = &conditions(&translation, "broken")[0];
        assert!(condition.starts_with("gw|Accepted=False/Invalid: "), "{condition}");
        assert!(condition.contains(message), "{condition}");
        assert!(translation.auth_policies.is_empty());
    }
}

#[test]
fn external_authorization_that_fails_open_is_left_out_when_it_is_broken() {
    let spec =
        "extAuth: {failOpen: true, grpc: {backendRefs: [{name: nothing, port: 80}]}}, cors: {allowOrigins: ['*']}";
    let translation = translated([security("open", &format!("{}, {spec}", target("HTTPRoute", "app", "")))]);
    let security = route(&translation, "default/gw/a", "httproute/default/app/rule/0").security.clone().unwrap();
    assert!(security.spec.cors.is_some());
    assert!(security.ext_auth.is_none() && security.spec.ext_auth.is_none());
    assert!(conditions(&translation, "open")[0].contains("Accepted=False/Invalid"));
}

#[test]
fn external_authorization_is_resolved() {
    let spec =
        "extAuth: {grpc: {backendRefs: [{name: svc, port: 80}]}, contextExtensions: [{name: plan, value: gold}]}";
    let translation = translated([security("sp", &format!("{}, {spec}", target("HTTPRoute", "app", "")))]);
    let security = route(&translation, "default/gw/a", "httproute/default/app/rule/0").security.clone().unwrap();
    let ext_auth = security.ext_auth.as_ref().unwrap();
    assert_eq!(ext_auth.destination.name, "securitypolicy/default/sp/extauth/0");
    assert_eq!(ext_auth.authority, "svc.default:80");
    assert_eq!(ext_auth.context_extensions["plan"], "gold");
    assert!(!format!("{security:?}").replace(&format!("{:?}", security.spec), "").contains("gold"));
    assert!(ext_auth.destination.backends[0].http2);
}

#[test]
fn c34_references_to_other_namespaces_need_a_grant() {
    let elsewhere = [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "other"},
            "stringData": {"alice": "secret", ".htpasswd": "a:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "client-secret": "s"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc", "namespace": "other"},
            "spec": {"ports": [{"name": "http", "port": 80}]}}),
    ];
    for (kind, spec) in [
        ("Secret", "apiKeyAuth: {credentialRefs: [{name: keys, namespace: other}], extractFrom: [{headers: [x-key]}]}"),
        (
            "Secret",
            "oidc: {provider: {issuer: 'https://a.example'}, clientID: app, clientSecret: {name: keys, namespace: other}}",
        ),
        ("Secret", "basicAuth: {users: {name: keys, namespace: other}}"),
        ("Service", "extAuth: {grpc: {backendRefs: [{name: svc, namespace: other, port: 80}]}}"),
        ("Service", "extAuth: {http: {backendRefs: [{name: svc, namespace: other, port: 80}]}}"),
        (
            "Service",
            "jwt: {providers: [{name: p, remoteJWKS: {uri: 'https://a.example', backendRefs: [{name: svc, namespace: other, port: 80}]}}]}",
        ),
    ] {
        let with = |grants: Vec<Value>| {
            let policy = security("sp", &format!("{}, {spec}", target("HTTPRoute", "app", "")));
            translated(elsewhere.iter().cloned().chain(grants).chain([policy]))
        };
        let refused = with(Vec::new());
        let condition = &conditions(&refused, "sp")[0];
        assert!(condition.contains("Accepted=False/Invalid"), "{spec}: {condition}");
        assert!(condition.contains("not permitted by any ReferenceGrant"), "{spec}: {condition}");
        let closed = route(&refused, "default/gw/a", "httproute/default/app/rule/0");
        assert_eq!(closed.action, Action::Respond { status: 500, body: String::new(), format: false }, "{spec}");
        let grant = json!({"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
            "metadata": {"name": "open", "namespace": "other"}, "spec": {
                "from": [{"group": "gateway.envoyproxy.io", "kind": "SecurityPolicy", "namespace": "default"}],
                "to": [{"group": "", "kind": kind}]}});
        assert!(conditions(&with(vec![grant]), "sp")[0].contains("Accepted=True"), "{spec}");
    }
}

#[test]
fn logins_are_left_to_extauth_and_their_secret_to_nobody_else() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "idp", "namespace": "default"},
        "stringData": {"client-id": "app\n", "client-secret": "only-for-extauth\n"}});
    let spec = "oidc: {provider: {issuer: 'https://idp.example.com'}, clientIDRef: {name: idp}, clientSecret: {name: idp},
        scopes: [openid, email], redirectURL: 'https://app.example.com/back', logoutPath: /bye, cookieDomain: example.com,
        cookieConfig: {sameSite: Strict}, cookieNames: {idToken: id}, forwardAccessToken: true, refreshToken: false,
        denyRedirect: {headers: [{name: x-requested-with, value: XMLHttpRequest}]}, csrfTokenTTL: 90s, defaultTokenTTL: 1h,
        passThroughAuthHeader: true},
      apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [x-api-key]}]},
      jwt: {optional: true, providers: [{name: p, issuer: 'https://idp.example.com', audiences: [app],
        remoteJWKS: {uri: 'https://idp.example.com/keys'}}]}";
    let translation = translated([secret, security("sp", &format!("{}, {spec}", target("HTTPRoute", "app", "")))]);
    let security = route(&translation, "default/gw/a", "httproute/default/app/rule/0").security.clone().unwrap();
    let names = ["securitypolicy/default/sp", "securitypolicy/default/sp/oidc"];
    assert_eq!(security.auth_policies, names, "a request needs a key as well as a session");
    let policy = translation.auth_policies.iter().find(|policy| policy.name == names[1]).unwrap();
    let json = serde_json::to_value(policy).unwrap();
    assert_eq!(json["methods"][0]["jwt"]["jwksUri"], "https://idp.example.com/keys");
    let login = &json["methods"][1]["oidc"];
    let provider = &login["providers"][0];
    assert_eq!((&provider["clientID"], &provider["clientSecret"]), (&json!("app"), &json!("only-for-extauth")));
    assert_eq!((&provider["scopes"], &provider["refreshToken"]), (&json!(["email"]), &json!(false)));
    assert_eq!(provider["defaultTokenTTLSeconds"], 3600);
    assert_eq!((&login["redirectURL"], &login["logoutPath"]), (&json!("https://app.example.com/back"), &json!("/bye")));
    assert_eq!(login["cookie"], json!({"domain": "example.com", "sameSite": "Strict"}));
    assert_eq!(login["cookieNames"], json!({"idToken": "id"}));
    assert_eq!((&login["forwardAccessToken"], &login["csrfTokenTTLSeconds"]), (&json!(true), &json!(90)));
    assert_eq!(login["denyRedirect"]["headers"][0]["type"], "Exact");
    for proxy in translation.proxies.values() {
        let holds = |bytes: &[u8]| bytes.windows(16).any(|window| window == b"only-for-extauth");
        let mut all = Type::ALL.into_iter().flat_map(|kind| proxy.resources.of(kind));
        assert!(!all.any(|(_, resource)| holds(&resource.any.value)), "Envoy knows the secret");
    }
}

#[test]
fn users_are_left_to_extauth_and_bad_lists_refused() {
    let with = |users: &str| {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "users", "namespace": "default"},
            "stringData": {".htpasswd": users}});
        let spec = "basicAuth: {users: {name: users}, forwardUsernameHeader: x-user}";
        translated([secret, security("sp", &format!("{}, {spec}", target("HTTPRoute", "app", "")))])
    };
    let good = with("ada:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=\r\n\n# a comment\nbob:$2y$05$abc\n");
    let [policy] = good.auth_policies.as_slice() else { panic!("one policy") };
    assert_eq!(policy.name, "securitypolicy/default/sp/basic");
    let basic = &serde_json::to_value(policy).unwrap()["methods"][0]["basic"];
    assert_eq!((&basic["usernameHeader"], &basic["forward"]), (&json!("x-user"), &json!(true)));
    for (users, message) in [
        ("ada", "line 1 of .htpasswd is no user:hash"),
        ("ada:plain-text", "line 1 of .htpasswd has no hash of a known form"),
        ("# nobody", "BasicAuth: .htpasswd lists no user"),
        ("ada:{SHA}a\nada:{SHA}b", "line 2 of .htpasswd has no user name, or one that another line has"),
    ] {
        let condition = &conditions(&with(users), "sp")[0];
        assert!(condition.contains("Accepted=False/Invalid") && condition.contains(message), "{condition}");
        assert!(!condition.contains("plain-text"), "{condition}");
    }
}

#[test]
fn keys_are_fetched_at_their_url_or_at_a_backend() {
    let spec = "jwt: {providers: [
        {name: far, remoteJWKS: {uri: 'https://idp.example.com/keys'}},
        {name: odd, remoteJWKS: {uri: 'http://10.1.2.3:8080/keys'}},
        {name: near, remoteJWKS: {uri: 'https://idp.example.com/keys', backendRefs: [{name: svc, port: 80}]}}]}";
    let translation = translated([security("sp", &format!("{}, {spec}", target("HTTPRoute", "app", "")))]);
    let security = route(&translation, "default/gw/a", "httproute/default/app/rule/0").security.clone().unwrap();
    let sites = security.jwks.iter().map(|jwks| match jwks {
        Some(Jwks::Remote(remote)) => (remote.destination.name.as_str(), remote.server_name.as_deref()),
        other => panic!("{other:?}"),
    });
    let expected = [
        ("idp_example_com_443", Some("idp.example.com")),
        ("10_1_2_3_8080", None),
        ("securitypolicy/default/sp/jwt/2", None),
    ];
    assert_eq!(sites.collect::<Vec<_>>(), expected);
}

#[test]
fn api_keys_leave_the_controller_as_hashes() {
    let spec = "apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [x-api-key]}, {cookies: [key]}], \
                forwardClientIDHeader: x-client-id, sanitize: true}";
    let translation = translated([security("keys", &format!("{}, {spec}", target("Gateway", "gw", "")))]);
    let security = route(&translation, "default/gw/a", "httproute/default/app/rule/0").security.clone().unwrap();
    assert_eq!(security.auth_policies, ["securitypolicy/default/keys"]);
    let [policy] = translation.auth_policies.as_slice() else { panic!("one policy") };
    let json = serde_json::to_value(policy).unwrap();
    assert!(!json.to_string().contains("secret-of-alice"));
    let method = &json["methods"][0]["apiKey"];
    assert_eq!(method["keys"][0]["client"], "alice");
    assert_eq!(method["keys"][0]["tier"], "gold");
    assert_eq!(method["keys"][0]["hash"], "sha256:2e63581f3ad310ec6d04ce0f6adb96d3a7808722dab1612486486190086013f6");
    assert_eq!((&method["clientHeader"], &method["tierHeader"]), (&json!("x-client-id"), &json!("x-client-tier")));
    assert_eq!(method.get("forward"), None);
}

#[test]
fn two_clients_cannot_share_a_key() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "more", "namespace": "default"},
        "stringData": {"bob": "secret-of-alice\n", "alice": "ignored, for the first Secret names alice already"}});
    let spec = "apiKeyAuth: {credentialRefs: [{name: keys}, {name: more}], extractFrom: [{headers: [x-api-key]}]}";
    let translation = translated([secret, security("keys", &format!("{}, {spec}", target("Gateway", "gw", "")))]);
    let condition = &conditions(&translation, "keys")[0];
    assert!(
        condition.contains("credentialRefs[1]: Secret more has a duplicated API key: clients alice and bob share it"),
        "{condition}"
    );
    assert!(!condition.contains("secret-of-alice"));
}

#[test]
fn what_no_header_can_carry_is_refused() {
    for (auth, key, message) in [
        ("forwardClientIDHeader: 'x client'", "a", "forwardClientIDHeader \"x client\" is no header"),
        ("forwardClientIDHeader: Host", "a", "forwardClientIDHeader \"Host\" is no header"),
        ("sanitize: true", "two words", "a key for client bob that no request can carry"),
        ("sanitize: true", "", "a key for client bob that no request can carry"),
    ] {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "default"},
            "stringData": {"bob": key}});
        let spec =
            format!("apiKeyAuth: {{credentialRefs: [{{name: keys}}], extractFrom: [{{headers: [x-key]}}], {auth}}}");
        let translation = translated([secret, security("keys", &format!("{}, {spec}", target("Gateway", "gw", "")))]);
        let condition = &conditions(&translation, "keys")[0];
        assert!(condition.contains("Accepted=False/Invalid") && condition.contains(message), "{condition}");
    }
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    for (rules, message) in [
        (
            "local: {rules: [{limit: {requests: 1, unit: Hour}}, {limit: {requests: 2, unit: Hour}}]}",
            "RateLimit: local rateLimit can not have more than one rule without clientSelectors.",
        ),
        (
            "local: {rules: [{limit: {requests: 1, unit: Hour}}, {clientSelectors: [{methods: [{value: GET}]}], limit: {requests: 2, unit: Minute}}]}",
            "local.rules[1].limit.unit must be a multiple",
        ),
        (
            "global: {rules: [{clientSelectors: [{sourceCIDR: {value: 10.0.0.0}}], limit: {requests: 1, unit: Hour}}]}",
            "\"10.0.0.0\" is no CIDR",
        ),
        (
            "global: {rules: [{clientSelectors: [{headers: [{name: x, type: RegularExpression, value: '('}]}], limit: {requests: 1, unit: Hour}}]}",
            "spec.rateLimit.global.rules[0].clientSelectors[0].headers[0].value: regex",
        ),
        (
            "global: {rules: [{limit: {requests: 1, unit: Fortnight}}]}",
            "spec.rateLimit.global.rules[0].limit.unit: unknown variant `Fortnight`",
        ),
    ] {
        let translation =
            translated([traffic("limits", &format!("{}, rateLimit: {{{rules}}}", target("Gateway", "gw", "")))]);
        let condition = &conditions(&translation, "limits")[0];
        assert!(condition.contains("Accepted=False/Invalid") && condition.contains(message), "{condition}");
        let closed = route(&translation, "default/gw/a", "httproute/default/app/rule/0");
        assert_eq!(closed.action, Action::Respond { status: 500, body: String::new(), format: false });
    }
}

#[test]
fn global_limits_need_the_service() {
    let settings = Settings { rate_limit: None, ..Settings::default() };
    let spec = format!(
        "{}, rateLimit: {{global: {{rules: [{{limit: {{requests: 1, unit: Hour}}}}]}}}}",
        target("Gateway", "gw", "")
    );
    let translation = translated_with(&settings, [traffic("limits", &spec)]);
    assert_eq!(
        conditions(&translation, "limits")[0],
        "gw|Accepted=False/Invalid: RateLimit: enable Ratelimit in the EnvoyGateway config to configure global rateLimit."
    );
}

#[test]
fn what_has_no_effect_is_said() {
    let spec = "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: gw}, loadBalancer: {type: Random}";
    let translation = translated([traffic("balanced", spec)]);
    assert_eq!(
        conditions(&translation, "balanced")[1],
        "gw|Warning=True/Warnings: spec.loadBalancer is not supported yet and has no effect; \
         spec.targetRef is deprecated, use spec.targetRefs instead"
    );
}

/// A policy's level, from the most specific, its age and its name.
fn any_policy() -> impl Strategy<Value = (usize, i64, String)> {
    (0..4_usize, 0..3_i64, "[a-d]")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_winner_does_not_depend_on_the_order_of_the_input(
        policies in prop::collection::btree_map("[a-f]", any_policy(), 1..6),
        seed in any::<prop::sample::Index>(),
    ) {
        let levels = [("HTTPRoute", "app", "one"), ("HTTPRoute", "app", ""), ("Gateway", "gw", "a"), ("Gateway", "gw", "")];
        let mut objects: Vec<_> = policies.iter().map(|(name, (level, age, _))| {
            let (kind, object, section) = levels[*level];
            let mut policy = traffic(name, &target(kind, object, section));
            policy["metadata"]["creationTimestamp"] = json!(format!("202{}-01-01T00:00:00Z", 9 - age));
            policy
        }).collect();
        let middle = seed.index(objects.len());
        objects.rotate_left(middle);
        let expected = policies.iter().min_by_key(|(name, (level, age, _))| (*level, -age, (*name).clone())).unwrap();
        let translation = translated(objects);
        let winner = route(&translation, "default/gw/a", "httproute/default/app/rule/0").traffic.clone().unwrap();
        prop_assert_eq!(&winner.policy.name, expected.0);
    }
}

#[test]
fn a_shared_limit_is_counted_once_however_many_gateways_carry_it() {
    let spec = "rateLimit: {global: {rules: [{limit: {requests: 7, unit: Hour}, shared: true}, \
                {limit: {requests: 1, unit: Hour}}]}}";
    let translation = translated([traffic("limits", &format!("{}, {spec}", target("HTTPRoute", "app", "one")))]);
    let domains: Vec<_> = translation.rate_limits.iter().map(|config| config.domain.as_str()).collect();
    assert_eq!(domains, ["default/gw/a", "default/gw/b", "default/limits", "default/other/a"]);
    let shared = translation.rate_limits.iter().find(|config| config.domain == "default/limits").unwrap();
    let [rule] = shared.descriptors.as_slice() else { panic!("one rule") };
    assert_eq!(rule.key, "default/limits/rule/0");
    assert_eq!(rule.descriptors[0].rate_limit.as_ref().unwrap().requests_per_unit, 7);
}

#[test]
fn two_limits_on_the_same_addresses_both_hold() {
    let rule = |requests| {
        format!(
            "{{clientSelectors: [{{sourceCIDR: {{value: 10.0.0.0/8}}}}], limit: {{requests: {requests}, unit: Hour}}}}"
        )
    };
    let spec = format!("rateLimit: {{global: {{rules: [{}, {}]}}}}", rule(5), rule(9));
    let translation = translated([traffic("limits", &format!("{}, {spec}", target("HTTPRoute", "plain", "")))]);
    let limits: Vec<_> = translation.rate_limits[0].descriptors[0]
        .descriptors
        .iter()
        .map(|limit| (limit.key.as_str(), limit.rate_limit.as_ref().unwrap().requests_per_unit))
        .collect();
    assert_eq!(limits, [("masked_remote_address", 5), ("rule-1-masked_remote_address", 9)]);
}

#[test]
fn settings_of_a_merge_come_from_whoever_made_them() {
    let other_namespace = |mut policy: Value| {
        policy["metadata"]["namespace"] = json!("infra");
        policy
    };
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": "infra"},
        "spec": {"gatewayClassName": "eg", "listeners": [{"name": "a", "port": 80, "protocol": "HTTP",
            "allowedRoutes": {"namespaces": {"from": "All"}}}]}});
    let route_object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "merged", "namespace": "default"},
        "spec": {"parentRefs": [{"name": "gw", "namespace": "infra"}],
            "rules": [{"backendRefs": [{"name": "svc", "port": 80}]}]}});
    let keys = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "infra"},
        "stringData": {"bob": "secret-of-bob"}});
    let parent = "apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [x-api-key]}]}";
    let translation = translated([
        gateway,
        route_object,
        keys,
        other_namespace(security("parent", &format!("{}, {parent}", target("Gateway", "gw", "")))),
        security(
            "child",
            &format!("{}, mergeType: StrategicMerge, cors: {{allowOrigins: ['*']}}", target("HTTPRoute", "merged", "")),
        ),
    ]);
    let merged = route(&translation, "infra/gw/a", "httproute/default/merged").security.clone().unwrap();
    assert_eq!(merged.policy.name, "child");
    assert!(merged.spec.cors.is_some());
    assert_eq!(merged.auth_policies, ["securitypolicy/infra/parent"]);
    let clients = serde_json::to_value(&translation.auth_policies).unwrap();
    assert_eq!(clients[0]["methods"][0]["apiKey"]["keys"][0]["client"], "bob", "the Secret beside the parent");
}

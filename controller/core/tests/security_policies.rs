//! What a `SecurityPolicy` asks for reaches Envoy and `extauth`, or closes its routes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use controller_core::{
    ir::{Action, Jwks},
    xds::Type,
};
use serde_json::{Value, json};

use crate::support::{conditions, route, security, target, translated};

#[path = "support/policies.rs"]
mod support;

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
        ("authorization: {rules: [{action: Deny, cel: 'request.path =='}]}", "rules[0].cel is no CEL: "),
        ("authorization: {rules: [{action: Deny, cel: 'user == 1'}]}", "rules[0].cel knows no user, only connection, "),
        ("authorization: {rules: [{action: Deny}]}", "rules[0].principal or cel must be set"),
        (
            "authorization: {rules: [{action: Allow, principal: {clientIPGeoLocations: [{country: FR}]}}]}",
            "principal.clientIPGeoLocations is not supported: it needs a database",
        ),
        (
            "oidc: {provider: {issuer: 'https://a.example', backendRefs: [{name: none, port: 80}]}, clientID: app, clientSecret: {name: keys}}",
            "OIDC: service default/none not found.",
        ),
        (
            "jwt: {providers: [{name: p, remoteJWKS: {uri: 'https://a.example', backendRef: {name: svc, port: 80}}}]}",
            "providers[0].remoteJWKS: backendRef is not supported, use backendRefs",
        ),
        (
            "oidc: {provider: {issuer: 'https://a.example', backendRef: {name: svc, port: 80}}, clientID: app, clientSecret: {name: keys}}",
            "OIDC: spec.oidc.provider.backendRef is not supported, use backendRefs.",
        ),
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
fn policies_of_other_controllers_routes_are_left_to_them() {
    let others = r"
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: theirs}, spec: {controllerName: example.com/other}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: theirs, namespace: default},
 spec: {gatewayClassName: theirs, listeners: [{name: a, port: 80, protocol: HTTP}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: theirs, namespace: default},
 spec: {parentRefs: [{name: theirs}], rules: [{backendRefs: [{name: svc, port: 80}]}]}}
";
    let spec = "apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [x-key]}]}";
    for (kind, name) in [("HTTPRoute", "theirs"), ("Gateway", "theirs")] {
        let policy = security("keys-of-theirs", &format!("{}, {spec}", target(kind, name, "")));
        let translation = translated(support::objects(others).into_iter().chain([policy]));
        assert!(translation.auth_policies.is_empty(), "{kind}");
        assert!(conditions(&translation, "keys-of-theirs").is_empty(), "{kind}");
    }
    let ours = translated([security("keys-of-ours", &format!("{}, {spec}", target("HTTPRoute", "app", "")))]);
    assert_eq!(ours.auth_policies.len(), 1);
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
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "idp", "namespace": "default"},
            "stringData": {"client-secret": "s"}}),
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
            "oidc: {provider: {issuer: 'https://a.example', backendRefs: [{name: svc, namespace: other, port: 80}]},
              clientID: app, clientSecret: {name: idp}}",
        ),
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
fn a_provider_behind_backends_is_asked_there() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "idp", "namespace": "default"},
        "stringData": {"client-secret": "s"}});
    let spec = "oidc: {provider: {issuer: 'https://idp.example.com', backendRefs: [{name: svc, port: 80}],
          backendSettings: {retry: {numRetries: 3}, timeout: {http: {requestTimeout: 3s}, tcp: {connectTimeout: 1s}}}},
        clientID: app, clientSecret: {name: idp},
        redirectURL: 'https://app.example.com/app/oauth2/callback', passThroughAuthHeader: true},
      jwt: {providers: [{name: p, issuer: 'https://idp.example.com', audiences: [app],
        remoteJWKS: {uri: 'https://idp.example.com/keys', backendRefs: [{name: svc, port: 80}]}}]}";
    let translation = translated([secret, security("sp", &format!("{}, {spec}", target("HTTPRoute", "app", "")))]);
    let json = serde_json::to_value(&translation.auth_policies[0]).unwrap();
    let backends = json!({"addresses": ["10.0.0.1:8080"], "plaintext": true});
    assert_eq!(json["methods"][0]["jwt"]["backends"], backends);
    let login = &json["methods"][1]["oidc"];
    assert_eq!(login["providers"][0]["backends"], backends);
    assert_eq!(login["providers"][0]["requestTimeoutMs"], 3000);
    let retry = json!({"numRetries": 3, "connectFailure": true, "statusCodes": [503], "baseIntervalMs": 25, "maxIntervalMs": 250});
    assert_eq!(login["providers"][0]["retry"], retry);
    assert_eq!(login["backChannelLogoutPath"], "/app/oauth2/backchannel-logout");
    let conditions = conditions(&translation, "sp");
    assert!(conditions[0].contains("Accepted=True"), "{conditions:?}");
    let ignored =
        "gw|Warning=True/UnsupportedField: spec.oidc.provider.backendSettings.timeout.tcp is not supported yet";
    assert!(conditions[1].starts_with(ignored), "{conditions:?}");
}

#[test]
fn a_providers_backends_are_spoken_to_over_tls_where_a_policy_says_so() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "idp", "namespace": "default"},
        "stringData": {"client-secret": "s"}});
    let tls = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
    "metadata": {"name": "tls", "namespace": "default"},
    "spec": {
        "targetRefs": [{"group": "", "kind": "Service", "name": "svc"}],
        "validation": {"hostname": "idp.internal", "wellKnownCACertificates": "System",
            "subjectAltNames": [{"type": "URI", "uri": "spiffe://house/idp"}, {"type": "Hostname", "hostname": "a.internal"}]},
    }});
    let spec = "oidc: {provider: {issuer: 'https://idp.example.com', backendRefs: [{name: svc, port: 80}],
          backendSettings: {retry: {retryOn: {triggers: [gateway-error, retriable-4xx], httpStatusCodes: [429]},
            perRetry: {timeout: 500ms, backOff: {baseInterval: 10ms, maxInterval: 30ms}}}}},
        clientID: app, clientSecret: {name: idp}}";
    let translation = translated([secret, tls, security("sp", &format!("{}, {spec}", target("HTTPRoute", "app", "")))]);
    let [policy] = translation.auth_policies.as_slice() else { panic!("one policy") };
    let provider = &serde_json::to_value(policy).unwrap()["methods"][0]["oidc"]["providers"][0];
    let names = ["spiffe://house/idp", "a.internal"];
    let expected =
        json!({"addresses": ["10.0.0.1:8080"], "tls": {"serverName": "idp.internal", "subjectAltNames": names}});
    assert_eq!(provider["backends"], expected);
    let retry = json!({"numRetries": 2, "reset": true, "statusCodes": [409, 429, 502, 503, 504],
        "perTryTimeoutMs": 500, "baseIntervalMs": 10, "maxIntervalMs": 30});
    assert_eq!(provider["retry"], retry);
    assert_eq!(provider.get("requestTimeoutMs"), None);
    let conditions = conditions(&translation, "sp");
    assert!(conditions.iter().all(|condition| !condition.contains("Warning")), "{conditions:?}");
}

#[test]
fn settings_that_let_nobody_pass_are_left_out_and_said() {
    let settings = "backendSettings: {dns: {lookupFamily: IPv4}, retry: {numRetries: 3}}";
    let spec = format!(
        "extAuth: {{grpc: {{backendRefs: [{{name: svc, port: 80}}], {settings}}}}},
         jwt: {{providers: [{{name: p, remoteJWKS: {{uri: 'https://idp.example.com/keys', {settings}}}}}]}}"
    );
    let translation = translated([security("sp", &format!("{}, {spec}", target("HTTPRoute", "app", "")))]);
    assert!(route(&translation, "default/gw/a", "httproute/default/app/rule/0").security.is_some());
    let conditions = conditions(&translation, "sp");
    assert!(conditions[0].contains("Accepted=True"), "{conditions:?}");
    assert_eq!(
        conditions[1],
        "gw|Warning=True/UnsupportedField: spec.extAuth.grpc.backendSettings.dns is not supported yet and has no effect; \
         spec.jwt.providers[0].remoteJWKS.backendSettings.dns is not supported yet and has no effect"
    );
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

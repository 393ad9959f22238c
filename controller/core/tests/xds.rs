//! Built configurations, put before a real Envoy.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, sync::Arc};

use controller_core::{
    Settings,
    ir::{
        Action, Backend, BareRoute, Destination, Endpoint, Endpoints, ExtAuth, HeaderMutations, HostRewrite,
        HttpFilters, HttpListener, HttpRoute, Jwks, Match, Mirror, ObjectRef, PathMatch, PathRewrite, Proxy, Redirect,
        RemoteJwks, Rewrite, RouteTimeouts, Security, Traffic, ValueMatch,
    },
    xds::{self, Type},
};
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, route::Action as EnvoyAction};
use serde_json::json;

#[path = "support/envoy.rs"]
mod envoy;

/// The public key of RFC 7517's example A.1.
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1",
    "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

fn object(kind: &'static str, name: &str) -> ObjectRef {
    ObjectRef { kind, namespace: "default".into(), name: name.into() }
}

fn backend(name: &str, endpoints: impl Into<Option<Endpoints>>) -> Backend {
    Backend {
        name: name.into(),
        weight: 1,
        origin: None,
        endpoints: endpoints.into(),
        http2: false,
        fallback: false,
        tls: None,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
    }
}

fn ip(last: u8) -> Endpoints {
    Endpoints::Static(vec![Endpoint::Ip([127, 0, 0, last].into(), 8080)])
}

fn forward(rule: &str, backends: Vec<Backend>) -> Action {
    Action::Forward(Destination { name: format!("httproute/default/{rule}/rule/0"), backends })
}

fn route(name: &str, hostname: &str, action: Action) -> HttpRoute {
    let bare = BareRoute {
        name: format!("httproute/default/{name}/rule/0/match/0/{}", hostname.replace('.', "_")),
        route: object("HTTPRoute", name),
        rule: 0,
        rule_name: None,
        hostname: hostname.into(),
        matches: Match::default(),
        action,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        rewrite: None,
        mirrors: Vec::new(),
        filters: HttpFilters::default(),
        retry: None,
        timeouts: RouteTimeouts::default(),
        metadata: BTreeMap::new(),
    };
    Arc::new(bare).into()
}

fn listener(section: &str, port: u16, routes: Vec<HttpRoute>) -> HttpListener {
    HttpListener {
        name: format!("default/eg/{section}"),
        gateway: object("Gateway", "eg"),
        parent: object("Gateway", "eg"),
        section: section.into(),
        address: [0, 0, 0, 0].into(),
        port,
        gateway_port: port,
        hostname: "*".into(),
        tls: None,
        routes,
    }
}

fn proxy(http: Vec<HttpListener>) -> Proxy {
    Proxy {
        key: "default/eg".into(),
        gateways: vec![object("Gateway", "eg")],
        http,
        tcp: Vec::new(),
        udp: Vec::new(),
        client_certificates: BTreeMap::new(),
        local: None,
    }
}

fn build(proxy: &Proxy) -> xds::Resources {
    let resources = xds::build(proxy, &Settings::default());
    envoy::validate(&resources);
    resources
}

#[test]
fn every_match_rewrite_and_redirect_is_valid() {
    let header = |name: &str| (name.to_owned(), "value".to_owned());
    let mutations =
        HeaderMutations { set: vec![header("x-set")], add: vec![header("x-add")], remove: vec!["x-gone".into()] };
    let value = |regex| ValueMatch { name: "x-kind".into(), value: "a.c".into(), regex };
    let paths = [
        PathMatch::Exact("/exact".into()),
        PathMatch::Prefix("/prefix/".into()),
        PathMatch::Prefix("/".into()),
        PathMatch::RegularExpression("/re/[a-z]+".into()),
    ];
    let rewrites =
        [PathRewrite::Full("/full".into()), PathRewrite::Prefix("/other".into()), PathRewrite::Prefix("/".into())];
    let mut routes = Vec::new();
    for (i, path) in paths.iter().enumerate() {
        for (j, rewrite) in rewrites.iter().enumerate() {
            let mut forwarded = route(&format!("f{i}{j}"), "www.example.com", forward("f", vec![backend("b", ip(1))]));
            forwarded.matches = Match {
                path: Some(path.clone()),
                method: Some("GET".into()),
                headers: vec![value(false), value(true)],
                query_params: vec![value(false), value(true)],
                ..Match::default()
            };
            forwarded.request_headers = mutations.clone();
            forwarded.response_headers = mutations.clone();
            forwarded.rewrite = Some(Rewrite {
                hostname: Some(HostRewrite::Literal("other.example.com".into())),
                append_x_forwarded_host: true,
                path: Some(rewrite.clone()),
            });
            forwarded.timeouts = RouteTimeouts { request_ms: Some(1500), backend_request_ms: Some(0) };
            let redirect = Redirect {
                scheme: Some("https".into()),
                hostname: Some("secure.example.com".into()),
                path: Some(rewrite.clone()),
                port: Some(8443),
                status: 308,
            };
            let mut redirected = route(&format!("r{i}{j}"), "*.example.com", Action::Redirect(redirect));
            redirected.matches.path = Some(path.clone());
            routes.extend([forwarded, redirected]);
        }
    }
    routes.push(route("broken", "*", Action::Respond { status: 500, body: "broken".into(), format: false }));
    build(&proxy(vec![listener("http", 10080, routes)]));
}

#[test]
fn every_kind_of_backend_is_valid() {
    let mut h2c = backend("h2c/backend/0", ip(2));
    h2c.http2 = true;
    let mut own_headers = backend("split/backend/1", ip(3));
    own_headers.request_headers.set = vec![("x-canary".into(), "yes".into())];
    let unix = Some(Endpoints::Static(vec![Endpoint::Unix("/run/backend.sock".into())]));
    let dns = Some(Endpoints::Dns(vec![("backend.example.com".into(), 80)]));
    let mut mirrored = route("mirrored", "*", forward("plain", vec![backend("a", ip(1)), backend("b", ip(2))]));
    let copies =
        Destination { name: "httproute/default/mirrored/rule/0-mirror-0".into(), backends: vec![backend("m", ip(9))] };
    mirrored.mirrors = vec![
        Mirror { destination: copies.clone(), fraction: (1, 1) },
        Mirror { destination: copies, fraction: (1, 3) },
    ];
    let routes = vec![
        mirrored,
        route("h2c", "h2c.example.com", forward("h2c", vec![h2c])),
        route("unix", "unix.example.com", forward("unix", vec![backend("unix/backend/0", unix)])),
        route("dns", "dns.example.com", forward("dns", vec![backend("dns/backend/0", dns.clone())])),
        route(
            "none",
            "none.example.com",
            forward("none", vec![backend("none/backend/0", Some(Endpoints::Static(vec![])))]),
        ),
        route(
            "split",
            "split.example.com",
            forward("split", vec![backend("split/backend/0", None), own_headers, backend("split/backend/2", dns)]),
        ),
    ];
    let resources = build(&proxy(vec![listener("http", 10080, routes)]));
    let clusters: Vec<&str> = resources.of(Type::Cluster).map(|(name, _)| name).collect();
    assert_eq!(
        clusters,
        [
            "httproute/default/dns/rule/0",
            "httproute/default/h2c/rule/0",
            "httproute/default/mirrored/rule/0-mirror-0",
            "httproute/default/none/rule/0",
            "httproute/default/plain/rule/0",
            "httproute/default/unix/rule/0",
            "split/backend/1",
            "split/backend/2",
        ]
    );
}

#[test]
fn listeners_of_one_port_share_a_socket_and_their_hostnames() {
    let action = || Action::Respond { status: 404, body: String::new(), format: false };
    let first =
        listener("first", 10080, vec![route("a", "a.example.com", action()), route("b", "b.example.com", action())]);
    let second =
        listener("second", 10080, vec![route("c", "a.example.com", action()), route("d", "d.example.com", action())]);
    let resources = build(&proxy(vec![first, second, listener("third", 10081, vec![])]));
    let listeners: Vec<&str> = resources.of(Type::Listener).map(|(name, _)| name).collect();
    assert_eq!(listeners, ["default/eg/first", "default/eg/third", "envoy-gateway-proxy-ready-0.0.0.0-19003"]);
    let configurations: Vec<RouteConfiguration> = resources.messages().unwrap();
    let hosts: Vec<&str> = configurations[0].virtual_hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(
        hosts,
        ["default/eg/first/a_example_com", "default/eg/first/b_example_com", "default/eg/second/d_example_com"]
    );
}

fn traffic(spec: serde_json::Value) -> Arc<Traffic> {
    let policy = object("BackendTrafficPolicy", "traffic");
    let spec = serde_json::from_value(spec).unwrap();
    Arc::new(Traffic { policy, spec, global_rule_names: Vec::new() })
}

fn security(spec: serde_json::Value) -> Security {
    Security {
        policy: object("SecurityPolicy", "security"),
        spec: serde_json::from_value(spec).unwrap(),
        jwks: Vec::new(),
        ext_auth: None,
        auth_policies: Vec::new(),
        back_channel_logout: None,
    }
}

#[test]
fn every_setting_of_a_backend_traffic_policy_is_valid() {
    let mut full = route("full", "*", forward("full", vec![backend("full/backend/0", ip(1))]));
    full.timeouts.backend_request_ms = Some(500);
    full.traffic = Some(traffic(json!({
        "timeout": {
            "tcp": {"connectTimeout": "3s"},
            "http": {
                "connectionIdleTimeout": "4s", "maxConnectionDuration": "5s", "requestTimeout": "6s",
                "maxStreamDuration": "7s", "streamIdleTimeout": "8s",
            },
        },
        "retry": {
            "numRetries": 3,
            "numAttemptsPerPriority": 2,
            "retryOn": {"triggers": ["5xx", "gateway-error"], "httpStatusCodes": [429]},
            "perRetry": {"timeout": "250ms", "backOff": {"baseInterval": "0s", "maxInterval": "1s"}},
        },
        "circuitBreaker": {
            "maxConnections": 1, "maxPendingRequests": 2, "maxParallelRequests": 3, "maxParallelRetries": 4,
            "maxRequestsPerConnection": 5, "perEndpoint": {"maxConnections": 6},
            "retryBudget": {"percent": {"numerator": 20}, "minRetryConcurrency": 3},
        },
        "faultInjection": {
            "delay": {"fixedDelay": "10ms", "percentage": 0.5},
            "abort": {"grpcStatus": 14},
        },
    })));
    let mut defaults = route("defaults", "defaults.example.com", forward("d", vec![backend("d/backend/0", ip(2))]));
    defaults.traffic = Some(traffic(json!({"retry": {}, "circuitBreaker": {}, "timeout": {}})));
    let resources = build(&proxy(vec![listener("http", 10080, vec![full, defaults])]));

    let routes: Vec<RouteConfiguration> = resources.messages().unwrap();
    let Some(EnvoyAction::Route(full)) = &routes[0].virtual_hosts[0].routes[0].action else { panic!("no forward") };
    let retry = full.retry_policy.as_ref().unwrap();
    assert_eq!(retry.retry_on, "5xx,gateway-error,retriable-status-codes");
    assert_eq!(retry.per_try_timeout.unwrap().nanos, 250_000_000, "the policy's wins over the route's");
    assert_eq!(full.timeout.unwrap().seconds, 6);
    assert_eq!(full.idle_timeout.unwrap().seconds, 8);
}

/// Keys at one site: by its name where it is known over TLS, else at an address.
fn remote(cluster: &str, server_name: Option<&str>) -> Jwks {
    let endpoints = match server_name {
        Some(name) => Endpoints::Dns(vec![(name.to_owned(), 443)]),
        None => ip(9),
    };
    Jwks::Remote(RemoteJwks {
        destination: Destination {
            name: cluster.into(),
            backends: vec![backend(&format!("{cluster}/backend/0"), endpoints)],
        },
        server_name: server_name.map(str::to_owned),
    })
}

#[test]
fn every_setting_of_a_security_policy_is_valid() {
    let mut full = route("full", "*", forward("full", vec![backend("full/backend/0", ip(1))]));
    let rule = |action: &str, operation: serde_json::Value, principal: serde_json::Value| json!({"action": action, "operation": operation, "principal": principal});
    let spec = json!({
        "cors": {"allowOrigins": ["https://*.example.com", "*"], "allowMethods": ["GET"], "maxAge": "10m"},
        "jwt": {
            "optional": true,
            "providers": [{
                "name": "idp", "issuer": "https://idp.example.com", "audiences": ["api"],
                "claimToHeaders": [{"header": "x-sub", "claim": "sub"}],
                "extractFrom": {"headers": [{"name": "x-token", "valuePrefix": "Bearer "}], "cookies": ["t"], "params": ["t"]},
            }, {"name": "unreachable"}, {
                "name": "remote",
                "remoteJWKS": {"uri": "https://idp.example.com/keys", "cacheDuration": "5m", "failedRefetchDuration": "2s"},
            }],
        },
        "csrf": {"shadowFraction": {"numerator": 1, "denominator": 3}, "additionalOrigins": ["https://*.example.com"]},
        "extAuth": {
            "grpc": {"backendRefs": [{"name": "authz", "port": 9000}], "backendSettings": {"retry": {
                "numRetries": 2, "retryOn": {"triggers": ["unavailable"]},
                "perRetry": {"backOff": {"baseInterval": "2s", "maxInterval": "1s"}},
            }}},
            "headersToExtAuth": ["x-tenant"], "bodyToExtAuth": {"maxRequestBytes": 1024}, "statusOnError": 503,
            "recomputeRoute": true, "includeRouteMetadata": true,
        },
        "authorization": {"defaultAction": "Deny", "rules": [
            rule("Allow", json!({"methods": ["GET"], "path": {"value": "/a"}}), json!({"clientCIDRs": ["10.0.0.0/8", "fd00::/8"]})),
            rule("Deny", json!({"path": {"type": "Exact", "value": "/b", "invert": true}}), json!({"headers": [
                {"name": "x-team", "values": ["red", "blue"]},
            ]})),
            rule("Allow", json!({"path": {"type": "RegularExpression", "value": "/c/[0-9]+$"}}), json!({"jwt": {
                "provider": "idp", "scopes": ["read", "write"],
                "claims": [
                    {"name": "user.role", "values": ["admin", "owner"]},
                    {"name": "groups", "valueType": "StringArray", "values": ["ops"]},
                ],
            }})),
            json!({"action": "Allow"}),
            rule("Allow", json!({}), json!({"headers": [{"name": "x-none", "values": []}]})),
        ]},
    });
    let authz = Destination {
        name: "securitypolicy/default/security/extauth/0".into(),
        backends: vec![backend("securitypolicy/default/security/extauth/0/backend/0", ip(7))],
    };
    full.security = Some(Arc::new(Security {
        ext_auth: Some(ExtAuth {
            destination: authz,
            authority: "authz.default:9000".into(),
            context_extensions: BTreeMap::from([("plan".into(), "gold".into())]),
        }),
        jwks: vec![Some(Jwks::Local(JWKS.into())), None, Some(remote("idp_example_com_443", Some("idp.example.com")))],
        auth_policies: vec!["securitypolicy/default/security".into(), "securitypolicy/default/security/oidc".into()],
        back_channel_logout: Some("/oauth2/backchannel-logout".into()),
        ..security(spec)
    }));
    let mut asked = route("asked", "asked.example.com", forward("asked", vec![backend("asked/backend/0", ip(2))]));
    asked.security = Some(Arc::new(Security {
        ext_auth: Some(ExtAuth {
            destination: Destination {
                name: "securitypolicy/default/http/extauth/0".into(),
                backends: vec![backend("securitypolicy/default/http/extauth/0/backend/0", ip(8))],
            },
            authority: "authz.default:8080".into(),
            context_extensions: BTreeMap::new(),
        }),
        jwks: vec![Some(remote("securitypolicy/default/http/jwt/0", None))],
        ..security(json!({
            "extAuth": {
                "http": {
                    "backendRefs": [{"name": "authz", "port": 8080}], "path": "/auth", "headersToBackend": ["x-user"],
                    "backendSettings": {"retry": {"numRetries": 1}},
                },
                "headersToExtAuth": ["cookie"], "failOpen": false,
            },
            "jwt": {"providers": [{"name": "near", "remoteJWKS": {
                "uri": "http://idp.example.com/keys",
                "backendRefs": [{"name": "idp", "port": 80}],
                "backendSettings": {"timeout": {"http": {"requestTimeout": "5s"}}, "retry": {"numRetries": 3}},
            }}]},
        }))
    }));
    let mut closed =
        route("closed", "closed.example.com", Action::Respond { status: 404, body: String::new(), format: false });
    closed.security = Some(Arc::new(security(json!({"authorization": {}}))));
    let resources = build(&proxy(vec![listener("http", 10080, vec![full, asked, closed])]));
    let clusters: Vec<&str> = resources.of(Type::Cluster).map(|(name, _)| name).collect();
    assert_eq!(
        clusters,
        [
            "extauth_cluster",
            "httproute/default/asked/rule/0",
            "httproute/default/full/rule/0",
            "idp_example_com_443",
            "securitypolicy/default/http/extauth/0",
            "securitypolicy/default/http/jwt/0",
            "securitypolicy/default/security/extauth/0",
        ]
    );
}

#[test]
fn envoy_takes_what_rules_in_cel_can_say() {
    let mut ruled = route("ruled", "*", forward("a", vec![backend("a/backend/0", ip(1))]));
    ruled.security = Some(Arc::new(security(json!({
        "authorization": {"rules": [
            json!({"action": "Deny", "cel": "request.path.startsWith('/d') && !('x-e' in request.headers)"}),
            json!({"action": "Allow", "cel": "request.headers['x-f'].matches('^[a-z]+$') || (has(request.headers.host) &&
                request.method in ['GET', 'PUT'] && size(request.headers) < 20 && source.port > 1024 &&
                {'a': 1u, 'b': 2u}['a'] == 1u && double(request.size) < 1.5 && !connection.mtls &&
                request.time.getHours('UTC') >= 0 && (request.size == 0 ? true : -request.size % 2 == 0)) &&
                type(request.path) != type(1) && request.time > timestamp('2020-01-01T00:00:00Z') && duration('1h') != duration('2h') && b'a' != b'b' && request.headers != null"}),
        ]},
    }))));
    build(&proxy(vec![listener("http", 10080, vec![ruled])]));
}

#[test]
fn equal_proxies_have_equal_versions() {
    let build = || {
        let mut secured = route("a", "*", forward("a", vec![backend("a/backend/0", ip(1))]));
        secured.security = Some(Arc::new(security(json!({
            "cors": {"allowOrigins": ["*"]},
            "authorization": {"rules": [{"action": "Allow"}]},
        }))));
        secured.traffic = Some(traffic(json!({"faultInjection": {"delay": {"fixedDelay": "1s"}}})));
        xds::build(&proxy(vec![listener("http", 10080, vec![secured])]), &Settings::default())
    };
    let first = build();
    for _ in 0..20 {
        assert_eq!(build(), first);
    }
}

#[test]
fn a_large_regular_expression_does_not_cost_the_listener() {
    let mut large = route("large", "*", Action::Respond { status: 404, body: String::new(), format: false });
    large.matches.path = Some(PathMatch::RegularExpression("/[a-z]{500}/[0-9]{500}".into()));
    build(&proxy(vec![listener("http", 10080, vec![large])]));
}

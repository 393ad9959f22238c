//! Methods whose credential Envoy itself passes on, or that others are asked about, behind a real Envoy.

use std::fs;
use std::path::Path;

use axum::http::StatusCode;
use http_body_util::BodyExt as _;
use proto::extauth::{Basic, CertificateSource, ClientCertificate, Introspection, Kubernetes, Method, Policy, Secret};
use serde_json::{Value, json};
use tonic::codegen::Service as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::certificates::{Authority, Pair};
use crate::envoy::{House, any_port, manager, seen};
use crate::running::Running;
use crate::support::Response;
use crate::web::{Reply, Web};

fn guard(name: &str, method: Method) -> Policy {
    Policy { name: name.into(), methods: vec![method], ..Policy::default() }
}

/// A second door, over TLS, where a client may show a certificate of the authority.
fn mutual(authority: &Authority) -> impl Fn(&Path, &mut Value) {
    let Pair { cert, key } = authority.issue("shop.example.com");
    let trusted = authority.pem();
    move |_, config| {
        manager(config)["http_filters"][0]["typed_config"]["include_peer_certificate"] = true.into();
        let mut door = config["static_resources"]["listeners"][0].clone();
        door["name"] = "tls".into();
        door["address"] = any_port();
        door["filter_chains"][0]["transport_socket"] = json!({"name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_certificates": [{"certificate_chain": {"inline_string": cert}, "private_key": {"inline_string": key}}],
                "validation_context": {"trusted_ca": {"inline_string": trusted}},
            },
        }});
        let manager = &mut door["filter_chains"][0]["filters"][0]["typed_config"];
        manager["forward_client_cert_details"] = "SANITIZE_SET".into();
        manager["set_current_client_cert_details"] = json!({"cert": true, "uri": true, "dns": true});
        // The header chooses the policy, as another route would.
        let plain = manager["route_config"]["virtual_hosts"][0]["routes"][0].clone();
        let routes = ["forwarded", "guard"].map(|name| {
            let mut route = plain.clone();
            if name != "guard" {
                route["match"]["headers"] = json!([{"name": "x-case", "string_match": {"exact": name}}]);
            }
            let per_route = &mut route["typed_per_filter_config"]["envoy.filters.http.ext_authz"];
            per_route["check_settings"]["context_extensions"]["policy"] = name.into();
            route
        });
        manager["route_config"]["virtual_hosts"][0]["routes"] = json!(routes);
        config["static_resources"]["listeners"].as_array_mut().unwrap().push(door);
    }
}

/// One request over HTTP/2 and TLS; nothing when there is no connection.
async fn get(port: u16, authority: &Authority, client: Option<&Pair>, headers: &[(&str, &str)]) -> Option<Response> {
    let ca = Certificate::from_pem(authority.pem());
    let mut tls = ClientTlsConfig::new().ca_certificate(ca).domain_name("shop.example.com");
    if let Some(Pair { cert, key }) = client {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    let endpoint = Channel::from_shared(format!("https://127.0.0.1:{port}")).unwrap().tls_config(tls).unwrap();
    let mut channel = endpoint.connect().await.ok()?;
    let mut request = http::Request::get("https://shop.example.com/orders");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    std::future::poll_fn(|context| channel.poll_ready(context)).await.ok()?;
    let answer = channel.call(request.body(tonic::body::Body::empty()).unwrap()).await.ok()?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    Some(Response { status, headers: String::new(), body: String::from_utf8_lossy(&body).into_owned() })
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_say_who_it_is_whether_shown_to_envoy_or_passed_on() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let by = |from| {
        Method::ClientCertificate(ClientCertificate {
            from,
            uris: vec!["spiffe://example.org/ns/shop/*".into()],
            client_header: Some("x-client".into()),
            ..ClientCertificate::default()
        })
    };
    let policies =
        vec![guard("guard", by(CertificateSource::Peer)), guard("forwarded", by(CertificateSource::Forwarded))];
    // The plain door answers 403 for ever: nobody shows a certificate there.
    let house = House::begin(Running::with(policies, |_, _| {}), mutual(&authority));
    let port = house.port("tls");
    let web = authority.issue_uri("spiffe://example.org/ns/shop/sa/web");
    let other = authority.issue_uri("spiffe://example.org/ns/other/sa/web");
    let forged = stranger.issue_uri("spiffe://example.org/ns/shop/sa/web");
    let claim = "By=spiffe://example.org/x;URI=spiffe://example.org/ns/shop/sa/web";
    for case in ["peer", "forwarded"] {
        let headers = [("x-case", case), ("x-client", "root"), ("x-forwarded-client-cert", claim)];
        let known = get(port, &authority, Some(&web), &headers).await.expect("an answer");
        assert_eq!(
            (known.status, seen(&known, "x-client")),
            (200, vec!["spiffe://example.org/ns/shop/sa/web"]),
            "{case}"
        );
        assert_eq!(seen(&known, "x-metadata"), ["client_certificate"]);
        let wrong = get(port, &authority, Some(&other), &headers).await.expect("an answer");
        assert_eq!(wrong.status, 403, "{case}: another workload");
        let nobody = get(port, &authority, None, &headers).await.expect("an answer");
        assert_eq!(nobody.status, 403, "{case}: what the client says of itself is not passed on");
        assert!(get(port, &authority, Some(&forged), &headers).await.is_none(), "{case}: another authority");
    }
}

#[test]
fn names_and_passwords_get_in_and_stay_here() {
    let users = Basic {
        htpasswd: Some(Secret::new("ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=")),
        username_header: Some("x-user".into()),
        ..Basic::default()
    };
    let house = House::with(vec![guard("guard", Method::Basic(users))], |_, _| {});
    let good = house.get("/", &["authorization: Basic YWRhOnNlY3JldA==", "x-user: root", "x_user: root"]);
    assert_eq!((good.status, seen(&good, "x-user"), seen(&good, "x-metadata")), (200, vec!["ada"], vec!["basic"]));
    assert!(seen(&good, "authorization").is_empty() && seen(&good, "x_user").is_empty(), "{}", good.body);
    for wrong in ["Basic YWRhOndyb25n", "Basic bob=", "Basic", "Bearer YWRhOnNlY3JldA=="] {
        let answer = house.get("/", &[&format!("authorization: {wrong}")]);
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(answer.headers.contains("www-authenticate: basic realm="), "{wrong}: {}", answer.headers);
    }
    let twice = house.get("/", &["authorization: Basic YWRhOnNlY3JldA==", "authorization: Basic YWRhOnNlY3JldA=="]);
    assert_eq!(twice.status, 401);
}

#[test]
fn service_accounts_and_opaque_tokens_are_asked_about() {
    let review = json!({"status": {"authenticated": true, "audiences": ["api"], "user": {
        "username": "system:serviceaccount:shop:web", "uid": "u-1", "groups": ["system:serviceaccounts"],
    }}});
    let api = Web::new(move |asked| {
        let known = asked.body.contains("pod-token");
        let said = if known { review.clone() } else { json!({"status": {"error": "unknown"}}) };
        Reply::Body(StatusCode::CREATED, said.to_string())
    });
    let issuer = Web::new(|asked| {
        let known = asked.body.contains("token=opaque1&");
        Reply::ok(json!({"active": known, "sub": "ada", "scope": "read"}).to_string())
    });
    let account = Kubernetes {
        name: "cluster".into(),
        audiences: vec!["api".into()],
        client_header: Some("x-client".into()),
        ..Kubernetes::default()
    };
    let opaque = Introspection {
        name: "opaque".into(),
        endpoint: issuer.url("/introspect"),
        client_id: "tollgate".into(),
        client_secret: Some(Secret::new("secret")),
        claims_to_headers: vec![crate::support::to_header("sub", "x-sub")],
        from: vec![crate::support::header("x-token", "")],
        ..Introspection::default()
    };
    let methods = vec![Method::Kubernetes(account), Method::Introspection(opaque)];
    let policies = vec![Policy { name: "guard".into(), methods, ..Policy::default() }];
    let running = Running::begin(policies, |dir, command| {
        fs::write(dir.join("own-token"), "own-token").unwrap();
        command.env("EXTAUTH_KUBERNETES_API", api.url("")).env("EXTAUTH_KUBERNETES_TOKEN_FILE", dir.join("own-token"));
    });
    let house = House::around(running, |_, _| {});
    let account = house.get("/", &["authorization: Bearer pod-token", "x-client: root"]);
    let client = vec!["system:serviceaccount:shop:web"];
    assert_eq!(
        (account.status, seen(&account, "x-client"), seen(&account, "x-metadata")),
        (200, client, vec!["kubernetes"])
    );
    assert!(!account.body.contains("pod-token"), "{}", account.body);
    let opaque = house.get("/", &["x-token: opaque1", "x-sub: root", "x-client: root"]);
    assert_eq!(
        (opaque.status, seen(&opaque, "x-sub"), seen(&opaque, "x-metadata")),
        (200, vec!["ada"], vec!["introspection"])
    );
    assert!(seen(&opaque, "x-client").is_empty(), "{}", opaque.body);
    assert_eq!(house.get("/", &["authorization: Bearer another"]).status, 401);
    assert_eq!(house.get("/", &["x-token: opaque2"]).status, 401);
    drop(api);
    assert_eq!(house.get("/", &["authorization: Bearer third"]).status, 503, "nobody says who it is");
}

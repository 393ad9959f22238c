//! What Envoy makes of routes beyond plain HTTP to one backend.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use crate::standalone::{Manifests, Standalone};
use crate::tls::{self, Authority, Pair};
use crate::tool::eventually;

/// The quickstart without its policies, with more manifests.
async fn quickstart_with(manifests: Manifests, text: &str) -> Standalone {
    manifests.write("more.yaml", text);
    Standalone::start(manifests).await
}

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: more}\nspec:\n  \
                     parentRefs: [{name: eg}]\n  hostnames: [more.example.com]\n";

#[tokio::test]
async fn filters_of_a_rule_act_in_envoy() {
    let rules = r#"
  rules:
  - matches: [{path: {value: /credential}}]
    filters:
    - {type: ExtensionRef, extensionRef: {group: gateway.envoyproxy.io, kind: HTTPRouteFilter, name: token}}
    backendRefs: [{name: backend, port: 3000}]
  - matches: [{path: {value: /answer}}]
    filters:
    - {type: ExtensionRef, extensionRef: {group: gateway.envoyproxy.io, kind: HTTPRouteFilter, name: answer}}
  - matches: [{path: {value: /cookie}}]
    filters:
    - {type: ExtensionRef, extensionRef: {group: gateway.envoyproxy.io, kind: HTTPRouteFilter, name: cookie}}
    backendRefs: [{name: backend, port: 3000}]
  - matches: [{path: {value: /session}}]
    sessionPersistence: {sessionName: sticky}
    backendRefs: [{name: backend, port: 3000}]
  - matches: [{path: {value: /cors}}]
    filters:
    - type: CORS
      cors: {allowOrigins: ["*"], allowMethods: ["*"], allowHeaders: ["*"], allowCredentials: true}
    backendRefs: [{name: backend, port: 3000}]
  - matches: [{path: {value: /host}}]
    filters:
    - {type: ExtensionRef, extensionRef: {group: gateway.envoyproxy.io, kind: HTTPRouteFilter, name: host}}
    backendRefs: [{name: backend, port: 3000}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: HTTPRouteFilter
metadata: {name: token}
spec: {credentialInjection: {overwrite: true, credential: {valueRef: {name: token}}}}
---
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {credential: Bearer of-the-gateway}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: HTTPRouteFilter
metadata: {name: answer}
spec: {directResponse: {statusCode: 410, contentType: text/plain, body: {type: Inline, inline: "gone: %REQ(x-a)%, 100%%"}}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: HTTPRouteFilter
metadata: {name: cookie}
spec: {matches: [{cookies: [{name: tier, value: gold}]}]}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: HTTPRouteFilter
metadata: {name: host}
spec: {urlRewrite: {hostname: {type: Header, header: x-host}}}
"#;
    let gateway =
        quickstart_with(Manifests::of("quickstart"), &format!("{ROUTE}{}", rules.trim_start_matches('\n'))).await;
    let host = "more.example.com";
    let get = async |path: &str, headers: &[(&str, &str)]| gateway.get(host, path, headers).await;

    let credential = get("/credential", &[("authorization", "Bearer of-the-client")]).await;
    assert_eq!(credential.echoed("authorization"), ["Bearer of-the-gateway"]);
    let answer = get("/answer", &[("x-a", "1")]).await;
    assert_eq!(
        (answer.status, answer.body.as_str(), answer.header("content-type")),
        (410, "gone: 1, 100%", "text/plain")
    );
    assert_eq!(get("/cookie", &[]).await.status, 404);
    assert_eq!(get("/cookie", &[("cookie", "a=b; tier=gold")]).await.status, 200);
    let session = get("/session", &[]).await;
    assert!(session.header("set-cookie").starts_with("sticky="), "{session:?}");
    assert_eq!(get("/host", &[("x-host", "other.example.com")]).await.echo()["host"], "other.example.com");

    let asked = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "x-b"),
    ];
    let preflight = gateway.request("OPTIONS", host, "/cors", &asked).await;
    assert_eq!(preflight.status, 200, "{preflight:?}");
    assert_eq!(preflight.header("access-control-allow-origin"), "https://a.example");
    assert_eq!(preflight.header("access-control-allow-credentials"), "true");
    // Browsers take a star for itself once credentials are allowed.
    assert_eq!(preflight.header("access-control-allow-methods"), "PUT", "{preflight:?}");
    assert_eq!(preflight.header("access-control-allow-headers"), "x-b", "{preflight:?}");
    gateway.stop().await;
}

const GATEWAY: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: eg}
spec: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: eg}
spec:
  gatewayClassName: eg
  tls: {backend: {clientCertificateRef: {name: own}}}
  listeners:
  - {name: http, protocol: HTTP, port: 80}
  - {name: tls, protocol: TLS, port: 443, tls: {mode: Passthrough}}
  - {name: udp, protocol: UDP, port: 53}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: secure}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: 8443}}]}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: datagrams}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: 2053}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: secure}
spec:
  parentRefs: [{name: eg, sectionName: http}]
  rules: [{backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: secure}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: secure}
spec:
  targetRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: secure}]
  validation: {hostname: secure.example.com, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: secure}
spec:
  parentRefs: [{name: eg, sectionName: tls}]
  hostnames: [secure.example.com]
  rules: [{backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: secure}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: datagrams}
spec:
  parentRefs: [{name: eg, sectionName: udp}]
  rules: [{backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: datagrams}]}]
"#;

/// Says which server name it was asked for and whether it was shown a certificate.
async fn secure_backend(address: SocketAddr, pair: &Pair, authority: &Authority) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind(address).await.unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let (_, session) = stream.get_ref();
                let name = session.server_name().unwrap_or("none").to_owned();
                let seen = format!("{name} {}", session.peer_certificates().is_some());
                let answer = service_fn(move |_: hyper::Request<Incoming>| {
                    let body = Full::<Bytes>::from(seen.clone());
                    async { Ok::<_, std::convert::Infallible>(hyper::Response::new(body)) }
                });
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
}

/// Answers each datagram with what is in it, reversed.
async fn datagram_backend(address: SocketAddr) {
    let socket = UdpSocket::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            buffer[..length].reverse();
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    });
}

#[tokio::test]
async fn backends_over_tls_by_server_name_and_by_datagram() {
    let manifests = Manifests::of("tcp-postgres");
    for file in ["backend.yaml", "route.yaml"] {
        manifests.remove(file);
    }
    let authority = Authority::new();
    let own = authority.issue(&["gateway.example.com"]);
    let config_map = |authority: &Authority| {
        let data = serde_json::json!({"ca.crt": authority.certificate()});
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata: {data}\n")
    };
    manifests.write("gateway.yaml", GATEWAY);
    manifests.write("own.yaml", &own.secret("own"));
    manifests.write("ca.yaml", &config_map(&authority));
    let address = manifests.address();
    let pair = authority.issue(&["secure.example.com"]);
    secure_backend(SocketAddr::from((address, 8443)), &pair, &authority).await;
    datagram_backend(SocketAddr::from((address, 2053))).await;
    let gateway = Standalone::start(manifests).await;

    let answer = gateway.get("www.example.com", "/", &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "secure.example.com true"), "{answer:?}");

    let listener = SocketAddr::from((address, 10443));
    let seen = tls::get(listener, &authority, None, "secure.example.com", "secure.example.com").await.unwrap();
    assert_eq!(seen.status, 200);
    assert!(tls::get(listener, &authority, None, "other.example.com", "other.example.com").await.is_err());

    let client = UdpSocket::bind((address, 0)).await.unwrap();
    client.connect((address, 10053)).await.unwrap();
    let reversed = eventually("a datagram comes back", async || {
        client.send(b"abc").await.ok()?;
        let mut buffer = [0; 16];
        let length =
            tokio::time::timeout(std::time::Duration::from_millis(500), client.recv(&mut buffer)).await.ok()?.ok()?;
        Some(buffer[..length].to_vec())
    })
    .await;
    assert_eq!(reversed, b"cba");
    gateway.stop().await;
}

//! What a real Envoy refuses.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use controller_core::{ServiceAddress, ir::Endpoint, xds::bootstrap::bootstrap};
use envoy_types::pb::envoy::config::core::v3::api_config_source::ApiType;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    api_server::{ApiServer, free_port},
    controller::{Controller, controller_name},
    tool::{self, eventually},
};

/// An Envoy of one proxy; ends with the test.
pub(crate) struct Envoy(Child);

impl Envoy {
    pub(crate) fn start(xds: SocketAddr, cluster: &str, variant: ApiType) -> Self {
        Self::start_with(xds, cluster, SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())), variant)
    }

    /// With this address of its admin interface.
    pub(crate) fn start_with(xds: SocketAddr, cluster: &str, admin: SocketAddr, variant: ApiType) -> Self {
        let address = ServiceAddress::Ip(xds.ip(), xds.port());
        let mut bootstrap = bootstrap(&address, &Endpoint::Ip(admin.ip(), admin.port()));
        let resources = bootstrap.dynamic_resources.as_mut().unwrap();
        resources.ads_config.as_mut().unwrap().set_api_type(variant);
        let config = proto::json::to_json_as_declared(&bootstrap).unwrap();
        let envoy = Command::new(tool::find("envoy", "ENVOY"))
            .args(["--service-cluster", cluster, "--service-node", "envoy", "--disable-hot-restart"])
            .args(["--concurrency", "1", "--log-level", "error", "--config-yaml", &config.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(envoy)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the answer redirects to, or the status line if it does not.
async fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: web.example\r\nx-name: b\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
    location.or(answer.lines().next()).map(str::to_owned)
}

pub(crate) async fn until(port: u16, path: &str, expected: &str) {
    eventually(&format!("{path} is answered with {expected}"), async || {
        (get(port, path).await? == expected).then_some(())
    })
    .await;
}

/// A route of a test that redirects one path; `more` is a further condition of its match.
pub(crate) fn redirect(test: &str, name: &str, host: &str, more: &str) -> String {
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {test}}}
spec:
  parentRefs: [{{name: {test}}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /{name}}}{more}}}]
    filters: [{{type: RequestRedirect, requestRedirect: {{hostname: {host}, port: 80}}}}]
"
    )
}

#[tokio::test]
async fn what_an_envoy_refuses_is_held_back_and_told() {
    is_held_back_and_told("refused", ApiType::DeltaGrpc).await;
}

#[tokio::test]
async fn what_an_envoy_refuses_of_the_state_of_the_world_is_held_back_and_told() {
    is_held_back_and_told("refused-state", ApiType::Grpc).await;
}

async fn is_held_back_and_told(test: &str, variant: ApiType) {
    let server = ApiServer::shared().await;
    let port = free_port();
    let controller = controller_name(test);
    let gateway = format!(
        r"
apiVersion: v1
kind: Namespace
metadata: {{name: {test}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {test}}}
spec: {{controllerName: {controller}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {test}, namespace: {test}}}
spec:
  gatewayClassName: {test}
  listeners: [{{name: http, port: {port}, protocol: HTTP}}]
"
    );
    server.apply(&gateway).await;
    server.apply(&redirect(test, "a", "one.example", "")).await;
    server.apply(&redirect(test, "b", "one.example", "")).await;
    let controller = Controller::start(&server, test, &[]).await;
    let envoy = Envoy::start(controller.xds, &format!("{test}/{test}"), variant);
    until(port, "/a", "http://one.example/a").await;
    until(port, "/b", "http://one.example/b").await;

    // A class of characters that is in the language of regular expressions, and not in Envoy's.
    let regex = r", headers: [{type: RegularExpression, name: x-name, value: '\p{Alphabetic}+'}]";
    server.apply(&redirect(test, "b", "two.example", regex)).await;
    server.until_condition("HTTPRoute", test, "b", ["Programmed", "False", "Invalid"]).await;
    server.apply(&redirect(test, "a", "two.example", "")).await;
    server.apply(&redirect(test, "c", "two.example", "")).await;
    until(port, "/a", "http://two.example/a").await;
    until(port, "/c", "http://two.example/c").await;
    assert_eq!(get(port, "/b").await.as_deref(), Some("http://one.example/b"));
    let explained = Command::new(env!("CARGO_BIN_EXE_controller"))
        .args(["explain", "refused/b", "--namespace", "refused", "--controller-name", &controller_name("refused")])
        .env("KUBECONFIG", server.kubeconfig())
        .output()
        .unwrap();
    let explained = String::from_utf8(explained.stdout).unwrap();
    for line in
        ["any method /b/*, header x-name like", "Programmed is False (Invalid): Envoy refuses what this asks for"]
    {
        assert!(explained.contains(line), "no {line:?} in\n{explained}");
    }
    for name in ["a", "c"] {
        let route = server.until_condition("HTTPRoute", test, name, ["Accepted", "True", "Accepted"]).await;
        assert!(!route["status"].to_string().contains("Programmed"), "{name}");
    }

    // An Envoy that starts now gets what the others hold.
    drop(envoy);
    let _envoy = Envoy::start(controller.xds, &format!("{test}/{test}"), variant);
    until(port, "/a", "http://two.example/a").await;
    until(port, "/b", "http://one.example/b").await;

    server.apply(&redirect(test, "b", "three.example", "")).await;
    until(port, "/b", "http://three.example/b").await;
    server.until_not_refused("HTTPRoute", test, "b").await;
}

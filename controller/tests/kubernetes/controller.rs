//! `controller serve` as a child process.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{api_server::ApiServer, tool::eventually};

/// Ends with the test.
pub(crate) struct Controller {
    process: Child,
    pub(crate) xds: SocketAddr,
    pub(crate) rate_limit_xds: SocketAddr,
    pub(crate) admin: SocketAddr,
    debug: SocketAddr,
    _folder: TempDir,
}

impl Controller {
    /// For the classes of this controller name, in clear text.
    pub(crate) async fn start(server: &ApiServer, name: &str, arguments: &[&str]) -> Self {
        let mut insecure = vec!["--insecure"];
        insecure.extend(arguments);
        Self::start_with(server, name, &insecure).await
    }

    /// With further arguments; in the namespace of the test, where it has its Lease.
    pub(crate) async fn start_with(server: &ApiServer, name: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ready_file = folder.path().join("ready.json");
        let mut process = Command::new(env!("CARGO_BIN_EXE_controller"))
            .args([
                "serve",
                "--xds",
                "127.0.0.1:0",
                "--rate-limit-xds",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--debug",
                "127.0.0.1:0",
                "--namespace",
                name,
            ])
            .args(["--controller-name", &controller_name(name), "--rediscovery-seconds", "1"])
            .envs((!arguments.contains(&"--kubeconfig")).then(|| ("KUBECONFIG", server.kubeconfig())))
            .arg("--ready-file")
            .arg(&ready_file)
            .args(arguments)
            .spawn()
            .unwrap();
        let report = eventually("the controller listens", async || {
            assert!(process.try_wait().unwrap().is_none(), "the controller has ended");
            serde_json::from_slice::<Value>(&fs::read(&ready_file).ok()?).ok()
        })
        .await;
        let address = |field: &str| report[field].as_str().unwrap().parse().unwrap();
        Self {
            process,
            xds: address("xds"),
            rate_limit_xds: address("rateLimitXds"),
            admin: address("admin"),
            debug: address("debug"),
            _folder: folder,
        }
    }

    /// Whether it says that it serves something.
    pub(crate) async fn is_ready(&self) -> bool {
        self.ask(self.admin, "/readyz").await.starts_with("HTTP/1.1 200")
    }

    /// The value of a metric, zero while there is none.
    pub(crate) async fn metric(&self, name: &str) -> u32 {
        let text = self.ask(self.admin, "/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_default()
    }

    /// What `/debug/…` says.
    pub(crate) async fn debug(&self, path: &str) -> Value {
        let answer = self.ask(self.debug, path).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    async fn ask(&self, address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: controller\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The name of a test's controller.
pub(crate) fn controller_name(name: &str) -> String {
    format!("test.example.com/{name}")
}

/// A namespace with a GatewayClass, a Gateway and a route to a Service, all called as the test.
pub(crate) fn manifests(name: &str) -> String {
    let controller = controller_name(name);
    format!(
        r"
apiVersion: v1
kind: Namespace
metadata: {{name: {name}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {name}}}
spec: {{controllerName: {controller}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {name}}}
spec:
  gatewayClassName: {name}
  listeners: [{{name: http, port: 80, protocol: HTTP}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {name}}}
spec:
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}
  namespace: {name}
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
endpoints: [{{addresses: [192.0.2.1], conditions: {{ready: true}}}}]
ports: [{{name: http, port: 8080, protocol: TCP}}]
---
{}",
        route(name, "app", name)
    )
}

/// A route of a test, from its Gateway to a Service of its namespace.
pub(crate) fn route(name: &str, route: &str, service: &str) -> String {
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {route}, namespace: {name}}}
spec:
  parentRefs: [{{name: {name}}}]
  hostnames: [{route}.example.com]
  rules: [{{backendRefs: [{{name: {service}, port: 80}}]}}]
"
    )
}

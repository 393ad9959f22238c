//! Requests through a real Envoy while the control plane loses its parts.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use controller_core::{ServiceAddress, ir::Endpoint, xds::bootstrap};
use proto::drain;
use tempfile::TempDir;

use crate::{
    api_server::ApiServer,
    controller::{Controller, controller_name},
    http::get,
    tool::{self, eventually, signal},
};

const HOST: &str = "app.example.com";

/// An Envoy whose control plane is two replicas.
struct Envoy {
    process: Child,
    _folder: TempDir,
}

impl Envoy {
    fn start(replicas: [SocketAddr; 2], key: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = replicas;
        let admin = Endpoint::Unix(folder.path().join("admin.sock").display().to_string());
        let mut config = bootstrap::bootstrap(&ServiceAddress::Ip(first.ip(), first.port()), &admin);
        let other = bootstrap::bootstrap(&ServiceAddress::Ip(second.ip(), second.port()), &admin);
        let clusters = &mut config.static_resources.as_mut().unwrap().clusters;
        let localities = other.static_resources.unwrap().clusters.remove(0).load_assignment.unwrap().endpoints;
        clusters[0].load_assignment.as_mut().unwrap().endpoints[0]
            .lb_endpoints
            .extend(localities[0].lb_endpoints.clone());
        let path = folder.path().join("bootstrap.json");
        fs::write(&path, proto::json::to_json(&config).unwrap().to_string()).unwrap();
        Self { process: spawn(folder.path(), &path, key), _folder: folder }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &Path, config: &Path, key: &str) -> Child {
    let log = fs::File::create(folder.join("envoy.log")).unwrap();
    Command::new(tool::find("envoy", "ENVOY"))
        .arg("--config-path")
        .arg(config)
        .args(["--service-cluster", key, "--service-node", "envoy-1", "--disable-hot-restart", "--concurrency", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// The API server takes no loopback addresses of endpoints, but names that mean nothing else (RFC 6761, 6.3).
fn manifests(name: &str, port: u16, backend: SocketAddr) -> String {
    let controller = controller_name(name);
    let backend = backend.port();
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
  listeners: [{{name: http, port: {port}, protocol: HTTP}}]
---
apiVersion: v1
kind: Service
metadata: {{name: app, namespace: {name}}}
spec:
  ports: [{{name: http, port: 80, targetPort: {backend}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: app, namespace: {name}, labels: {{kubernetes.io/service-name: app}}}}
addressType: FQDN
endpoints: [{{addresses: [app.localhost], conditions: {{ready: true}}}}]
ports: [{{name: http, port: {backend}, protocol: TCP}}]
---
{}",
        route(name, "app", "first")
    )
}

/// A route that shows which revision of it is in force.
fn route(name: &str, route: &str, revision: &str) -> String {
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {route}, namespace: {name}}}
spec:
  parentRefs: [{{name: {name}}}]
  hostnames: [{HOST}]
  rules:
    - filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-revision, value: {revision}}}]}}}}]
      backendRefs: [{{name: app, port: 80}}]
"
    )
}

/// Requests one after another until it is dropped.
struct Traffic {
    ends: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Traffic {
    fn start(address: SocketAddr) -> Self {
        let (ends, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ending, count) = (Arc::clone(&ends), Arc::clone(&good));
        let task = tokio::spawn(async move {
            let mut failures = Vec::new();
            while !ending.load(Ordering::Relaxed) {
                match get(address, HOST, "/", &[]).await {
                    Ok(answer) if answer.status == 200 => drop(count.fetch_add(1, Ordering::Relaxed)),
                    Ok(answer) => failures.push(format!("{answer:?}")),
                    Err(error) => failures.push(error.to_string()),
                }
            }
            failures
        });
        Self { ends, good, task }
    }

    /// So many more requests are answered.
    async fn flows(&self, requests: usize) {
        let enough = self.good.load(Ordering::Relaxed) + requests;
        let flows = async || (self.good.load(Ordering::Relaxed) >= enough).then_some(());
        eventually("requests are answered", flows).await;
    }

    async fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        assert_eq!(self.task.await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c01_c02_c05_no_request_fails_without_leader_api_server_and_data() {
    let server = ApiServer::start().await;
    let (_ends, signal_of_end) = drain::new();
    let listener = proto::serve::Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let proto::serve::Address::Tcp(backend) = listener.address().unwrap() else { panic!("a TCP address expected") };
    tokio::spawn(controller::echo::serve(listener, "echo", signal_of_end));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    server.apply(&manifests("losses", port, backend)).await;

    let arguments = ["--lease-seconds", "3", "--identity"];
    let first = Controller::start(&server, "losses", &[&arguments[..], &["first"]].concat()).await;
    eventually("the first leads", async || (first.metric("controller_leader").await == 1).then_some(())).await;
    let second = Controller::start(&server, "losses", &[&arguments[..], &["second"]].concat()).await;
    eventually("both are ready", async || (first.is_ready().await && second.is_ready().await).then_some(())).await;
    let _envoy = Envoy::start([first.xds, second.xds], "losses/losses");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let shows = async |revision: &str| {
        let answer = get(address, HOST, "/", &[]).await.ok()?;
        (answer.status == 200 && answer.header("x-revision") == revision).then_some(())
    };
    eventually("Envoy serves", async || shows("first").await).await;
    let traffic = Traffic::start(address);
    traffic.flows(20).await;

    assert!(signal("KILL", first.pid()));
    eventually("the second leads", async || (second.metric("controller_leader").await == 1).then_some(())).await;
    server.apply(&route("losses", "app", "second")).await;
    eventually("a change arrives through the second", async || shows("second").await).await;
    traffic.flows(20).await;

    server.kill();
    traffic.flows(20).await;
    server.restart().await;
    server.apply(&route("losses", "app", "third")).await;
    eventually("a change arrives when it is back", async || shows("third").await).await;

    server.kill();
    server.lose_everything();
    server.restart().await;
    let held = async || (second.metric("controller_held_objects").await > 0).then_some(());
    eventually("the loss is noticed", held).await;
    traffic.flows(20).await;
    traffic.end().await;
}

//! A real kube-apiserver and its etcd, as `deploy/dev/kube.sh` provides them.

use std::{
    ffi::OsStr,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, Weak, mpsc},
    thread,
};

use http::{Request, header::CONTENT_TYPE};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    core::v1::ServiceAccount,
    events::v1::Event,
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery,
};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    pki::Authority,
    tool::{self, eventually},
};

const TOKEN: &str = "the-test-is-the-admin";
/// Every write is noted, with the user agent of its author, and whatever a service account asks for.
const AUDIT: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]}]}"#;

/// A test's connection to an API server, which ends with the last of them.
pub(crate) struct ApiServer {
    client: Client,
    processes: Arc<Processes>,
}

struct Processes {
    folder: TempDir,
    etcd: Mutex<Child>,
    server: Mutex<Child>,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    etcd: u16,
    peer: u16,
    api: u16,
}

impl ApiServer {
    /// The one that all tests share which do it no harm. Each keeps to a namespace and a GatewayClass of its own.
    pub(crate) async fn shared() -> Self {
        static SHARED: tokio::sync::Mutex<Weak<Processes>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(processes) = shared.upgrade() {
            return Self::connect(processes).await;
        }
        let server = Self::start().await;
        *shared = Arc::downgrade(&server.processes);
        server
    }

    /// A new one, with the CRDs of Gateway API's standard channel and ours.
    pub(crate) async fn start() -> Self {
        let server = Self::bare().await;
        server.define_gateway_api().await;
        server.define_ours().await;
        server
    }

    /// A new one without any CRDs.
    pub(crate) async fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = Ports { etcd: free_port(), peer: free_port(), api: free_port() };
        write_files(folder.path(), ports);
        let etcd = Mutex::new(spawn_etcd(folder.path(), ports));
        let server = Mutex::new(spawn_server(folder.path(), ports));
        let server = Self::connect(Arc::new(Processes { folder, etcd, server, ports })).await;
        server.answers().await;
        server
    }

    /// With a client of its own: each belongs to the runtime that it was made in.
    async fn connect(processes: Arc<Processes>) -> Self {
        let kubeconfig = Kubeconfig::read_from(processes.folder.path().join("kubeconfig")).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Self { client: Client::try_from(config).unwrap(), processes }
    }

    /// For `--kubeconfig`.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.processes.folder.path().join("kubeconfig")
    }

    /// Ends the API server as a crash does it.
    pub(crate) fn kill(&self) {
        end(&mut self.processes.server.lock().unwrap());
    }

    /// On the same port again.
    pub(crate) async fn restart(&self) {
        *self.processes.server.lock().unwrap() = spawn_server(self.processes.folder.path(), self.processes.ports);
        self.answers().await;
    }

    /// Takes everything that it knows away, while it is down.
    pub(crate) fn lose_everything(&self) {
        let mut etcd = self.processes.etcd.lock().unwrap();
        end(&mut etcd);
        fs::remove_dir_all(self.processes.folder.path().join("etcd")).unwrap();
        *etcd = spawn_etcd(self.processes.folder.path(), self.processes.ports);
    }

    async fn answers(&self) {
        eventually("the API server is ready", async || {
            let request = Request::get("/readyz").body(Vec::new()).unwrap();
            self.client.request_text(request).await.ok()
        })
        .await;
    }

    /// The CRDs of Gateway API's standard channel.
    pub(crate) async fn define_gateway_api(&self) {
        for crd in gateway_api_crds() {
            self.define(crd).await;
        }
    }

    /// The CRDs that the controller prints.
    pub(crate) async fn define_ours(&self) {
        for crd in our_crds() {
            self.define(crd).await;
        }
    }

    /// Creates a CRD from YAML, and waits until objects of it can be made.
    pub(crate) async fn define(&self, crd: String) {
        let request = Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions");
        let request = request.header(CONTENT_TYPE, "application/yaml").body(crd.into_bytes()).unwrap();
        let crd: Value = self.client.request(request).await.unwrap();
        let text = |path: &str| crd.pointer(path).and_then(Value::as_str).unwrap().to_owned();
        let (group, kind) = (text("/spec/group"), text("/spec/names/kind"));
        eventually("the CRD is served", async || {
            let group = discovery::group(&self.client, &group).await.ok()?;
            let mut served = group.versions().flat_map(|version| group.versioned_resources(version));
            served.any(|(resource, _)| resource.kind == kind).then_some(())
        })
        .await;
    }

    /// Does what `kubectl apply --server-side` does for each of the manifests.
    pub(crate) async fn apply(&self, manifests: &str) {
        for manifest in serde_saphyr::from_multiple::<Value>(manifests).unwrap() {
            self.try_put(&manifest).await.unwrap();
        }
    }

    /// Does the same for one manifest.
    pub(crate) async fn put(&self, manifest: &Value) {
        self.try_put(manifest).await.unwrap();
    }

    /// Does the same, and yields what the API server makes of it.
    pub(crate) async fn try_put(&self, manifest: &Value) -> kube::Result<DynamicObject> {
        let (api, name) = self.api(manifest).await;
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(manifest)).await
    }

    /// Deletes what the manifests name.
    pub(crate) async fn delete(&self, manifests: &str) {
        for manifest in serde_saphyr::from_multiple::<Value>(manifests).unwrap() {
            let (api, name) = self.api(&manifest).await;
            api.delete(&name, &DeleteParams::default()).await.unwrap();
        }
    }

    /// Access to the objects of a manifest's kind and namespace, and the name in it.
    async fn api(&self, manifest: &Value) -> (Api<DynamicObject>, String) {
        let text = |path: &str| manifest.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = text("/apiVersion").rsplit_once('/').unwrap_or(("", text("/apiVersion")));
        let kind = GroupVersionKind::gvk(group, version, text("/kind"));
        let (resource, _) = discovery::pinned_kind(&self.client, &kind).await.unwrap();
        let api = match text("/metadata/namespace") {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        (api, text("/metadata/name").to_owned())
    }

    /// A token of a service account, which is made if it does not exist.
    pub(crate) async fn token(&self, namespace: &str, account: &str, audience: &str) -> String {
        let manifest = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": namespace}});
        self.try_put(&manifest).await.unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let spec = TokenRequestSpec { audiences: Some(vec![audience.to_owned()]), ..Default::default() };
        let request = TokenRequest { spec: Some(spec), ..Default::default() };
        let made = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
        made.status.unwrap().token.unwrap()
    }

    /// Whether the service account `name`, in the namespace of that name, is allowed something; the API server learns of new roles with
    /// a delay.
    pub(crate) async fn may(&self, name: &str, [verb, group, resource, namespace]: [&str; 4]) -> bool {
        let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let attributes = ResourceAttributes {
            verb: optional(verb),
            group: optional(group),
            resource: optional(resource),
            namespace: optional(namespace),
            ..ResourceAttributes::default()
        };
        let user = Some(format!("system:serviceaccount:{name}:{name}"));
        let spec = SubjectAccessReviewSpec { user, resource_attributes: Some(attributes), ..Default::default() };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &review).await.unwrap();
        review.status.is_some_and(|status| status.allowed)
    }

    /// Writes a status of an object, as another controller does.
    pub(crate) async fn write_status(&self, kind: &str, namespace: &str, name: &str, status: &Value) {
        let manifest = json!({"apiVersion": api_version(kind), "kind": kind,
            "metadata": {"name": name, "namespace": namespace}});
        let (api, name) = self.api(&manifest).await;
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// An object as it stands.
    pub(crate) async fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let manifest = json!({"apiVersion": api_version(kind), "kind": kind,
            "metadata": {"name": name, "namespace": namespace}});
        let (api, name) = self.api(&manifest).await;
        serde_json::to_value(api.get_opt(&name).await.unwrap()?).ok()
    }

    /// Waits until the condition of an object's status, or of the first of its parents or ancestors, is as said.
    pub(crate) async fn until_condition(&self, kind: &str, namespace: &str, name: &str, condition: [&str; 3]) -> Value {
        let what = format!("{kind} {namespace}/{name} has the condition {condition:?}");
        eventually(&what, async || {
            let object = self.find(kind, namespace, name).await?;
            has_condition(&object, condition).then_some(object)
        })
        .await
    }

    /// Waits until no condition of an object's status is `Programmed`.
    pub(crate) async fn until_not_refused(&self, kind: &str, namespace: &str, name: &str) {
        eventually(&format!("{kind} {namespace}/{name} is not refused"), async || {
            let object = self.find(kind, namespace, name).await?;
            (!object["status"].to_string().contains("\"Programmed\"")).then_some(())
        })
        .await;
    }

    /// Kind and name of what it is about, type and reason of each event in a namespace.
    pub(crate) async fn events(&self, namespace: &str) -> Vec<[String; 4]> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let events = events.list(&ListParams::default()).await.unwrap();
        let told = events.items.into_iter().map(|event| {
            let regarding = event.regarding.unwrap_or_default();
            [regarding.kind, regarding.name, event.type_, event.reason].map(Option::unwrap_or_default)
        });
        told.collect()
    }

    /// The writes of statuses in a namespace until now.
    pub(crate) fn status_writes(&self, namespace: &str) -> Vec<Value> {
        let mut entries = self.audit();
        entries.retain(|entry| {
            entry.pointer("/objectRef/subresource") == Some(&json!("status"))
                && entry.pointer("/objectRef/namespace") == Some(&json!(namespace))
                && entry.pointer("/verb").is_some_and(|verb| verb != "get")
        });
        entries
    }

    /// What the service account `name`, in the namespace of that name, has asked for until now.
    pub(crate) fn requests(&self, name: &str) -> Vec<Value> {
        let user = json!(format!("system:serviceaccount:{name}:{name}"));
        let mut entries = self.audit();
        entries.retain(|entry| entry.pointer("/user/username") == Some(&user));
        entries
    }

    fn audit(&self) -> Vec<Value> {
        let audit = fs::read_to_string(self.processes.folder.path().join("audit.log")).unwrap();
        audit.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        end(self.server.get_mut().unwrap());
        end(self.etcd.get_mut().unwrap());
    }
}

/// Whether a condition has this type, status and reason.
pub(crate) fn has_condition(object: &Value, [name, status, reason]: [&str; 3]) -> bool {
    let status_of = &object["status"];
    let first = status_of.pointer("/parents/0").or(status_of.pointer("/ancestors/0")).unwrap_or(status_of);
    let conditions = first["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().any(|one| one["type"] == name && one["status"] == status && one["reason"] == reason)
}

/// Of Kubernetes' own kinds; all others are of Gateway API v1.
fn api_version(kind: &str) -> &'static str {
    match kind {
        "ConfigMap" | "Service" | "ServiceAccount" => "v1",
        "Deployment" => "apps/v1",
        "BackendTrafficPolicy" | "EnvoyProxy" | "SecurityPolicy" => "gateway.envoyproxy.io/v1alpha1",
        _ => "gateway.networking.k8s.io/v1",
    }
}

/// Among the files there are admission policies too, which guard real clusters against downgrades.
fn is_crd(name: &str) -> bool {
    name.starts_with("gateway.networking.k8s.io_") && !name.contains("_vap_")
}

/// Those of Gateway API's standard channel.
pub(crate) fn gateway_api_crds() -> Vec<String> {
    let folder = tools("gateway-api", "GATEWAY_API").join("standard");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let crds = files.filter(|path| path.file_name().is_some_and(|name| is_crd(&name.to_string_lossy())));
    crds.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Those that the controller prints.
pub(crate) fn our_crds() -> Vec<String> {
    let crds = Command::new(env!("CARGO_BIN_EXE_controller")).arg("crds").output().unwrap();
    let text = format!("\n{}", String::from_utf8(crds.stdout).unwrap());
    text.split("\n---\n").filter(|crd| !crd.trim().is_empty()).map(str::to_owned).collect()
}

fn tools(name: &str, variable: &str) -> PathBuf {
    let linked = tool::workspace().join(".tools").join(name);
    let folder = std::env::var_os(variable).map_or(linked, PathBuf::from);
    assert!(folder.is_dir(), "{} is missing: run deploy/dev/kube.sh, or set {variable}", folder.display());
    folder
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn write_files(folder: &Path, ports: Ports) {
    let write = |name: &str, content: &str| fs::write(folder.join(name), content).unwrap();
    let authority = Authority::new();
    let server = authority.issue(&["127.0.0.1", "localhost"]);
    write("ca.crt", &authority.certificate());
    write("server.crt", &server.certificate);
    write("server.key", &server.key);
    let accounts = KeyPair::generate().unwrap();
    write("accounts.key", &accounts.serialize_pem());
    write("accounts.pub", &accounts.public_key_pem());
    write("tokens.csv", &format!("{TOKEN},test,1,\"system:masters\"\n"));
    write("audit.json", AUDIT);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{}", ports.api), "certificate-authority": folder.join("ca.crt")}}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    write("kubeconfig", &kubeconfig.to_string());
}

fn spawn_etcd(folder: &Path, ports: Ports) -> Child {
    let (client, peer) = (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.peer));
    let arguments = [
        "--data-dir=etcd",
        "--unsafe-no-fsync",
        "--log-level=error",
        &format!("--listen-client-urls={client}"),
        &format!("--advertise-client-urls={client}"),
        &format!("--listen-peer-urls={peer}"),
    ];
    spawn("etcd", folder, arguments)
}

fn spawn_server(folder: &Path, ports: Ports) -> Child {
    let arguments = [
        &format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        &format!("--secure-port={}", ports.api),
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--tls-cert-file=server.crt",
        "--tls-private-key-file=server.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-signing-key-file=accounts.key",
        "--service-account-key-file=accounts.pub",
        "--disable-admission-plugins=ServiceAccount",
        "--authorization-mode=RBAC",
        "--token-auth-file=tokens.csv",
        "--audit-policy-file=audit.json",
        "--audit-log-path=audit.log",
    ];
    spawn("kube-apiserver", folder, arguments)
}

/// Starts a program that the kernel ends when the test ends, however that ends.
fn spawn<const N: usize>(program: &str, folder: &Path, arguments: [impl AsRef<OsStr>; N]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_controller"));
    command.arg("run-child").arg(std::process::id().to_string()).arg(tools("kube", "KUBEBUILDER_ASSETS").join(program));
    let log = fs::File::options().create(true).append(true).open(folder.join(format!("{program}.log"))).unwrap();
    command.arg("--").args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let (sender, receiver) = mpsc::channel();
    // The kernel means the thread that has started it, so this one never ends.
    thread::spawn(move || {
        sender.send(command.spawn()).unwrap();
        loop {
            thread::park();
        }
    });
    receiver.recv().unwrap().unwrap()
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

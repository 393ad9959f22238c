//! A real Envoy as fleets start it, with the token of its pod.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
};

use controller_core::infra;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    api_server::ApiServer,
    controller::{Controller, manifests},
    identity::{Secured, answer},
    tool::{self, eventually, signal},
};

const NAME: &str = "renewed";
const AUDIENCE: &str = "envoy-gateway.renewed.svc.cluster.local";

/// A pod's files, and the Envoy that reads them.
struct Pod {
    folder: tempfile::TempDir,
    bootstrap: Value,
    envoy: Option<Child>,
}

impl Pod {
    /// What the Deployment and the ConfigMap of the fleet say, on this machine.
    async fn new(server: &ApiServer, secured: &Secured, replicas: [SocketAddr; 2]) -> Self {
        let fleet = infra::fleet_name(NAME, NAME);
        let found = |kind: &'static str| {
            let fleet = &fleet;
            eventually("the fleet is there", async move || server.find(kind, NAME, fleet).await)
        };
        let (deployment, map) = (found("Deployment").await, found("ConfigMap").await);
        let folder = tempfile::tempdir().unwrap();
        let place = |text: &str| {
            let path = |name: &str| folder.path().join(name).display().to_string();
            text.replace("/var/run/secrets/token", &path("token"))
                .replace("/certs", &path("certs"))
                .replace("/sds", &path("sds"))
        };
        for name in ["sds", "certs", "token"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for (name, content) in map["data"].as_object().unwrap() {
            fs::write(folder.path().join("sds").join(name), place(content.as_str().unwrap())).unwrap();
        }
        let pair = secured.authority.issue(&[&format!("*.{NAME}")]);
        let files = [("tls.crt", pair.certificate), ("tls.key", pair.key), ("ca.crt", secured.authority.certificate())];
        for (name, content) in files {
            fs::write(folder.path().join("certs").join(name), content).unwrap();
        }
        let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        let given = arguments.iter().find_map(|argument| argument.as_str()?.strip_prefix("--config-yaml "));
        let mut bootstrap: Value = serde_json::from_str(&place(given.unwrap())).unwrap();
        on_this_machine(&mut bootstrap, replicas);
        Self { folder, bootstrap, envoy: None }
    }

    /// Writes the token as a kubelet does: into a new folder, to which a link is moved.
    fn write_token(&self, generation: &str, token: &str) {
        let folder = self.folder.path().join("token");
        fs::create_dir(folder.join(generation)).unwrap();
        fs::write(folder.join(generation).join("sa-token"), token).unwrap();
        symlink(generation, folder.join("..next")).unwrap();
        fs::rename(folder.join("..next"), folder.join("..data")).unwrap();
        if !folder.join("sa-token").exists() {
            symlink("..data/sa-token", folder.join("sa-token")).unwrap();
        }
    }

    fn start_envoy(&mut self) {
        self.end_envoy();
        let log = fs::File::create(self.folder.path().join("envoy.log")).unwrap();
        let envoy = Command::new(tool::find("envoy", "ENVOY"))
            .args(["--config-yaml", &self.bootstrap.to_string(), "--service-cluster", &format!("{NAME}/{NAME}")])
            .args(["--service-node", "envoy-1", "--disable-hot-restart", "--concurrency", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.envoy = Some(envoy.unwrap());
    }

    fn end_envoy(&mut self) {
        if let Some(mut envoy) = self.envoy.take() {
            let _ = envoy.kill();
            let _ = envoy.wait();
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.end_envoy();
    }
}

/// Two replicas by their addresses instead of a Service, and no port that another test may want.
fn on_this_machine(bootstrap: &mut Value, replicas: [SocketAddr; 2]) {
    bootstrap.as_object_mut().unwrap().remove("admin");
    let resources = bootstrap["static_resources"].as_object_mut().unwrap();
    resources.remove("listeners");
    let clusters = resources["clusters"].as_array_mut().unwrap();
    let cluster = clusters.iter_mut().find(|cluster| cluster["name"] == "xds_cluster").unwrap();
    cluster["type"] = json!("STATIC");
    let endpoint = |address: SocketAddr| {
        let address = json!({"address": address.ip(), "port_value": address.port()});
        json!({"endpoint": {"address": {"socket_address": address}}})
    };
    cluster["load_assignment"]["endpoints"] = json!([{"lb_endpoints": replicas.map(endpoint)}]);
}

/// An Envoy holds what this replica serves.
async fn serves(controller: &Controller) -> Option<()> {
    let envoys = controller.debug("/debug/envoys").await;
    envoys.as_array()?.iter().any(|envoy| envoy["node"] == "envoy-1" && envoy["current"] == true).then_some(())
}

#[tokio::test]
async fn an_envoy_shows_its_newest_token_and_may_start_again_while_the_api_server_is_away() {
    let server = ApiServer::start().await;
    server.apply(&manifests(NAME)).await;
    let first = Secured::start(&server, NAME, &[]).await;
    let second = Secured::start_beside(&server, NAME, &first).await;
    let mut pod = Pod::new(&server, &first, [first.controller.xds, second.controller.xds]).await;
    let account = infra::fleet_name(NAME, NAME);
    let old = server.token(NAME, &account, AUDIENCE).await;
    pod.write_token("..1", &old);
    pod.start_envoy();
    let mut replicas = [first, second];
    eventually("a replica serves the Envoy", async || {
        for replica in &replicas {
            if serves(&replica.controller).await.is_some() {
                return Some(());
            }
        }
        None
    })
    .await;
    if serves(&replicas[0].controller).await.is_none() {
        replicas.reverse();
    }
    let [asked, other] = replicas;

    // Tokens of an account that is no more are not good, even if there is another one of that name.
    server
        .delete(&format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}, namespace: {NAME}}}"))
        .await;
    let new = server.token(NAME, &account, AUDIENCE).await;
    let names = [format!("*.{NAME}")];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let proxy = format!("{NAME}/{NAME}");
    eventually("the old token is good no longer", async || {
        let channel = other.connect(other.controller.xds, &names).await.ok()?;
        (answer(&channel, &proxy, Some(&old)).await.err() == Some(Code::Unauthenticated)).then_some(())
    })
    .await;
    pod.write_token("..2", &new);
    assert!(signal("KILL", asked.controller.pid()));
    eventually("the other replica serves it, by its new token", async || serves(&other.controller).await).await;

    let unseen = server.token(NAME, "unseen", AUDIENCE).await;
    server.kill();
    pod.end_envoy();
    eventually("it is gone", async || serves(&other.controller).await.is_none().then_some(())).await;
    pod.start_envoy();
    eventually("it is served again", async || serves(&other.controller).await).await;
    let channel = other.connect(other.controller.xds, &names).await.unwrap();
    assert_eq!(answer(&channel, &proxy, Some(&unseen)).await.err(), Some(Code::Unavailable));
}

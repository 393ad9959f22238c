//! The controller with the rights that its roles give it, and none besides.

use std::{collections::BTreeSet, fs, path::PathBuf};

use controller::rbac;
use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    controller::{Controller, controller_name, manifests, route},
    tool::eventually,
    xds::Envoy,
};

const ACCEPTED: [&str; 3] = ["Accepted", "True", "Accepted"];

/// Where the chart binds its roles.
struct Installation<'a> {
    /// Namespace of the controller, and name of its account.
    own: &'a str,
    /// Namespaces that are served; all when empty.
    watched: &'a [&'a str],
    gateway_namespace_mode: bool,
}

impl Installation<'_> {
    /// Does what the chart does, and yields a kubeconfig of the controller's account.
    async fn install(&self, server: &ApiServer, folder: &tempfile::TempDir) -> PathBuf {
        server.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}", self.own)).await;
        let mut rules = rbac::rules(self.gateway_namespace_mode);
        if self.watched.is_empty() {
            rules.cluster.append(&mut rules.watched.clone());
        }
        self.bind(server, "ClusterRole", "", &json!(rules.cluster)).await;
        self.bind(server, "Role", self.own, &json!(rules.own)).await;
        for namespace in self.watched {
            self.bind(server, "Role", namespace, &json!(rules.watched)).await;
        }
        let mut rights = vec![["list", "", "namespaces", ""], ["get", "coordination.k8s.io", "leases", self.own]];
        rights
            .extend(self.watched.iter().map(|namespace| ["list", "gateway.networking.k8s.io", "gateways", *namespace]));
        for right in rights {
            eventually("the roles count", async || server.may(self.own, right).await.then_some(())).await;
        }
        let token = server.token(self.own, self.own, "https://kubernetes.default.svc").await;
        let mut kubeconfig: Value = serde_json::from_slice(&fs::read(server.kubeconfig()).unwrap()).unwrap();
        kubeconfig["users"][0]["user"]["token"] = json!(token);
        let path = folder.path().join("kubeconfig");
        fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }

    async fn bind(&self, server: &ApiServer, kind: &str, namespace: &str, rules: &Value) {
        let (api, name) = ("rbac.authorization.k8s.io/v1", format!("{}-{namespace}", self.own));
        let name = name.trim_end_matches('-');
        let metadata = match namespace {
            "" => json!({"name": name}),
            namespace => json!({"name": name, "namespace": namespace}),
        };
        server.put(&json!({"apiVersion": api, "kind": kind, "metadata": metadata, "rules": rules})).await;
        server
            .put(&json!({"apiVersion": api, "kind": format!("{kind}Binding"), "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
                "subjects": [{"kind": "ServiceAccount", "namespace": self.own, "name": self.own}]}))
            .await;
    }

    /// What the account was refused.
    fn refusals(&self, server: &ApiServer) -> Vec<String> {
        let is_refused = |entry: &&Value| entry.pointer("/responseStatus/code") == Some(&json!(403));
        let refused = server.requests(self.own);
        refused.iter().filter(is_refused).map(|entry| format!("{} {}", entry["verb"], entry["requestURI"])).collect()
    }

    /// Verb, group and resource of all that it asked for.
    fn used(&self, server: &ApiServer) -> BTreeSet<[String; 3]> {
        let requests = server.requests(self.own);
        let used = requests.iter().filter_map(|entry| {
            let object = entry.get("objectRef")?;
            let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
            let resource = [text("resource"), text("subresource")].join("/");
            let resource = resource.trim_end_matches('/').to_owned();
            Some([entry["verb"].as_str()?.to_owned(), text("apiGroup").to_owned(), resource])
        });
        used.collect()
    }

    /// What it may do and has not asked for.
    fn unused(&self, server: &ApiServer) -> Vec<[String; 3]> {
        let rules = rbac::rules(self.gateway_namespace_mode);
        let mut unused = Vec::new();
        for rule in [rules.cluster, rules.watched, rules.own].into_iter().flatten() {
            // A rule is about one group.
            let group = rule.api_groups.unwrap().concat();
            for resource in rule.resources.unwrap() {
                unused.extend(rule.verbs.iter().map(|verb| [verb.clone(), group.clone(), resource.clone()]));
            }
        }
        let used = self.used(server);
        unused.retain(|right| !used.contains(right) && !is_for_later(right));
        unused
    }
}

#[tokio::test]
async fn only_the_namespaces_that_it_is_told_are_read_and_served() {
    let server = ApiServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["seen", "unseen"] {
        server.apply(&manifests(name).replace(&controller_name(name), &controller_name("narrow"))).await;
    }
    let installation = Installation { own: "narrow", watched: &["seen"], gateway_namespace_mode: false };
    let kubeconfig = installation.install(&server, &folder).await;
    let arguments = ["--watch-namespaces", "seen", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let controller = Controller::start(&server, "narrow", &arguments).await;
    Envoy::connect(controller.xds, "seen/seen").await.until("httproute/seen/app/rule/0", true).await;
    server.until_condition("HTTPRoute", "seen", "app", ACCEPTED).await;
    let fleet = controller_core::infra::fleet_name("seen", "seen");
    eventually("the fleet is complete", async || server.find("Service", "narrow", &fleet).await).await;
    server.until_condition("Gateway", "seen", "seen", ["Programmed", "False", "AddressNotAssigned"]).await;
    // A change of each kind of place is heard of.
    server.apply(&route("seen", "later", "seen")).await;
    server.until_condition("HTTPRoute", "seen", "later", ACCEPTED).await;
    let balanced = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}});
    server.write_status("Service", "narrow", &fleet, &balanced).await;
    eventually("the Gateway has its address", async || {
        let gateway = server.find("Gateway", "seen", "seen").await?;
        (gateway["status"]["addresses"][0]["value"] == "192.0.2.7").then_some(())
    })
    .await;

    let route = server.find("HTTPRoute", "unseen", "app").await.unwrap();
    assert_eq!(route.get("status"), None, "of a namespace that is not served");
    assert!(
        server.find("Deployment", "narrow", &controller_core::infra::fleet_name("unseen", "unseen")).await.is_none()
    );
    assert_eq!(installation.refusals(&server), [] as [&str; 0]);
    eventually("everything is applied", async || {
        (controller.metric("controller_apply_failures").await == 0).then_some(())
    })
    .await;
    server
        .delete("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: seen, namespace: seen}")
        .await;
    eventually("the fleet is deleted", async || {
        let left = server.find("Deployment", "narrow", &fleet).await;
        left.is_none_or(|left| left["metadata"]["deletionTimestamp"].is_string()).then_some(())
    })
    .await;
    assert_eq!(installation.refusals(&server), [] as [&str; 0]);
}

#[tokio::test]
async fn its_rights_are_enough_and_it_makes_use_of_them() {
    let server = ApiServer::start().await;
    for (own, name, gateway_namespace_mode) in [("together", "together", false), ("home", "apart", true)] {
        let folder = tempfile::tempdir().unwrap();
        server.apply(&manifests(name).replace(&controller_name(name), &controller_name(own))).await;
        let installation = Installation { own, watched: &[], gateway_namespace_mode };
        let kubeconfig = installation.install(&server, &folder).await;
        let mut arguments = vec!["--kubeconfig", kubeconfig.to_str().unwrap()];
        if gateway_namespace_mode {
            arguments.push("--gateway-namespace-mode");
        }
        let _controller = Controller::start(&server, own, &arguments).await;
        server.until_condition("HTTPRoute", name, "app", ACCEPTED).await;
        eventually("every right has been made use of", async || {
            let unused = installation.unused(&server);
            println!("{own}: {unused:?} is not asked for");
            unused.is_empty().then_some(())
        })
        .await;
        assert_eq!(installation.refusals(&server), [] as [&str; 0], "{name}");
    }
}

/// Whether it takes more than this test does until a right is made use of: what is not there, what was deleted, a status of
/// a kind without an object, a conflict.
fn is_for_later([verb, group, resource]: &[String; 3]) -> bool {
    let is_absent = ["multicluster.x-k8s.io", "certificates.k8s.io"].contains(&group.as_str())
        || ["tcproutes", "udproutes"].contains(&resource.as_str());
    // The Service of the second mode has the name of the one that the route goes to, which is not the controller's.
    let is_rare = ["horizontalpodautoscalers", "poddisruptionbudgets", "daemonsets", "services", "events"];
    let is_rare = is_rare.contains(&resource.as_str());
    is_absent
        || resource.ends_with("/status")
        || ["create", "delete", "update"].contains(&verb.as_str())
        || (is_rare && !["list", "watch"].contains(&verb.as_str()))
}

//! What people see of a controller that runs, and of the statuses that it has written.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    controller::{Controller, manifests},
    pki::Authority,
    tool::eventually,
    xds::Envoy,
};

#[tokio::test]
async fn what_is_served_can_be_seen_without_its_secrets() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("seeing")).await;
    let pair = Authority::new().issue(&["seeing.example.com"]);
    server
        .put(&json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "seeing", "namespace": "seeing"},
            "stringData": {"tls.crt": pair.certificate, "tls.key": pair.key}}))
        .await;
    let tls =
        json!({"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "seeing"}]}});
    server
        .put(&json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "seeing", "namespace": "seeing"}, "spec": {"gatewayClassName": "seeing", "listeners": [tls]}}))
        .await;
    let controller = Controller::start(&server, "seeing", &[]).await;
    let secrets = "/seeing~1seeing/resources/Secret";
    let shown = eventually("the certificate is served", async || {
        let shown = controller.debug("/debug/resources").await;
        let names = shown.pointer(secrets)?.as_object()?;
        (!names.is_empty()).then_some(shown)
    })
    .await;
    let proxy = &shown["seeing/seeing"];
    assert_eq!(proxy["hash"].as_str().unwrap().len(), 16);
    assert_eq!(proxy["resources"]["Cluster"]["httproute/seeing/app/rule/0"].as_str().unwrap().len(), 16);
    assert!(shown.pointer(secrets).unwrap().as_object().unwrap().values().all(Value::is_null));

    // Another replica that serves the same says the same.
    let other = Controller::start(&server, "seeing", &["--identity", "other"]).await;
    eventually("the replicas agree", async || {
        let (one, two) = (controller.debug("/debug/resources").await, other.debug("/debug/resources").await);
        let hash = |shown: &Value| shown.pointer("/seeing~1seeing/hash").cloned();
        (hash(&one).is_some() && hash(&one) == hash(&two)).then_some(())
    })
    .await;

    let mut envoy = Envoy::connect(controller.xds, "seeing/seeing").await;
    envoy.until("httproute/seeing/app/rule/0", true).await;
    let envoys = eventually("the Envoy is shown", async || {
        let envoys = controller.debug("/debug/envoys").await;
        (!envoys.as_array()?.is_empty()).then_some(envoys)
    })
    .await;
    assert_eq!(envoys[0]["proxy"], "seeing/seeing");
    let everything = format!("{} {envoys}", controller.debug("/debug/resources").await);
    for line in pair.key.lines().chain(pair.certificate.lines()).filter(|line| line.len() > 20) {
        assert!(!everything.contains(line), "{line}");
    }
}

#[tokio::test]
async fn statuses_are_shown_as_a_table() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("table")).await;
    let _controller = Controller::start(&server, "table", &[]).await;
    server.until_condition("HTTPRoute", "table", "app", ["Accepted", "True", "Accepted"]).await;
    server.until_condition("Gateway", "table", "table", ["Programmed", "False", "AddressNotAssigned"]).await;
    let status = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_controller"));
        let output = command.args(["status", "--namespace", "table", "--kubeconfig"]).arg(server.kubeconfig());
        let output = output.args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = status(&[]);
    let has = |words: &[&str]| table.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["HTTPRoute", "table/app", "Gateway table", "Accepted=True", "ResolvedRefs=True"]), "{table}");
    assert!(has(&["Gateway", "table/table", "Programmed=False (AddressNotAssigned)"]), "{table}");
    let wrong = status(&["--problems"]);
    assert!(wrong.contains("AddressNotAssigned") && !wrong.contains("HTTPRoute"), "{wrong}");
    let json: Value = serde_json::from_str(&status(&["--json"])).unwrap();
    assert!(json.as_array().unwrap().iter().all(|status| status["namespace"] == "table"));
}

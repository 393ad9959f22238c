//! What runs for a Gateway in the cluster.

use serde_json::json;

use crate::{
    api_server::{ApiServer, has_condition},
    controller::{Controller, manifests},
    tool::eventually,
    xds::Envoy,
};

const GATEWAY: &str = "fleets/fleets";

/// The fleet's name.
async fn fleet(server: &ApiServer) -> String {
    let name = controller_core::infra::fleet_name("fleets", "fleets");
    eventually("the Gateway has a Deployment and a Service", async || {
        server.find("Deployment", "fleets", &name).await?;
        server.find("Service", "fleets", &name).await
    })
    .await;
    name
}

#[tokio::test]
async fn a_gateway_gets_its_envoys_and_their_address_and_takes_them_along() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("fleets")).await;
    let foreign = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: foreign, namespace: fleets}\ndata: {a: b}";
    server.apply(foreign).await;
    let controller = Controller::start(&server, "fleets", &[]).await;
    let name = fleet(&server).await;
    for kind in ["ServiceAccount", "ConfigMap"] {
        assert!(server.find(kind, "fleets", &name).await.is_some(), "{kind}");
    }
    let service = server.find("Service", "fleets", &name).await.unwrap();
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(service["spec"]["ports"][0]["port"], 80);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 10080);
    server.until_condition("Gateway", "fleets", "fleets", ["Programmed", "False", "AddressNotAssigned"]).await;

    // What a cluster's own controllers would write.
    let balanced = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}});
    server.write_status("Service", "fleets", &name, &balanced).await;
    let available = json!({"replicas": 1, "availableReplicas": 1, "readyReplicas": 1, "updatedReplicas": 1});
    server.write_status("Deployment", "fleets", &name, &available).await;
    let gateway = server.until_condition("Gateway", "fleets", "fleets", ["Programmed", "True", "Programmed"]).await;
    assert_eq!(gateway["status"]["addresses"][0]["value"], "192.0.2.7");

    // Somebody deletes what is needed, and the Gateway goes in the end.
    server.delete(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: fleets}}")).await;
    eventually("the Service is there again", async || server.find("Service", "fleets", &name).await).await;
    let mut envoy = Envoy::connect(controller.xds, GATEWAY).await;
    envoy.until("httproute/fleets/app/rule/0", true).await;
    server
        .delete("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: fleets, namespace: fleets}")
        .await;
    for kind in ["Service", "Deployment", "ConfigMap", "ServiceAccount"] {
        eventually("what ran for the Gateway is gone", async || {
            let left = server.find(kind, "fleets", &name).await;
            // Nobody collects garbage here, so a deletion may stop at its finalizers.
            left.is_none_or(|left| left["metadata"]["deletionTimestamp"].is_string()).then_some(())
        })
        .await;
    }
    assert!(server.find("ConfigMap", "fleets", "foreign").await.is_some());
}

#[tokio::test]
async fn what_has_the_name_of_a_fleet_and_is_none_stays_as_it_is() {
    let server = ApiServer::shared().await;
    server.apply(&manifests("squatted")).await;
    let name = controller_core::infra::fleet_name("squatted", "squatted");
    server
        .apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: squatted}}\ndata: {{a: b}}"
        ))
        .await;
    let _controller = Controller::start(&server, "squatted", &[]).await;
    eventually("the rest of the fleet is there", async || server.find("Deployment", "squatted", &name).await).await;
    let gateway = server.until_condition("Gateway", "squatted", "squatted", ["Programmed", "False", "Invalid"]).await;
    let conditions = gateway["status"]["conditions"].as_array().unwrap();
    let programmed = conditions.iter().find(|condition| condition["type"] == "Programmed").unwrap();
    let message = programmed["message"].as_str().unwrap();
    assert!(message.ends_with(&format!("ConfigMap squatted/{name} exists and is not ours: rename it, or the Gateway")));
    let squatter = server.find("ConfigMap", "squatted", &name).await.unwrap();
    assert_eq!(squatter["data"], json!({"a": "b"}));
    let told = ["Gateway", "squatted", "Warning", "Invalid"].map(str::to_owned);
    eventually("an event tells of it", async || server.events("squatted").await.contains(&told).then_some(())).await;

    server.delete(&format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: squatted}}")).await;
    server.until_condition("Gateway", "squatted", "squatted", ["Programmed", "False", "AddressNotAssigned"]).await;
}

#[tokio::test]
async fn what_becomes_bad_and_good_again_is_told_as_events() {
    let server = ApiServer::shared().await;
    let metadata = "metadata: {name: eventful, namespace: eventful}";
    let service = format!("apiVersion: v1\nkind: Service\n{metadata}\nspec: {{ports: [{{name: http, port: 80}}]}}");
    server.apply(&manifests("eventful")).await;
    let _controller = Controller::start(&server, "eventful", &[]).await;
    server.until_condition("HTTPRoute", "eventful", "app", ["ResolvedRefs", "True", "ResolvedRefs"]).await;
    let events = server.events("eventful").await;
    assert!(!events.iter().any(|event| event[0] == "HTTPRoute"), "nothing has been bad: {events:?}");
    server.delete(&service).await;
    for (kind, reason) in [("Warning", "BackendNotFound"), ("Normal", "ResolvedRefs")] {
        let told = ["HTTPRoute", "app", kind, reason].map(str::to_owned);
        eventually(reason, async || server.events("eventful").await.contains(&told).then_some(())).await;
        server.apply(&service).await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_shared_fleet_is_told_to_all_who_share_it() {
    let server = ApiServer::shared().await;
    let parameters = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: EnvoyProxy\n\
                      metadata: {name: shared, namespace: beset}\nspec: {mergeGateways: true}";
    let named =
        "spec: {parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: shared, namespace: beset}, ";
    let other = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: other, namespace: beset}\n\
                 spec: {gatewayClassName: beset, listeners: [{name: more, port: 8080, protocol: HTTP}]}";
    let name = controller_core::infra::class_fleet_name("beset");
    let squatter = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: beset}}");
    let (namespace, rest) =
        manifests("beset").split_once("\n---\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    for manifest in [&namespace, &squatter, parameters, &rest.replacen("spec: {", named, 1), other] {
        server.apply(manifest).await;
    }
    let _controller = Controller::start(&server, "beset", &[]).await;
    for gateway in ["beset", "other"] {
        let told = server.until_condition("Gateway", "beset", gateway, ["Programmed", "False", "Invalid"]).await;
        assert!(told["status"].to_string().contains(&format!("ConfigMap beset/{name} exists and is not ours")));
    }
    server.delete(&squatter).await;
    for gateway in ["beset", "other"] {
        server.until_condition("Gateway", "beset", gateway, ["Programmed", "False", "AddressNotAssigned"]).await;
    }
}

#[tokio::test]
async fn gateways_that_a_class_merges_share_one_fleet() {
    let server = ApiServer::shared().await;
    // The class first, so that there is never a fleet for one Gateway alone.
    let parameters = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: EnvoyProxy\n\
                      metadata: {name: shared, namespace: merged}\nspec: {mergeGateways: true}";
    let named =
        "spec: {parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: shared, namespace: merged}, ";
    let (namespace, rest) =
        manifests("merged").split_once("\n---\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let other = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: other, namespace: merged}\n\
                 spec:\n  gatewayClassName: merged\n  listeners:\n  - {name: http, port: 80, protocol: HTTP}\n  \
                 - {name: more, port: 8080, protocol: HTTP}";
    server.apply(&namespace).await;
    server.apply(parameters).await;
    server.apply(&rest.replacen("spec: {", named, 1)).await;
    let controller = Controller::start(&server, "merged", &[]).await;
    let name = controller_core::infra::class_fleet_name("merged");
    let ports = async || -> Option<Vec<u64>> {
        let service = server.find("Service", "merged", &name).await?;
        service["spec"]["ports"].as_array()?.iter().map(|port| port["port"].as_u64()).collect()
    };
    eventually("the class has a fleet", async || (ports().await? == [80]).then_some(())).await;
    let mut envoy = Envoy::connect(controller.xds, "merged").await;
    envoy.until("httproute/merged/app/rule/0", true).await;

    // A younger Gateway adds its ports to the same fleet, and cannot get those that are taken.
    server.apply(other).await;
    eventually("the fleet has the port of both", async || (ports().await? == [80, 8080]).then_some(())).await;
    let status = eventually("the younger Gateway is told of the conflict", async || {
        let gateway = server.find("Gateway", "merged", "other").await?;
        let listeners = gateway["status"]["listeners"].as_array()?.clone();
        let conflicted =
            |listener| has_condition(&json!({"status": listener}), ["Conflicted", "True", "HostnameConflict"]);
        listeners.iter().any(conflicted).then_some(listeners)
    })
    .await;
    assert_eq!(status.len(), 2);
    for gateway in ["merged", "other"] {
        let own = controller_core::infra::fleet_name("merged", gateway);
        assert!(server.find("Deployment", "merged", &own).await.is_none(), "{gateway} has a fleet of its own");
    }
}

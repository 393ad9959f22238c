//! The CRDs that `controller crds` prints, as an API server sees them.

use std::fs;

use serde_json::{Value, json};

use crate::{api_server::ApiServer, tool};

const PROXY: &str = r"
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {name: full, namespace: default}
spec:
  mergeType: StrategicMerge
  concurrency: 2
  ipFamily: DualStack
  logging: {level: {default: warn, upstream: debug}}
  shutdown: {drainTimeout: 30s, minDrainDuration: 5s}
  extraArgs: [--disable-extensions, envoy.access_loggers.wasm]
  telemetry: {metrics: {prometheus: {disable: false}}}
  bootstrap:
    type: JSONPatch
    jsonPatches: [{op: add, path: /layered_runtime, value: {layers: [{name: a, static_layer: {b: 1}}]}}]
  provider:
    type: Kubernetes
    kubernetes:
      envoyDeployment:
        replicas: 2
        strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}}
        patch: {type: StrategicMerge, value: {spec: {template: {spec: {hostNetwork: true}}}}}
        pod:
          securityContext: {fsGroup: 65532, runAsNonRoot: true}
          tolerations: [{key: edge, operator: Exists}]
          volumes: [{name: extra, emptyDir: {sizeLimit: 1Mi}}]
          affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {matchLabels: {a: b}}}]}}
        container:
          resources: {requests: {cpu: 100m, memory: 512Mi}, limits: {cpu: 1}}
          env: [{name: POD, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}]
      envoyService: {type: ClusterIP, annotations: {a: b}, externalTrafficPolicy: Cluster}
      envoyHpa:
        minReplicas: 2
        maxReplicas: 9
        metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}]
      envoyPDB: {minAvailable: 50%}
";

#[tokio::test]
async fn an_envoy_proxy_is_kept_as_it_was_written() {
    let server = ApiServer::shared().await;
    server.apply(PROXY).await;
    let written: Value = serde_saphyr::from_str(PROXY).unwrap();
    let kept = server.find("EnvoyProxy", "default", "full").await.unwrap();
    assert_eq!(kept["spec"], written["spec"]);
    let wrong = json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyProxy",
        "metadata": {"name": "wrong", "namespace": "default"},
        "spec": {"provider": {"type": "Kubernetes", "kubernetes": {"envoyDeployment": {"replicas": "many"}}}}});
    let refusal = server.try_put(&wrong).await.unwrap_err().to_string();
    assert!(refusal.contains("spec.provider.kubernetes.envoyDeployment.replicas"), "{refusal}");
}

#[tokio::test]
async fn our_examples_are_kept_as_they_were_written() {
    let server = ApiServer::shared().await;
    server.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: examples}").await;
    let mut tried = 0;
    for example in fs::read_dir(tool::workspace().join("deploy/examples")).unwrap() {
        for file in fs::read_dir(example.unwrap().path()).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            for mut manifest in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
                if manifest["apiVersion"] != "gateway.envoyproxy.io/v1alpha1" {
                    continue;
                }
                manifest["metadata"]["namespace"] = json!("examples");
                let kept =
                    server.try_put(&manifest).await.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                let kept = serde_json::to_value(kept).unwrap();
                assert_eq!(missing(&manifest["spec"], &kept["spec"], "spec"), None, "{}", file.display());
                tried += 1;
            }
        }
    }
    assert!(tried > 10, "{tried}");
}

/// The first field of `written` that `kept` lacks or has otherwise; defaults may have been added.
fn missing(written: &Value, kept: &Value, path: &str) -> Option<String> {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => written.iter().find_map(|(name, value)| {
            missing(value, kept.get(name).unwrap_or(&Value::Null), &format!("{path}.{name}"))
        }),
        (Value::Array(written), Value::Array(kept)) if written.len() == kept.len() => written
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(index, (written, kept))| missing(written, kept, &format!("{path}[{index}]"))),
        _ => (written != kept).then(|| path.to_owned()),
    }
}

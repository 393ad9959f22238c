//! A stand-in for the pods that a cluster would run behind a Service.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use controller_core::{Snapshot, snapshot::Key};
use k8s_openapi::{
    api::{
        core::v1::Service,
        discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// The label by which a slice belongs to a Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Sends what is meant for pods to the echo backend: nothing runs pods on one machine, and a cluster's manifests have no
/// `EndpointSlice`, since there the control plane makes them.
#[derive(Debug)]
pub(super) struct Pods {
    echo: SocketAddr,
    /// The Services that were told of already.
    told: BTreeSet<Key>,
}

impl Pods {
    pub(super) fn new(mut echo: SocketAddr) -> Self {
        if echo.ip().is_unspecified() {
            echo.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        Self { echo, told: BTreeSet::new() }
    }

    /// The snapshot with an `EndpointSlice` for each Service that selects pods and has none.
    pub(super) fn stand_in(&mut self, snapshot: &Snapshot) -> Snapshot {
        let mut snapshot = snapshot.clone();
        let served: BTreeSet<Key> = snapshot.endpoint_slices.values().filter_map(|slice| service_of(slice)).collect();
        let empty: Vec<_> = snapshot
            .services
            .iter()
            .filter(|(key, service)| !served.contains(*key) && selects_pods(service))
            .map(|(key, service)| (key.clone(), Arc::clone(service)))
            .collect();
        for ((namespace, name), service) in &empty {
            let slice = self.slice(namespace, name, service);
            snapshot.endpoint_slices.entry((namespace.clone(), format!("{name}-echo"))).or_insert(Arc::new(slice));
        }
        let empty: BTreeSet<Key> = empty.into_iter().map(|(key, _)| key).collect();
        for (namespace, name) in empty.difference(&self.told) {
            tracing::info!(
                "Service {namespace}/{name} has no EndpointSlice, and there are no pods on this machine: the echo backend \
                 at {} answers for it",
                self.echo
            );
        }
        self.told = empty;
        snapshot
    }

    fn slice(&self, namespace: &str, name: &str, service: &Service) -> EndpointSlice {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(|port| EndpointPort {
            name: port.name.clone(),
            port: Some(self.echo.port().into()),
            protocol: port.protocol.clone(),
            ..EndpointPort::default()
        });
        EndpointSlice {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(format!("{name}-echo")),
                labels: Some([(SERVICE_NAME.to_owned(), name.to_owned())].into()),
                ..ObjectMeta::default()
            },
            address_type: if self.echo.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
            endpoints: Some(vec![Endpoint { addresses: vec![self.echo.ip().to_string()], ..Endpoint::default() }]),
            ports: Some(ports.collect()),
        }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some((slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
}

fn selects_pods(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| !selector.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn service(selector: &serde_json::Value) -> serde_json::Value {
        let spec = json!({"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"}, "spec": spec})
    }

    fn slices(objects: Vec<serde_json::Value>) -> Vec<EndpointSlice> {
        let mut snapshot = Snapshot::default();
        for object in objects {
            snapshot.insert(object).unwrap();
        }
        let stood_in = Pods::new("0.0.0.0:3000".parse().unwrap()).stand_in(&snapshot);
        stood_in.endpoint_slices.values().map(|slice| (**slice).clone()).collect()
    }

    #[test]
    fn a_service_that_selects_pods_gets_the_echo_backend() {
        let slices = slices(vec![service(&json!({"app": "backend"}))]);
        let [slice] = slices.as_slice() else { panic!("{slices:?}") };
        assert_eq!(slice.endpoints.as_ref().unwrap().first().unwrap().addresses, ["127.0.0.1"]);
        let port = slice.ports.as_ref().unwrap().first().unwrap();
        assert_eq!((port.name.as_deref(), port.port), (Some("http"), Some(3000)));
    }

    #[test]
    fn a_service_without_a_selector_is_left_alone() {
        assert_eq!(slices(vec![service(&json!({}))]), []);
    }

    #[test]
    fn a_service_with_a_slice_keeps_it_even_when_it_is_empty() {
        let labels = json!({SERVICE_NAME: "s"});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "own", "namespace": "n", "labels": labels}, "endpoints": []});
        let slices = slices(vec![service(&json!({"app": "backend"})), slice]);
        assert_eq!(slices.iter().map(|slice| slice.metadata.name.as_deref().unwrap()).collect::<Vec<_>>(), ["own"]);
    }
}

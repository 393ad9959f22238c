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

/// Gives each Service that selects pods and has no `EndpointSlice` one with the echo backend, and says which those are:
/// nothing runs pods on one machine, and a cluster's manifests have no slices, since there the control plane makes them.
pub(crate) fn stand_in(snapshot: &mut Snapshot, echo: SocketAddr) -> BTreeSet<Key> {
    let served: BTreeSet<Key> = snapshot.endpoint_slices.values().filter_map(|slice| service_of(slice)).collect();
    let mut stood_in = BTreeSet::new();
    for ((namespace, name), service) in snapshot.services.iter() {
        let key = (namespace.clone(), name.clone());
        if served.contains(&key) || !selects_pods(service) {
            continue;
        }
        let slice = Arc::new(slice(namespace, name, service, echo));
        Arc::make_mut(&mut snapshot.endpoint_slices)
            .entry((namespace.clone(), format!("{name}-echo")))
            .or_insert(slice);
        stood_in.insert(key);
    }
    stood_in
}

fn slice(namespace: &str, name: &str, service: &Service, echo: SocketAddr) -> EndpointSlice {
    // A backend that listens on all addresses is found on this one.
    let address = if echo.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { echo.ip() };
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(|port| EndpointPort {
        name: port.name.clone(),
        port: Some(echo.port().into()),
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
        address_type: if address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
        endpoints: Some(vec![Endpoint { addresses: vec![address.to_string()], ..Endpoint::default() }]),
        ports: Some(ports.collect()),
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
        stand_in(&mut snapshot, "0.0.0.0:3000".parse().unwrap());
        snapshot.endpoint_slices.values().map(|slice| (**slice).clone()).collect()
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

//! The addresses that clients reach a Gateway at, and whether anybody answers there.

use gateway_api::apis::experimental::gateways::Gateway;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::super::{inputs::Inputs, status::Conditions};
use crate::infra::Fleet;

/// Most addresses that a status holds.
const MAX: usize = 16;
/// The type of an address that is a name.
const HOSTNAME: &str = "Hostname";
const IP_ADDRESS: &str = "IPAddress";

/// The addresses that the Gateway asks for and that a Service can have. One without a value is for us to choose.
pub(super) fn wanted(object: &Gateway) -> Vec<String> {
    let addresses = object.spec.addresses.iter().flatten();
    let ips = addresses.filter(|address| address.r#type.as_deref().unwrap_or(IP_ADDRESS) == IP_ADDRESS);
    ips.filter_map(|address| address.value.clone()).filter(|value| !value.is_empty()).collect()
}

/// A type of address that we do not know.
pub(super) fn unsupported(object: &Gateway) -> Option<&str> {
    let types = object.spec.addresses.iter().flatten().filter_map(|address| address.r#type.as_deref());
    types.into_iter().find(|kind| ![IP_ADDRESS, HOSTNAME].contains(kind))
}

/// Names and addresses that no Service of ours can be given.
fn unusable(object: &Gateway) -> Option<&str> {
    object.spec.addresses.iter().flatten().find_map(|address| {
        let value = address.value.as_deref().filter(|value| !value.is_empty())?;
        let hostname = address.r#type.as_deref() == Some(HOSTNAME);
        (hostname || value.parse::<std::net::IpAddr>().is_err()).then_some(value)
    })
}

/// The addresses of the fleet's Service, as far as it has any.
pub(super) fn assigned(inputs: &Inputs<'_>, fleet: &Fleet) -> Vec<String> {
    let key = (fleet.placement.namespace.clone(), fleet.service_name().to_owned());
    let Some(service) = inputs.snapshot.services.get(&key) else { return Vec::new() };
    let Some(spec) = &service.spec else { return Vec::new() };
    let external = spec.external_ips.clone().unwrap_or_default();
    match spec.type_.as_deref() {
        Some("LoadBalancer") if !fleet.placement.addresses.is_empty() => external,
        Some("LoadBalancer") => {
            let balanced = ingress(service);
            if balanced.is_empty() { external } else { balanced }
        }
        Some("NodePort") if external.is_empty() => nodes(inputs),
        Some("NodePort") => external,
        _ => {
            let cluster = spec.cluster_ips.clone().unwrap_or_else(|| spec.cluster_ip.clone().into_iter().collect());
            cluster.into_iter().filter(|address| address != "None" && !address.is_empty()).collect()
        }
    }
}

fn ingress(service: &Service) -> Vec<String> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let points = status.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let one = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    points.filter_map(|point| one(&point.ip).or_else(|| one(&point.hostname))).collect()
}

/// Addresses of the nodes: those for outside if there are any, else those within.
fn nodes(inputs: &Inputs<'_>) -> Vec<String> {
    let of_type = |kind: &str| -> Vec<String> {
        let nodes = inputs.snapshot.nodes.values();
        let addresses = nodes.filter_map(|node| node.status.as_ref()?.addresses.as_ref()).flatten();
        addresses.filter(|address| address.type_ == kind).map(|address| address.address.clone()).collect()
    };
    let external = of_type("ExternalIP");
    if external.is_empty() { of_type("InternalIP") } else { external }
}

/// As a Gateway's status has them.
pub(super) fn to_json(addresses: &[String]) -> Value {
    let kind = |value: &str| if value.parse::<std::net::IpAddr>().is_ok() { IP_ADDRESS } else { HOSTNAME };
    addresses.iter().take(MAX).map(|value| json!({"type": kind(value), "value": value})).collect()
}

/// Whether clients are served at its `addresses`.
pub(super) fn set_programmed(
    inputs: &Inputs<'_>,
    object: &Gateway,
    fleet: &Fleet,
    addresses: &[String],
    conditions: &mut Conditions,
) {
    if let Some(value) = unusable(object) {
        let message = format!("Address {value} is not usable: a Service can be given IP addresses only");
        conditions.set("Programmed", false, "AddressNotUsable", message);
        return;
    }
    if addresses.is_empty() {
        let message = "No addresses have been assigned to the Gateway";
        conditions.set("Programmed", false, "AddressNotAssigned", message);
        return;
    }
    match replicas(inputs, fleet) {
        Some((0, _)) => conditions.set("Programmed", false, "NoResources", "Envoy replicas unavailable"),
        Some((available, all)) => {
            let shown = addresses.len().min(MAX);
            let cut = if shown < addresses.len() { format!(" (the first {shown} are shown)") } else { String::new() };
            let message = format!("Address assigned to the Gateway{cut}, {available}/{all} envoy replicas available");
            conditions.set("Programmed", true, "Programmed", message);
        }
        None => conditions.set("Programmed", false, "NoResources", "The Envoys of the Gateway do not exist yet"),
    }
}

/// How many of its Envoys are available, and how many there should be.
fn replicas(inputs: &Inputs<'_>, fleet: &Fleet) -> Option<(i32, i32)> {
    let (kind, name) = fleet.workload();
    let key = (fleet.placement.namespace.clone(), name.to_owned());
    if kind == "DaemonSet" {
        let status = inputs.snapshot.daemon_sets.get(&key)?.status.as_ref();
        return Some(
            status.map_or((0, 0), |status| (status.number_available.unwrap_or(0), status.desired_number_scheduled)),
        );
    }
    let deployment = inputs.snapshot.deployments.get(&key)?;
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let available = deployment.status.as_ref().and_then(|status| status.available_replicas);
    Some((available.unwrap_or(0), wanted))
}

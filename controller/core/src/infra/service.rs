//! The Service before a fleet.

use controller_api::envoy_proxy::{IpFamily, KubernetesServiceSpec, ServiceType};
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Error, Fleet, Object, object::finish};

impl Fleet {
    /// Name of its Service.
    pub fn service_name(&self) -> &str {
        let wanted = self.kubernetes().and_then(|kubernetes| kubernetes.envoy_service.as_ref()?.name.as_deref());
        wanted.unwrap_or(&self.name)
    }

    /// Type of its Service.
    pub fn service_type(&self) -> ServiceType {
        let service = self.kubernetes().and_then(|kubernetes| kubernetes.envoy_service.as_ref());
        service.and_then(|service| service.kind).unwrap_or_default()
    }
}

/// How clients reach the fleet.
pub(super) fn service(fleet: &Fleet) -> Result<Object, Error> {
    let wanted = fleet.kubernetes().and_then(|kubernetes| kubernetes.envoy_service.clone()).unwrap_or_default();
    let mut metadata = fleet.metadata(wanted.name.as_ref());
    metadata.labels.get_or_insert_default().extend(added(fleet, &wanted.labels));
    if !wanted.annotations.is_empty() {
        metadata.annotations.get_or_insert_default().extend(wanted.annotations.clone());
    }
    let service = Service { metadata, spec: Some(spec(fleet, &wanted)), ..Default::default() };
    finish(&service, wanted.patch.as_ref())
}

/// Labels that do not touch those by which the object is known.
fn added<'a>(
    fleet: &'a Fleet,
    labels: &'a std::collections::BTreeMap<String, String>,
) -> impl Iterator<Item = (String, String)> + 'a {
    let ours = fleet.selector().match_labels.unwrap_or_default();
    let others = labels.iter().filter(move |(key, _)| !ours.contains_key(*key));
    others.map(|(key, value)| (key.clone(), value.clone()))
}

fn spec(fleet: &Fleet, wanted: &KubernetesServiceSpec) -> ServiceSpec {
    let kind = wanted.kind.unwrap_or_default();
    let ports = fleet.ports.iter().map(|port| ServicePort {
        name: Some(port.name.clone()),
        port: port.port.into(),
        target_port: Some(IntOrString::Int(port.target_port.into())),
        protocol: Some(port.protocol.as_str().into()),
        ..Default::default()
    });
    let mut spec = ServiceSpec {
        type_: Some(kind.as_str().into()),
        ports: Some(ports.collect()),
        selector: fleet.selector().match_labels,
        session_affinity: Some("None".into()),
        ..Default::default()
    };
    let policy = wanted.external_traffic_policy.unwrap_or_default();
    match kind {
        ServiceType::LoadBalancer => {
            spec.load_balancer_class.clone_from(&wanted.load_balancer_class);
            spec.allocate_load_balancer_node_ports = wanted.allocate_load_balancer_node_ports;
            spec.load_balancer_ip.clone_from(&wanted.load_balancer_ip);
            let ranges = &wanted.load_balancer_source_ranges;
            spec.load_balancer_source_ranges = (!ranges.is_empty()).then(|| ranges.clone());
            spec.external_traffic_policy = Some(format!("{policy:?}"));
        }
        ServiceType::NodePort => spec.external_traffic_policy = Some(format!("{policy:?}")),
        ServiceType::ClusterIP => {}
    }
    set_addresses(&mut spec, kind, &fleet.placement.addresses);
    set_families(&mut spec, fleet.placement.config.ip_family);
    spec
}

/// The addresses that the Gateway asks for. A Service has one cluster address of a family, so only the first can be one.
fn set_addresses(spec: &mut ServiceSpec, kind: ServiceType, addresses: &[String]) {
    let Some(first) = addresses.first() else { return };
    if kind == ServiceType::ClusterIP {
        spec.cluster_ip = Some(first.clone());
        spec.cluster_ips = Some(vec![first.clone()]);
    } else {
        spec.external_ips = Some(addresses.to_vec());
    }
}

fn set_families(spec: &mut ServiceSpec, family: Option<IpFamily>) {
    let (policy, families): (_, &[&str]) = match family {
        None => return,
        Some(IpFamily::IPv4) => ("SingleStack", &["IPv4"]),
        Some(IpFamily::IPv6) => ("SingleStack", &["IPv6"]),
        Some(IpFamily::DualStack) => ("RequireDualStack", &["IPv4", "IPv6"]),
    };
    spec.ip_family_policy = Some(policy.into());
    spec.ip_families = Some(families.iter().map(|family| (*family).to_owned()).collect());
}

//! Where a cluster's backends are.

use envoy_types::pb::envoy::config::{
    core::v3::{Address, Locality},
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
    },
};

use super::{
    cluster, metadata,
    value::{pipe, socket_address, uint32},
};
use crate::ir::{Backend, Endpoint, Endpoints, Local};

/// One locality for each backend, so that its weight holds however many replicas it has.
pub(crate) fn load_assignment(cluster: &str, backends: &[&Backend]) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: backends.iter().map(|backend| locality(backend)).collect(),
        ..Default::default()
    }
}

/// The replicas of the fleet itself, one locality for each zone.
pub(crate) fn local(cluster: &str, local: &Local) -> ClusterLoadAssignment {
    let zones = local.zones.iter().map(|(zone, endpoints)| LocalityLbEndpoints {
        locality: Some(Locality { zone: zone.clone(), ..Default::default() }),
        metadata: Some(metadata::origin(&local.origin)),
        lb_endpoints: endpoints.iter().map(|endpoint| lb_endpoint(address(endpoint))).collect(),
        ..Default::default()
    });
    ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints: zones.collect(), ..Default::default() }
}

fn locality(backend: &Backend) -> LocalityLbEndpoints {
    let addresses: Vec<Address> = match &backend.endpoints {
        None => Vec::new(),
        Some(Endpoints::Static(endpoints)) => endpoints.iter().map(address).collect(),
        Some(Endpoints::Dns(hosts)) => hosts.iter().map(|(host, port)| socket_address(host, *port)).collect(),
    };
    let socket = cluster::endpoint_metadata(backend);
    LocalityLbEndpoints {
        locality: Some(Locality { region: backend.name.clone(), ..Default::default() }),
        metadata: backend.origin.as_ref().map(metadata::origin),
        lb_endpoints: addresses
            .into_iter()
            .map(|address| LbEndpoint { metadata: socket.clone(), ..lb_endpoint(address) })
            .collect(),
        load_balancing_weight: uint32(backend.weight),
        priority: u32::from(backend.fallback),
        ..Default::default()
    }
}

/// The address of one replica.
pub(crate) fn address(endpoint: &Endpoint) -> Address {
    match endpoint {
        Endpoint::Ip(ip, port) => socket_address(&ip.to_string(), *port),
        Endpoint::Unix(path) => pipe(path),
    }
}

/// One replica.
pub(crate) fn lb_endpoint(address: Address) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint { address: Some(address), ..Default::default() })),
        load_balancing_weight: uint32(1),
        ..Default::default()
    }
}

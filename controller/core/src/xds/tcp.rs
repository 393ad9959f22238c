//! Connections that are handed on byte by byte.

use std::collections::HashSet;

use envoy_types::pb::envoy::{
    config::listener::v3::{Filter, FilterChain, filter::ConfigType},
    extensions::filters::network::tcp_proxy::v3::{
        TcpProxy,
        tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight},
    },
};

use super::{Resources, access_log, cluster, listener::tls, metadata, name, value::any};
use crate::{
    Settings,
    ir::{Destination, Proxy, TcpListener, TcpRoute, Tls},
};

/// One chain for each route that takes some connections for itself: an older one has the names that both want.
pub(crate) fn chains(listener: &TcpListener, settings: &Settings) -> Vec<FilterChain> {
    let mut taken = HashSet::new();
    let own = listener.routes.iter().filter_map(|route| {
        let names: Vec<String> = route.sni.iter().filter(|name| taken.insert((*name).clone())).cloned().collect();
        let first = if route.sni.is_empty() { taken.insert(String::new()) } else { !names.is_empty() };
        first.then_some((route, names))
    });
    own.map(|(route, names)| chain(listener, route, &names, settings)).collect()
}

/// The clusters and secrets that the chains refer to.
pub(crate) fn resources(proxy: &Proxy, listener: &TcpListener, resources: &mut Resources) {
    for route in &listener.routes {
        let metadata = metadata::of(&route.route, None, &std::collections::BTreeMap::new());
        let options = cluster::Options {
            metadata: Some(&metadata),
            certificate: proxy.client_certificate(&listener.gateway),
            raw: true,
            ..Default::default()
        };
        cluster::add(resources, &route.destination, options);
    }
    if let Some(Tls::Terminate(tls)) = &listener.tls {
        super::secret::add(resources, tls);
    }
}

fn chain(listener: &TcpListener, route: &TcpRoute, names: &[String], settings: &Settings) -> FilterChain {
    let (kind, socket) = match &listener.tls {
        None => ("tcp", None),
        Some(Tls::Passthrough) => ("tls-passthrough", None),
        Some(Tls::Terminate(tls)) => ("tls-terminate", Some(tls::termination(tls))),
    };
    let proxy = TcpProxy {
        stat_prefix: format!("{kind}-{}", listener.port),
        access_log: settings.access_log.as_deref().map(access_log::requests).into_iter().collect(),
        cluster_specifier: Some(specifier(&route.destination)),
        ..Default::default()
    };
    FilterChain {
        name: route.name.clone(),
        filter_chain_match: tls::matching(names),
        filters: vec![Filter {
            name: "envoy.filters.network.tcp_proxy".into(),
            config_type: Some(ConfigType::TypedConfig(any(&proxy))),
        }],
        transport_socket: socket,
        ..Default::default()
    }
}

/// The share of broken backends goes to a cluster that does not exist, which closes the connection.
fn specifier(destination: &Destination) -> ClusterSpecifier {
    if !cluster::is_split(destination) {
        return ClusterSpecifier::Cluster(destination.name.clone());
    }
    let clusters = destination.backends.iter().map(|backend| ClusterWeight {
        name: match backend.endpoints {
            Some(_) => backend.name.clone(),
            None => name::INVALID_BACKEND_CLUSTER.to_owned(),
        },
        weight: backend.weight,
        ..Default::default()
    });
    ClusterSpecifier::WeightedClusters(WeightedCluster { clusters: clusters.collect() })
}

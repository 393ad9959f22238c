//! Clusters: the backends of rules, the fleet itself, and the services that filters ask.

use controller_api::cluster_settings::ClusterSettings;
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster, LoadBalancingPolicy,
                circuit_breakers::Thresholds,
                cluster::{
                    ClusterDiscoveryType, CommonLbConfig, CustomClusterType, DiscoveryType, DnsLookupFamily,
                    EdsClusterConfig,
                },
                load_balancing_policy::Policy,
            },
            core::v3::Metadata,
            endpoint::v3::ClusterLoadAssignment,
        },
        extensions::{
            clusters::{common::dns::v3::DnsLookupFamily as DnsFamily, dns::v3::DnsCluster},
            load_balancing_policies::{
                common::v3::{
                    LocalityLbConfig,
                    locality_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig},
                },
                least_request::v3::LeastRequest,
            },
        },
    },
    google::protobuf::UInt64Value,
};

mod settings;
mod tls;

pub(crate) use settings::{http2, http2_windows, http2_with_keepalive};
pub(crate) use tls::endpoint_metadata;

use self::settings::Settings;
use super::{
    Resources, endpoint, metadata, service,
    value::{ads, any, extension, millis, uint32},
};
use crate::ir::{Backend, Certificate, Destination, Endpoints, HeaderMutations, Local, Traffic};

const CONNECT_TIMEOUT_MS: u64 = 10_000;
const BUFFER_LIMIT_BYTES: u32 = 32_768;

/// Backends of one destination share a cluster unless a request must be able to tell them apart.
pub(crate) fn is_split(destination: &Destination) -> bool {
    let backends = &destination.backends;
    let differs = |of: fn(&Backend) -> bool| backends.iter().any(of) && !backends.iter().all(of);
    backends.iter().any(|backend| backend.endpoints.is_none() || has_header_mutations(backend))
        || differs(is_empty)
        || differs(is_dns)
        || differs(|backend| backend.http2)
}

fn has_header_mutations(backend: &Backend) -> bool {
    let none = HeaderMutations::default();
    backend.request_headers != none || backend.response_headers != none
}

fn is_empty(backend: &Backend) -> bool {
    matches!(&backend.endpoints, Some(Endpoints::Static(endpoints)) if endpoints.is_empty())
}

fn is_dns(backend: &Backend) -> bool {
    matches!(backend.endpoints, Some(Endpoints::Dns(_)))
}

/// What the clusters of a destination have beside its backends.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options<'a> {
    /// Where the destination comes from.
    pub(crate) metadata: Option<&'a Metadata>,
    /// The BackendTrafficPolicy in force.
    pub(crate) traffic: Option<&'a Traffic>,
    /// What the Gateway shows backends that ask for a certificate.
    pub(crate) certificate: Option<&'a Certificate>,
    /// Bytes go there, not requests.
    pub(crate) raw: bool,
}

/// The clusters of a destination with their endpoints: one, or one for each valid backend.
pub(crate) fn add(resources: &mut Resources, destination: &Destination, options: Options<'_>) {
    let settings = Settings { raw: options.raw, ..options.traffic.map(Settings::of).unwrap_or_default() };
    if !is_split(destination) {
        let backends: Vec<&Backend> = destination.backends.iter().collect();
        return add_one(resources, &destination.name, &backends, options, &settings);
    }
    for backend in destination.backends.iter().filter(|backend| backend.endpoints.is_some()) {
        add_one(resources, &backend.name, &[backend], options, &settings);
    }
}

/// One cluster for all valid backends, where nothing can choose among several clusters.
pub(crate) fn add_whole(resources: &mut Resources, destination: &Destination, options: Options<'_>) {
    let backends: Vec<&Backend> = destination.backends.iter().filter(|backend| backend.endpoints.is_some()).collect();
    let settings = Settings { raw: options.raw, ..Settings::default() };
    add_one(resources, &destination.name, &backends, options, &settings);
}

/// One cluster for all backends of a policy itself, under the destination's name.
pub(crate) fn add_for_policy(
    resources: &mut Resources,
    destination: &Destination,
    options: Options<'_>,
    settings: &ClusterSettings,
) {
    let backends: Vec<&Backend> = destination.backends.iter().collect();
    let settings = Settings {
        timeout: settings.timeout.as_ref(),
        circuit_breaker: settings.circuit_breaker.as_ref(),
        raw: options.raw,
    };
    add_one(resources, &destination.name, &backends, options, &settings);
}

/// The cluster of a site that is no backend of the API, over TLS when it has a `server_name`.
pub(crate) fn add_site(resources: &mut Resources, destination: &Destination, server_name: Option<&str>) {
    let backends: Vec<&Backend> = destination.backends.iter().collect();
    let assignment = endpoint::load_assignment(&destination.name, &backends);
    let cluster = Cluster { transport_socket: server_name.map(service::site_tls), ..named(&destination.name) };
    if backends.iter().copied().any(is_dns) {
        resources.add(&with_dns(cluster, assignment));
    } else {
        resources.add(&with_eds(cluster));
        resources.add(&assignment);
    }
}

fn add_one(
    resources: &mut Resources,
    name: &str,
    backends: &[&Backend],
    options: Options<'_>,
    settings: &Settings<'_>,
) {
    let assignment = endpoint::load_assignment(name, backends);
    let mut cluster = Cluster { metadata: options.metadata.cloned(), ..named(name) };
    settings.apply(&mut cluster, backends);
    tls::apply(&mut cluster, backends, options.certificate, resources);
    if backends.iter().copied().any(is_dns) {
        resources.add(&with_dns(cluster, assignment));
    } else {
        resources.add(&with_eds(cluster));
        resources.add(&assignment);
    }
}

/// The fleet itself, so that Envoy knows how many of its kind each zone has.
pub(crate) fn add_local(resources: &mut Resources, name: &str, local: &Local) {
    let zone_aware = ZoneAwareLbConfig { min_cluster_size: Some(UInt64Value { value: 1 }), ..Default::default() };
    let mut cluster = with_eds(Cluster { metadata: Some(metadata::origin(&local.origin)), ..named(name) });
    cluster.load_balancing_policy = Some(least_request(LocalityConfigSpecifier::ZoneAwareLbConfig(zone_aware)));
    resources.add(&cluster);
    resources.add(&endpoint::local(name, local));
}

/// What all clusters have in common.
pub(crate) fn named(name: &str) -> Cluster {
    let thresholds = Thresholds { max_retries: uint32(1024), ..Default::default() };
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(millis(CONNECT_TIMEOUT_MS)),
        per_connection_buffer_limit_bytes: uint32(BUFFER_LIMIT_BYTES),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        common_lb_config: Some(CommonLbConfig::default()),
        circuit_breakers: Some(CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }),
        ignore_health_on_host_removal: true,
        load_balancing_policy: Some(least_request(LocalityConfigSpecifier::LocalityWeightedLbConfig(
            LocalityWeightedLbConfig::default(),
        ))),
        ..Default::default()
    }
}

fn least_request(localities: LocalityConfigSpecifier) -> LoadBalancingPolicy {
    let config = LeastRequest {
        locality_lb_config: Some(LocalityLbConfig { locality_config_specifier: Some(localities) }),
        ..Default::default()
    };
    let policy = extension("envoy.load_balancing_policies.least_request", &config);
    LoadBalancingPolicy { policies: vec![Policy { typed_extension_config: Some(policy) }] }
}

fn with_eds(mut cluster: Cluster) -> Cluster {
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
    cluster.eds_cluster_config = Some(EdsClusterConfig { eds_config: Some(ads()), service_name: cluster.name.clone() });
    cluster
}

/// The cluster with endpoints whose names Envoy resolves, again every 30 seconds or as the records say.
pub(crate) fn with_dns(mut cluster: Cluster, assignment: ClusterLoadAssignment) -> Cluster {
    let dns = DnsCluster {
        dns_refresh_rate: Some(millis(30_000)),
        respect_dns_ttl: true,
        dns_lookup_family: DnsFamily::V4Preferred.into(),
        ..Default::default()
    };
    let kind = CustomClusterType { name: "envoy.cluster.dns".into(), typed_config: Some(any(&dns)) };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(kind));
    cluster.load_assignment = Some(assignment);
    cluster
}

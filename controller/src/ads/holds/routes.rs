//! Whose the routes of a route configuration are.

use std::collections::{BTreeMap, BTreeSet};

use controller_core::xds::name;
use envoy_types::pb::{
    envoy::config::{
        core::v3::Metadata,
        route::v3::{
            DirectResponseAction, Route, RouteConfiguration, VirtualHost, route::Action, route_action::ClusterSpecifier,
        },
    },
    google::protobuf::value::Kind,
};

use super::Owner;

/// Routes of one object, with the names of their virtual hosts.
pub(super) type Part = Vec<(String, Route)>;

/// The object that metadata of ours names.
pub(super) fn owner(metadata: Option<&Metadata>) -> Option<Owner> {
    let fields = &metadata?.filter_metadata.get(name::METADATA)?.fields;
    let Kind::ListValue(list) = fields.get("resources")?.kind.as_ref()? else { return None };
    let Kind::StructValue(object) = list.values.first()?.kind.as_ref()? else { return None };
    let text = |field: &str| match object.fields.get(field)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        _ => None,
    };
    Some(Owner { kind: text("kind")?, namespace: text("namespace")?, name: text("name")? })
}

/// The routes by their owners.
pub(super) fn parts(configuration: &RouteConfiguration) -> BTreeMap<Owner, Part> {
    let mut parts: BTreeMap<Owner, Part> = BTreeMap::new();
    for host in &configuration.virtual_hosts {
        for route in &host.routes {
            if let Some(owner) = owner(route.metadata.as_ref()) {
                parts.entry(owner).or_default().push((host.name.clone(), route.clone()));
            }
        }
    }
    parts
}

/// The same requests, answered with 500.
pub(super) fn stub(route: &Route) -> Route {
    Route {
        name: route.name.clone(),
        r#match: route.r#match.clone(),
        metadata: route.metadata.clone(),
        action: Some(Action::DirectResponse(DirectResponseAction { status: 500, ..Default::default() })),
        ..Default::default()
    }
}

/// Adds the routes that `owners` have in `good`. The first that matches counts: each goes where `wanted` has it, or else
/// before those that followed it in `good`.
pub(super) fn put_back(
    composed: &mut RouteConfiguration,
    wanted: &RouteConfiguration,
    good: &RouteConfiguration,
    owners: &BTreeSet<&Owner>,
) {
    for known in &good.virtual_hosts {
        let is_held = |route: &Route| owner(route.metadata.as_ref()).is_some_and(|owner| owners.contains(&owner));
        if !known.routes.iter().any(is_held) {
            continue;
        }
        let same = |host: &&VirtualHost| host.domains == known.domains;
        let order = wanted.virtual_hosts.iter().find(same).map_or(&[][..], |host| host.routes.as_slice());
        let Some(host) = composed.virtual_hosts.iter_mut().find(|host| host.domains == known.domains) else {
            let mut host = known.clone();
            host.routes.retain(is_held);
            composed.virtual_hosts.push(host);
            continue;
        };
        for route in known.routes.iter().rev().filter(|route| is_held(route)) {
            let is_wanted = order.iter().any(|next| next.name == route.name);
            let order = if is_wanted { order } else { &known.routes };
            let mut followers = order.iter().skip_while(|next| next.name != route.name).skip(1);
            let before = followers.find_map(|next| host.routes.iter().position(|route| route.name == next.name));
            host.routes.insert(before.unwrap_or(host.routes.len()), route.clone());
        }
    }
}

/// The clusters that requests go to.
pub(super) fn clusters(configuration: &RouteConfiguration) -> impl Iterator<Item = &str> {
    let routes = configuration.virtual_hosts.iter().flat_map(|host| &host.routes);
    routes.flat_map(|route| {
        let specifier = match &route.action {
            Some(Action::Route(action)) => action.cluster_specifier.as_ref(),
            _ => None,
        };
        match specifier {
            Some(ClusterSpecifier::Cluster(cluster)) => vec![cluster.as_str()],
            Some(ClusterSpecifier::WeightedClusters(weighted)) => {
                weighted.clusters.iter().map(|cluster| cluster.name.as_str()).collect()
            }
            _ => Vec::new(),
        }
    })
}

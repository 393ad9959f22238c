//! What differs between two snapshots, for those who keep what they have made of one.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{Key, Objects, Snapshot};
use crate::ir::ObjectRef;

/// The labels by which a slice says whose endpoints it holds, and the kind of that.
pub(crate) const OWNER_LABELS: [(&str, &str); 2] =
    [("kubernetes.io/service-name", "Service"), ("multicluster.kubernetes.io/service-name", "ServiceImport")];

/// What may have to be worked out anew.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Something that anything may depend on is another.
    pub(crate) everything: bool,
    /// Whoever takes requests and is another, or has other endpoints: of kind `Backend`, `Service` or `ServiceImport`.
    pub(crate) backends: HashSet<ObjectRef>,
}

impl Changes {
    /// From `before` to `after`.
    ///
    /// Routes, policies of routes and what Envoys run on count for nothing here: nobody but themselves depends on them,
    /// and who keeps what was made of them looks at the object.
    pub(crate) fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let Snapshot {
            gateway_classes,
            gateways,
            listener_sets,
            http_routes: _,
            grpc_routes: _,
            tls_routes: _,
            tcp_routes: _,
            udp_routes: _,
            reference_grants,
            namespaces,
            services,
            service_imports,
            endpoint_slices,
            secrets,
            config_maps,
            cluster_trust_bundles,
            backend_tls_policies,
            backends,
            http_route_filters,
            nodes: _,
            deployments: _,
            daemon_sets: _,
            envoy_proxies,
            backend_traffic_policies: _,
            security_policies: _,
        } = after;
        let same = same(&before.gateway_classes, gateway_classes)
            && same(&before.gateways, gateways)
            && same(&before.listener_sets, listener_sets)
            && same(&before.reference_grants, reference_grants)
            && same(&before.namespaces, namespaces)
            && same(&before.secrets, secrets)
            && same(&before.config_maps, config_maps)
            && same(&before.cluster_trust_bundles, cluster_trust_bundles)
            && same(&before.backend_tls_policies, backend_tls_policies)
            && same(&before.http_route_filters, http_route_filters)
            && same(&before.envoy_proxies, envoy_proxies);
        let mut changes = Self { everything: !same, backends: HashSet::new() };
        if changes.everything {
            return changes;
        }
        changes.note("Backend", &before.backends, backends);
        changes.note("Service", &before.services, services);
        changes.note("ServiceImport", &before.service_imports, service_imports);
        differing(&before.endpoint_slices, endpoint_slices, |(namespace, _), slices| {
            let owners = slices.into_iter().flatten().flat_map(|slice| owners(namespace, slice));
            changes.backends.extend(owners);
        });
        changes
    }

    fn note<T>(&mut self, kind: &'static str, before: &Objects<T>, after: &Objects<T>) {
        differing(before, after, |(namespace, name), _| {
            self.backends.insert(ObjectRef { kind, namespace: namespace.clone(), name: name.clone() });
        });
    }
}

fn owners(namespace: &str, slice: &EndpointSlice) -> impl Iterator<Item = ObjectRef> {
    OWNER_LABELS.into_iter().filter_map(move |(label, kind)| {
        let name = slice.metadata.labels.as_ref()?.get(label)?.clone();
        Some(ObjectRef { kind, namespace: namespace.to_owned(), name })
    })
}

/// Whether these are the very same objects.
fn same<T>(before: &Objects<T>, after: &Objects<T>) -> bool {
    let mut is_same = true;
    differing(before, after, |_, _| is_same = false);
    is_same
}

/// Calls `tell` for each key with what was there and what is there, where that is not the same object.
fn differing<T>(before: &Objects<T>, after: &Objects<T>, mut tell: impl FnMut(&Key, [Option<&Arc<T>>; 2])) {
    if Arc::ptr_eq(before, after) {
        return;
    }
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        // Which of both is the next in order, or that both are.
        let order = match (old.peek(), new.peek()) {
            (Some((old, _)), Some((new, _))) => old.cmp(new),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return,
        };
        let gone = if order.is_le() { old.next() } else { None };
        let come = if order.is_ge() { new.next() } else { None };
        match (gone, come) {
            (Some((_, object)), Some((_, other))) if Arc::ptr_eq(object, other) => {}
            (Some((key, object)), come) => tell(key, [Some(object), come.map(|(_, other)| other)]),
            (None, Some((key, object))) => tell(key, [None, Some(object)]),
            (None, None) => {}
        }
    }
}

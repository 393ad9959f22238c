//! Routes, whatever their kind.

use controller_api::route::{BackendRef, ParentRef};
use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesFilters as Filter, HttpRouteRulesFiltersRequestMirrorBackendRef as MirrorRef,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Key, Snapshot};
use crate::ir::ObjectRef;

/// What all kinds of routes have.
pub(crate) struct Route<'s> {
    /// The route itself.
    pub(crate) object: ObjectRef,
    /// With labels and age.
    pub(crate) metadata: &'s ObjectMeta,
    /// Where it wants to attach.
    pub(crate) parent_refs: &'s [ParentRef],
    /// Of all rules.
    pub(crate) backend_refs: Vec<&'s BackendRef>,
    /// Who gets copies of requests, of all rules.
    pub(crate) mirrors: Vec<&'s MirrorRef>,
}

impl Snapshot {
    /// The routes of every kind.
    pub(crate) fn routes(&self) -> impl Iterator<Item = Route<'_>> {
        /// The fields that all these types have and share no trait for.
        macro_rules! routes {
            ($objects:ident, $kind:literal, |$rule:ident| $filters:expr) => {
                self.$objects.iter().map(|(key, route)| Route {
                    object: reference($kind, key),
                    metadata: &route.metadata,
                    parent_refs: route.spec.parent_refs.as_deref().unwrap_or_default(),
                    backend_refs: rules(route.spec.rules.as_deref())
                        .flat_map(|rule| rule.backend_refs.iter().flatten())
                        .collect(),
                    mirrors: rules(route.spec.rules.as_deref())
                        .flat_map(|$rule| -> &[Filter] { $filters })
                        .filter_map(|filter| Some(&filter.request_mirror.as_ref()?.backend_ref))
                        .collect(),
                })
            };
        }
        routes!(http_routes, "HTTPRoute", |rule| rule.filters.as_deref().unwrap_or_default())
            .chain(routes!(grpc_routes, "GRPCRoute", |rule| rule.filters.as_deref().unwrap_or_default()))
            .chain(routes!(tls_routes, "TLSRoute", |_rule| &[]))
            .chain(routes!(tcp_routes, "TCPRoute", |_rule| &[]))
            .chain(routes!(udp_routes, "UDPRoute", |_rule| &[]))
    }
}

fn rules<R>(rules: Option<&[R]>) -> impl Iterator<Item = &R> {
    rules.unwrap_or_default().iter()
}

fn reference(kind: &'static str, (namespace, name): &Key) -> ObjectRef {
    ObjectRef { kind, namespace: namespace.clone(), name: name.clone() }
}

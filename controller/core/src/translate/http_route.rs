//! `HTTPRoute`: its rules in terms of what all HTTP routes have.

use std::{collections::BTreeMap, sync::Arc};

use gateway_api::apis::experimental::httproutes::HttpRouteRules;

use super::{
    attachment::{self, Attached, Object},
    gateway::Gateway,
    inputs::Inputs,
    kept::Kept,
    route::Route,
    route_match,
    route_rule::Spec,
    status::Report,
};
use crate::snapshot::Key;

/// Attaches every HTTPRoute to the listeners that take it and writes its status.
pub(super) fn attach(
    inputs: &Inputs<'_>,
    gateways: &mut BTreeMap<Key, Gateway<'_>>,
    kept: &mut Kept<Option<Arc<Attached>>>,
    report: &mut Report,
) {
    let objects = inputs.snapshot.http_routes.iter().map(|(key, route)| {
        let parent_refs = route.spec.parent_refs.as_deref().unwrap_or_default();
        (key, route, Object { metadata: &route.metadata, parent_refs, spec: route.as_ref() })
    });
    attachment::attach_http(inputs, gateways, kept, report, "HTTPRoute", objects, |reference, route| {
        let rules = route.spec.rules.iter().flatten().map(spec);
        Route::read(inputs, reference, &route.metadata, route.spec.hostnames.as_deref(), rules)
    });
}

fn spec(rule: &HttpRouteRules) -> Spec<'_> {
    Spec {
        name: rule.name.as_deref(),
        matches: rule.matches.iter().flatten().map(route_match::read).collect(),
        filters: rule.filters.as_deref().unwrap_or_default(),
        backend_refs: rule.backend_refs.as_deref().unwrap_or_default(),
        timeouts: rule.timeouts.as_ref(),
        retry: rule.retry.as_ref(),
        session_persistence: rule.session_persistence.as_ref(),
    }
}

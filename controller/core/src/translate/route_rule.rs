//! One rule of a route that looks into HTTP requests: its matches, filters and backends put together.

use controller_api::{cluster_settings::Retry, route::BackendRef};
use gateway_api::{
    Duration,
    apis::experimental::httproutes::{
        HttpRouteRulesFilters, HttpRouteRulesRetry, HttpRouteRulesSessionPersistence, HttpRouteRulesTimeouts,
    },
};

use super::{
    backend,
    fault::Fault,
    grant::Referrer,
    inputs::Inputs,
    name,
    route_filter::{self, Filters, Response},
    rule_settings,
};
use crate::ir::{
    Action, Backend, Destination, Endpoints, HeaderMutations, Match, ObjectRef, RouteTimeouts, ValueMatch,
};

/// A rule as every kind of HTTP route spells it.
pub(super) struct Spec<'r> {
    pub(super) name: Option<&'r str>,
    /// Read already; empty when the rule takes every request.
    pub(super) matches: Result<Vec<Match>, Fault>,
    pub(super) filters: &'r [HttpRouteRulesFilters],
    pub(super) backend_refs: &'r [BackendRef],
    pub(super) timeouts: Option<&'r HttpRouteRulesTimeouts>,
    pub(super) retry: Option<&'r HttpRouteRulesRetry>,
    pub(super) session_persistence: Option<&'r HttpRouteRulesSessionPersistence>,
}

/// A rule that is ready to be put on listeners.
#[derive(Debug)]
pub(super) struct Rule {
    /// Index in the route.
    pub(super) index: usize,
    /// The name that policies know it by.
    pub(super) name: Option<String>,
    /// Name of its cluster.
    pub(super) destination: String,
    /// With the index of each; a single one without index when the rule names none; none at all if one is invalid.
    pub(super) matches: Vec<(Option<usize>, Match)>,
    /// What happens to requests that match.
    pub(super) action: Action,
    /// Header changes, rewrites and mirrors.
    pub(super) filters: Filters,
    /// Deadlines.
    pub(super) timeouts: RouteTimeouts,
    /// What is tried again.
    pub(super) retry: Option<Retry>,
}

/// Reads the rule at `index` of `route`.
///
/// A rule with matches that Envoy cannot evaluate matches nothing; any other fault makes it answer 500.
pub(super) fn read(inputs: &Inputs<'_>, route: &ObjectRef, index: usize, spec: Spec<'_>) -> (Rule, Vec<Fault>) {
    let destination = name::destination(route, index);
    let from = Referrer { group: "gateway.networking.k8s.io", kind: route.kind, namespace: &route.namespace };

    let of = route_filter::Of { route, from, destination: &destination };
    let (mut filters, mut faults) = route_filter::read(inputs, of, spec.filters);
    let mut noted = |fault| faults.push(fault);
    let retry = spec.retry.map(rule_settings::retry).transpose().map_err(&mut noted).unwrap_or_default();
    let session = spec.session_persistence.map(|spec| rule_settings::session(spec, &destination)).transpose();
    filters.http.session = session.map_err(&mut noted).unwrap_or_default();
    let timeouts = timeouts(spec.timeouts).unwrap_or_else(|fault| {
        faults.push(fault);
        RouteTimeouts::default()
    });
    // A mirror that nobody listens to takes nothing from the request itself.
    let action_refused = faults.iter().any(|fault| fault.condition != "BackendsAvailable");

    let matches = match spec.matches {
        Ok(matches) => numbered(matches, &filters.cookies),
        Err(fault) => {
            faults.push(fault.at(format!("failed to process route rule {index}")));
            Vec::new()
        }
    };
    let (mut backends, broken) = backends(inputs, from, &destination, references(index, spec.backend_refs));
    // gRPC is HTTP/2, whatever the port says.
    for backend in &mut backends {
        backend.http2 |= route.kind == "GRPCRoute";
    }
    let action = if action_refused {
        respond(500)
    } else if let Some(redirect) = filters.redirect.clone() {
        Action::Redirect(redirect)
    } else if let Some(Response { status, body, format }) = filters.response.clone() {
        Action::Respond { status, body, format }
    } else {
        forward(&destination, backends, &broken)
    };
    faults.extend(broken);
    let rule =
        Rule { index, name: spec.name.map(ToOwned::to_owned), destination, matches, action, filters, timeouts, retry };
    (rule, faults)
}

fn respond(status: u16) -> Action {
    Action::Respond { status, body: String::new(), format: false }
}

/// 503 when every backend lacks endpoints, 500 when there is no backend that could have any.
fn forward(name: &str, backends: Vec<Backend>, broken: &[Fault]) -> Action {
    let is_usable = |backend: &Backend| match &backend.endpoints {
        Some(Endpoints::Static(endpoints)) => !endpoints.is_empty(),
        Some(Endpoints::Dns(hosts)) => !hosts.is_empty(),
        None => false,
    };
    if backends.iter().any(is_usable) {
        return Action::Forward(Destination { name: name.to_owned(), backends });
    }
    let only_empty = !broken.is_empty() && broken.iter().all(|fault| fault.condition == "BackendsAvailable");
    respond(if only_empty { 503 } else { 500 })
}

/// The matches with their numbers; each of the alternatives of `cookies` is wanted beside each match.
fn numbered(mut matches: Vec<Match>, cookies: &[Vec<ValueMatch>]) -> Vec<(Option<usize>, Match)> {
    if matches.is_empty() && cookies.is_empty() {
        return vec![(None, Match::default())];
    }
    if matches.is_empty() {
        matches.push(Match::default());
    }
    if !cookies.is_empty() {
        let both =
            |one: &Match| cookies.iter().map(|cookies| Match { cookies: cookies.clone(), ..one.clone() }).collect();
        matches = matches.iter().flat_map(|one| -> Vec<Match> { both(one) }).collect();
    }
    matches.into_iter().enumerate().map(|(index, matches)| (Some(index), matches)).collect()
}

fn timeouts(spec: Option<&HttpRouteRulesTimeouts>) -> Result<RouteTimeouts, Fault> {
    let Some(spec) = spec else { return Ok(RouteTimeouts::default()) };
    let read = |field: &str, text: Option<&String>| {
        let parsed = text.map(|text| text.parse::<Duration>().map_err(|error| (text, error))).transpose();
        let invalid = |(text, error)| format!("timeouts.{field} {text:?} is invalid: {error}");
        let parsed = parsed.map_err(|cause| Fault::accepted("UnsupportedValue", invalid(cause)))?;
        Ok(parsed.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    };
    Ok(RouteTimeouts {
        request_ms: read("request", spec.request.as_ref())?,
        backend_request_ms: read("backendRequest", spec.backend_request.as_ref())?,
    })
}

/// A backendRef beside the indices of its rule and of itself in it.
type Numbered<'r> = (usize, usize, &'r BackendRef);

/// The backendRefs of the rule at `rule`.
pub(super) fn references(rule: usize, specs: &[BackendRef]) -> impl Iterator<Item = Numbered<'_>> {
    specs.iter().enumerate().map(move |(index, spec)| (rule, index, spec))
}

/// The backends with a weight above zero, and what is wrong with any of them.
pub(super) fn backends<'r>(
    inputs: &Inputs<'_>,
    from: Referrer<'_>,
    destination: &str,
    references: impl Iterator<Item = Numbered<'r>>,
) -> (Vec<Backend>, Vec<Fault>) {
    let (mut backends, mut faults) = (Vec::new(), Vec::new());
    let references: Vec<_> = references.collect();
    let alone = references.len() == 1;
    for (number, (rule, index, spec)) in references.into_iter().enumerate() {
        let weight = u32::try_from(spec.weight.unwrap_or(1)).unwrap_or_default();
        let name = name::backend(destination, Some(number));
        let (backend, found) = read_backend(inputs, from, name, weight, spec, alone);
        faults.extend(found.map(|fault| match fault.condition {
            "BackendsAvailable" => fault.at("failed to find endpoints"),
            _ => fault.at(format!("failed to process route rule {rule} backendRef {index}")),
        }));
        if weight > 0 {
            backends.push(backend);
        }
    }
    (backends, faults)
}

fn read_backend(
    inputs: &Inputs<'_>,
    from: Referrer<'_>,
    name: String,
    weight: u32,
    spec: &BackendRef,
    alone: bool,
) -> (Backend, Option<Fault>) {
    let reference = backend::Reference {
        group: spec.group.as_deref(),
        kind: spec.kind.as_deref(),
        namespace: spec.namespace.as_deref(),
        name: &spec.name,
        port: spec.port,
    };
    let filters = route_filter::read_of_backend(spec.filters.as_deref().unwrap_or_default());
    let resolved = if !alone && backend::is_dynamic(inputs, from, reference) {
        let message = "dynamic resolver is not supported for multiple backendRefs";
        Err(Fault::resolved_refs("InvalidBackendRef", message))
    } else {
        backend::resolve_for_route(inputs, from, reference)
    };
    match (filters, resolved) {
        (Ok(filters), Ok(resolved)) => {
            let fault = resolved.is_empty().then(|| backend::no_endpoints(&resolved.origin));
            let backend = Backend {
                name,
                weight,
                origin: Some(resolved.origin),
                endpoints: Some(resolved.endpoints),
                http2: resolved.http2,
                fallback: resolved.fallback,
                tls: resolved.tls,
                request_headers: filters.request_headers,
                response_headers: filters.response_headers,
            };
            (backend, fault)
        }
        (Err(fault), _) | (_, Err(fault)) => {
            let backend = Backend {
                name,
                weight,
                origin: None,
                endpoints: None,
                http2: false,
                fallback: false,
                tls: None,
                request_headers: HeaderMutations::default(),
                response_headers: HeaderMutations::default(),
            };
            (backend, Some(fault))
        }
    }
}

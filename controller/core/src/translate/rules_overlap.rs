//! Routes that want the very same requests, of which only one can have them: the condition `RouteRulesOverlap`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ahash::{HashMap, HashMapExt};
use serde_json::Value;

use super::status::{Conditions, Report};
use crate::ir::{HttpListener, HttpRoute, ObjectRef, PathMatch, Proxy, ValueMatch};

/// Most routes that one condition names.
const MAX_NAMES: usize = 16;

/// What a route asks of a request, the same for all spellings. Requests to connect are told apart from others by their policy.
#[derive(PartialEq, Eq, Hash)]
struct Wanted<'r> {
    hostname: &'r str,
    path: Option<(u8, &'r str)>,
    method: Option<&'r str>,
    headers: Vec<(String, &'r str, bool)>,
    query_params: Vec<(&'r str, &'r str, bool)>,
    cookies: Vec<(&'r str, &'r str, bool)>,
    connects: bool,
}

/// By name of the listener, the routes with rivals there, and these.
type Rivals<'p> = HashMap<&'p str, BTreeMap<&'p ObjectRef, BTreeSet<&'p ObjectRef>>>;

/// Tells every route which others want the same requests on a listener of theirs.
pub(super) fn tell(proxies: &[Proxy], report: &mut Report) {
    let listeners = proxies.iter().flat_map(|proxy| &proxy.http);
    let rivals: Rivals<'_> = listeners.map(|listener| (listener.name.as_str(), rivals(listener))).collect();
    if rivals.values().all(BTreeMap::is_empty) {
        return;
    }
    for (index, attached) in std::mem::take(&mut report.parents) {
        let Some(status) = report.statuses.get_mut(index) else { continue };
        let route = ObjectRef { kind: status.kind, namespace: status.namespace.clone(), name: status.name.clone() };
        for (index, parent) in attached.parents.iter().enumerate() {
            let here = parent.listeners.iter().filter_map(|listener| rivals.get(listener.as_str())?.get(&route));
            let others: BTreeSet<&ObjectRef> = here.flatten().copied().collect();
            if others.is_empty() {
                continue;
            }
            let pointer = format!("/parents/{index}/conditions");
            Arc::make_mut(status).status.edit(|status| {
                let known = status.pointer_mut(&pointer).and_then(Value::as_array_mut);
                if let (Some(known), Value::Array(added)) = (known, condition(&others).to_json(parent.generation)) {
                    known.extend(added);
                }
            });
        }
    }
}

fn condition(others: &BTreeSet<&ObjectRef>) -> Conditions {
    let names: Vec<String> = others.iter().take(MAX_NAMES).map(ToString::to_string).collect();
    let more = if others.len() > MAX_NAMES { " and others" } else { "" };
    let message = format!("Overlapping match conditions with route(s): {}{more}", names.join(", "));
    let mut conditions = Conditions::default();
    conditions.set("RouteRulesOverlap", true, "RouteRulesOverlap", message);
    conditions
}

fn rivals(listener: &HttpListener) -> BTreeMap<&ObjectRef, BTreeSet<&ObjectRef>> {
    let mut wanted: HashMap<Wanted<'_>, Vec<&ObjectRef>> = HashMap::with_capacity(listener.routes.len());
    for route in &listener.routes {
        let routes = wanted.entry(Wanted::of(route)).or_default();
        if routes.last() != Some(&&route.route) {
            routes.push(&route.route);
        }
    }
    let mut rivals: BTreeMap<&ObjectRef, BTreeSet<&ObjectRef>> = BTreeMap::new();
    for routes in wanted.into_values().filter(|routes| routes.len() > 1) {
        let routes: BTreeSet<&ObjectRef> = routes.into_iter().collect();
        for route in &routes {
            // One more than a condition names, so that it can say that there are others.
            let others = routes.iter().filter(|other| *other != route).take(MAX_NAMES + 1);
            rivals.entry(route).or_default().extend(others);
        }
    }
    rivals.retain(|_, others| !others.is_empty());
    rivals
}

impl<'r> Wanted<'r> {
    fn of(route: &'r HttpRoute) -> Self {
        let path = route.matches.path.as_ref().map(|path| match path {
            PathMatch::Exact(path) => (0, path.as_str()),
            PathMatch::Prefix(path) => (1, path.as_str()),
            PathMatch::Suffix(path) => (2, path.as_str()),
            PathMatch::RegularExpression(regex) => (3, regex.as_str()),
        });
        let headers = route.matches.headers.iter();
        let headers = headers.map(|one| (one.name.to_ascii_lowercase(), one.value.as_str(), one.regex));
        let mut headers: Vec<_> = headers.collect();
        headers.sort_unstable();
        let connects = connects(route);
        Self {
            hostname: &route.hostname,
            // A request to connect has no path.
            path: path.filter(|path| !connects && *path != (1, "/")),
            method: route.matches.method.as_deref(),
            headers,
            query_params: values(&route.matches.query_params),
            cookies: values(&route.matches.cookies),
            connects,
        }
    }
}

fn values(values: &[ValueMatch]) -> Vec<(&str, &str, bool)> {
    let mut values: Vec<_> = values.iter().map(|one| (one.name.as_str(), one.value.as_str(), one.regex)).collect();
    values.sort_unstable();
    values
}

/// Its policy makes it take requests to connect.
fn connects(route: &HttpRoute) -> bool {
    let upgrades = route.traffic.as_ref().and_then(|traffic| traffic.spec.unsupported.get("httpUpgrade"));
    upgrades.and_then(Value::as_array).into_iter().flatten().any(|upgrade| upgrade["type"] == "CONNECT")
}

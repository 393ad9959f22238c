//! `HTTPRoute`: where they attach and what their status says.

use std::collections::{BTreeMap, BTreeSet};

use gateway_api::apis::experimental::httproutes::{HttpRoute as Object, HttpRouteParentRefs as ParentRef};
use serde_json::{Value, json};

use super::{
    attachment,
    fault::{Fault, by_condition},
    gateway::Gateway,
    hostname,
    inputs::Inputs,
    name, order,
    route_rule::{self, Rule},
    status::{Conditions, Report},
};
use crate::{
    ir::{Action, HttpListener, HttpRoute, ObjectRef},
    snapshot::Key,
};

/// Attaches every route to the listeners that take it and writes its status.
pub(super) fn attach(inputs: &Inputs<'_>, gateways: &mut BTreeMap<Key, Gateway<'_>>, report: &mut Report) {
    let mut routes: Vec<_> = inputs.snapshot.http_routes.iter().collect();
    // Older routes win; the map has them in order of namespace and name already.
    routes.sort_by_key(|(_, route)| route.metadata.creation_timestamp.clone());
    for ((namespace, name), object) in routes {
        let reference = ObjectRef { kind: "HTTPRoute", namespace: namespace.clone(), name: name.clone() };
        let parents = object.spec.parent_refs.iter().flatten();
        let mut ours = parents.filter(|parent| attachment::gateway(gateways, parent, namespace).is_some()).peekable();
        if ours.peek().is_none() {
            continue;
        }
        let mut route = Route::read(inputs, &reference, object);
        let mut statuses: Vec<Value> = Vec::new();
        for parent in object.spec.parent_refs.iter().flatten() {
            let Some(gateway) = attachment::gateway(gateways, parent, namespace) else { continue };
            let conditions = route.attach(inputs, gateway, parent);
            statuses.push(json!({
                "parentRef": parent,
                "controllerName": inputs.settings.controller_name,
                "conditions": conditions.to_json(object.metadata.generation),
            }));
        }
        report.push(&reference, json!({"parents": statuses}));
    }
    for listener in gateways.values_mut().flat_map(|gateway| &mut gateway.proxy.http) {
        order::sort(&mut listener.routes);
    }
}

/// A route with all that does not depend on where it attaches.
struct Route<'s> {
    reference: &'s ObjectRef,
    hostnames: Vec<String>,
    rules: Vec<Rule>,
    faults: Vec<Fault>,
    /// Indices of rules that cannot be accepted.
    unaccepted: Vec<usize>,
    metadata: BTreeMap<String, String>,
    /// Names of the listeners that have it already: two parentRefs may lead to the same one.
    attached: BTreeSet<String>,
}

/// Annotations below this prefix go into Envoy's metadata.
const ANNOTATION_PREFIX: &str = "gateway.envoyproxy.io/";

impl<'s> Route<'s> {
    fn read(inputs: &Inputs<'_>, reference: &'s ObjectRef, object: &Object) -> Self {
        let (mut rules, mut faults, mut unaccepted) = (Vec::new(), Vec::new(), Vec::new());
        for (index, spec) in object.spec.rules.iter().flatten().enumerate() {
            let (rule, found) = route_rule::read(inputs, reference, index, spec);
            if found.iter().any(|fault| fault.condition == "Accepted") {
                unaccepted.push(index);
            }
            faults.extend(found);
            rules.push(rule);
        }
        let hostnames = object.spec.hostnames.clone().unwrap_or_default();
        let (hostnames, invalid): (Vec<_>, Vec<_>) = hostnames.into_iter().partition(|host| hostname::is_valid(host));
        if !invalid.is_empty() {
            let message = format!("hostnames [{}] are invalid", invalid.join(" "));
            faults.push(Fault::accepted("UnsupportedValue", message));
            // Without its hostnames a route would take every host, so it takes none.
            rules.clear();
            unaccepted = (0..object.spec.rules.iter().flatten().count()).collect();
        }
        let annotations = object.metadata.annotations.iter().flatten();
        let metadata = annotations
            .filter_map(|(key, value)| key.strip_prefix(ANNOTATION_PREFIX).map(|key| (key.to_owned(), value.clone())));
        Self {
            reference,
            hostnames,
            rules,
            faults,
            unaccepted,
            metadata: metadata.collect(),
            attached: BTreeSet::new(),
        }
    }

    /// Attaches to the listeners that `parent` names; the conditions are those of this parent.
    fn attach(&mut self, inputs: &Inputs<'_>, gateway: &mut Gateway<'_>, parent: &ParentRef) -> Conditions {
        let mut conditions = Conditions::default();
        let kind = self.reference.kind;
        let refused = match attachment::listeners(inputs, gateway, parent, kind, &self.reference.namespace) {
            Ok(listeners) => {
                let met = listeners.into_iter().filter(|index| self.attach_to(gateway, *index)).count();
                (met == 0).then(|| {
                    let message = "There were no hostname intersections between the HTTPRoute and this parent ref's \
                                   Listener(s).";
                    Fault::accepted("NoMatchingListenerHostname", message)
                })
            }
            Err(fault) => Some(fault),
        };
        conditions.set("Accepted", true, "Accepted", "Route is accepted");
        self.report_faults(&mut conditions);
        if conditions.find("ResolvedRefs").is_none() {
            let message = "Resolved all the Object references for the Route";
            conditions.set("ResolvedRefs", true, "ResolvedRefs", message);
        }
        if let Some(Fault { condition, reason, message }) = refused {
            conditions.set(condition, false, reason, message);
        }
        conditions
    }

    fn report_faults(&self, conditions: &mut Conditions) {
        for (condition, (reason, message)) in by_condition(&self.faults) {
            let all = self.rules.is_empty() || self.unaccepted.len() == self.rules.len();
            if condition == "Accepted" && !all {
                let dropped: Vec<String> = self.unaccepted.iter().map(ToString::to_string).collect();
                let message = format!("Dropped Rule(s) [{}]: {message}", dropped.join(" "));
                conditions.set("PartiallyInvalid", true, reason, message);
            } else {
                conditions.set(condition, false, reason, message);
            }
        }
    }

    /// Adds the routes for every host that it shares with a listener; whether there is any such host.
    fn attach_to(&mut self, gateway: &mut Gateway<'_>, index: usize) -> bool {
        let Some(listener) = gateway.listeners.get(index) else { return false };
        let hosts = hostname::meet(&self.hostnames, listener.hostname(), &gateway.neighbours(index));
        if hosts.is_empty() {
            return false;
        }
        if !self.attached.insert(format!("{}/{}", gateway.proxy.key, listener.spec.name)) {
            return true;
        }
        let http = listener.http;
        if let Some(listener) = gateway.listeners.get_mut(index) {
            listener.attached_routes += 1;
        }
        if let Some(listener) = http.and_then(|http| gateway.proxy.http.get_mut(http)) {
            for host in &hosts {
                self.add_routes(listener, host);
            }
        }
        true
    }

    fn add_routes(&self, listener: &mut HttpListener, host: &str) {
        for rule in &self.rules {
            for (index, matches) in &rule.matches {
                let name = name::route(&rule.destination, *index, host);
                listener.routes.push(HttpRoute {
                    name,
                    route: self.reference.clone(),
                    rule: rule.index,
                    rule_name: rule.name.clone(),
                    hostname: host.to_owned(),
                    matches: matches.clone(),
                    action: action_on(&rule.action, listener.gateway_port),
                    request_headers: rule.filters.request_headers.clone(),
                    response_headers: rule.filters.response_headers.clone(),
                    rewrite: rule.filters.rewrite.clone(),
                    mirrors: rule.filters.mirrors.clone(),
                    timeouts: rule.timeouts,
                    metadata: self.metadata.clone(),
                    traffic: None,
                    security: None,
                });
            }
        }
    }
}

/// A rule's action on a listener: a redirect without a port goes to that of its scheme, or else of the listener. A port
/// that the scheme implies is not written.
fn action_on(action: &Action, listener_port: u16) -> Action {
    let Action::Redirect(redirect) = action else { return action.clone() };
    let well_known = match redirect.scheme.as_deref() {
        Some("https") => 443,
        _ => 80,
    };
    let port = redirect.port.unwrap_or(if redirect.scheme.is_some() { well_known } else { listener_port });
    let mut redirect = redirect.clone();
    redirect.port = Some(port).filter(|port| *port != well_known);
    Action::Redirect(redirect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Redirect;

    #[test]
    fn a_redirect_names_its_port_only_where_it_must() {
        let port = |scheme: Option<&str>, port, listener| {
            let redirect = Redirect { scheme: scheme.map(Into::into), hostname: None, path: None, port, status: 302 };
            match action_on(&Action::Redirect(redirect), listener) {
                Action::Redirect(redirect) => redirect.port,
                _ => None,
            }
        };
        assert_eq!(port(None, None, 80), None);
        assert_eq!(port(None, None, 8080), Some(8080));
        assert_eq!(port(None, Some(9090), 80), Some(9090));
        assert_eq!(port(Some("https"), None, 8080), None);
        assert_eq!(port(Some("https"), Some(443), 80), None);
        assert_eq!(port(Some("https"), Some(80), 80), Some(80));
        assert_eq!(port(Some("http"), Some(8443), 80), Some(8443));
    }
}

//! Routes that look into HTTP requests: where they attach and what their status says, whatever their kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    attachment::{Attach, Placed},
    fault::{Fault, by_condition},
    gateway::Gateway,
    hostname,
    inputs::Inputs,
    listener::Listener,
    name,
    route_rule::{self, Rule, Spec},
    status::Conditions,
};
use crate::ir::{Action, BareRoute, HttpListener, Match, ObjectRef, ValueMatch};

/// A route with all that does not depend on where it attaches.
pub(super) struct Route {
    reference: ObjectRef,
    hostnames: Vec<String>,
    rules: Vec<Rule>,
    faults: Vec<Fault>,
    /// Indices of rules that cannot be accepted.
    unaccepted: Vec<usize>,
    metadata: BTreeMap<String, String>,
    placed: Vec<Placed>,
}

/// Annotations below this prefix go into Envoy's metadata.
const ANNOTATION_PREFIX: &str = "gateway.envoyproxy.io/";

impl Route {
    /// Reads a route of any kind, whose rules are `specs`.
    pub(super) fn read<'r>(
        inputs: &Inputs<'_>,
        reference: &ObjectRef,
        metadata: &ObjectMeta,
        hostnames: Option<&[String]>,
        specs: impl Iterator<Item = Spec<'r>>,
    ) -> Self {
        let (mut rules, mut faults, mut unaccepted) = (Vec::new(), Vec::new(), Vec::new());
        for (index, spec) in specs.enumerate() {
            let (rule, found) = route_rule::read(inputs, reference, index, spec);
            if found.iter().any(|fault| fault.condition == "Accepted") {
                unaccepted.push(index);
            }
            faults.extend(found);
            rules.push(rule);
        }
        let hostnames = hostnames.unwrap_or_default().iter().cloned();
        let (hostnames, invalid): (Vec<_>, Vec<_>) = hostnames.partition(|host| hostname::is_valid(host));
        if !invalid.is_empty() {
            let message = format!("hostnames [{}] are invalid", invalid.join(" "));
            faults.push(Fault::accepted("UnsupportedValue", message));
            // Without its hostnames a route would take every host, so it takes none.
            unaccepted = (0..rules.len()).collect();
            rules.clear();
        }
        let annotations = metadata.annotations.iter().flatten();
        let metadata = annotations
            .filter_map(|(key, value)| key.strip_prefix(ANNOTATION_PREFIX).map(|key| (key.to_owned(), value.clone())));
        let metadata = metadata.collect();
        Self { reference: reference.clone(), hostnames, rules, faults, unaccepted, metadata, placed: Vec::new() }
    }

    /// What listeners take of it.
    pub(super) fn placed(self) -> Vec<Placed> {
        self.placed
    }

    fn add_routes(&self, listener: &HttpListener, host: &str, routes: &mut Vec<Arc<BareRoute>>) {
        for rule in &self.rules {
            for (index, matches) in &rule.matches {
                let name = name::route(&rule.destination, *index, host);
                let route = self.bare_route(rule, matches, name, host, listener);
                if let Some(matches) = preflight(&route) {
                    let name = name::preflight(&rule.destination, *index, host);
                    routes.push(Arc::new(BareRoute { name, matches, ..route.clone() }));
                }
                routes.push(Arc::new(route));
            }
        }
    }

    fn bare_route(&self, rule: &Rule, matches: &Match, name: String, host: &str, on: &HttpListener) -> BareRoute {
        BareRoute {
            name,
            route: self.reference.clone(),
            rule: rule.index,
            rule_name: rule.name.clone(),
            hostname: host.to_owned(),
            matches: matches.clone(),
            action: action_on(&rule.action, on.gateway_port, on.tls.is_some()),
            request_headers: rule.filters.request_headers.clone(),
            response_headers: rule.filters.response_headers.clone(),
            rewrite: rule.filters.rewrite.clone(),
            mirrors: rule.filters.mirrors.clone(),
            filters: rule.filters.http.clone(),
            timeouts: rule.timeouts,
            retry: rule.retry.clone(),
            metadata: self.metadata.clone(),
        }
    }
}

impl Attach for Route {
    fn hostnames(&self) -> &[String] {
        &self.hostnames
    }

    fn add_to(&mut self, gateway: &mut Gateway<'_>, index: usize, hosts: &BTreeSet<String>) {
        let mut routes = Vec::new();
        let http = gateway.listeners.get(index).and_then(Listener::http);
        if let Some(listener) = http.and_then(|http| gateway.proxy.http.get(http)) {
            for host in hosts {
                self.add_routes(listener, host, &mut routes);
            }
        }
        let gateway = (gateway.reference.namespace.clone(), gateway.reference.name.clone());
        self.placed.push(Placed { gateway, listener: index, routes: routes.into() });
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
}

/// What a browser asks before a request with a method that `route` matches: the question itself has another method.
fn preflight(route: &BareRoute) -> Option<Match> {
    route.filters.cors.as_ref()?;
    route.matches.method.as_ref().filter(|method| *method != "OPTIONS")?;
    let any = |name: &str| ValueMatch { name: name.to_owned(), value: ".*".to_owned(), regex: true };
    let mut matches = route.matches.clone();
    matches.method = Some("OPTIONS".to_owned());
    matches.headers.extend([any("origin"), any("access-control-request-method")]);
    Some(matches)
}

/// A rule's action on a listener: a redirect without a port goes to that of its scheme, or else of the listener. A port
/// that the scheme implies is not written.
fn action_on(action: &Action, listener_port: u16, https: bool) -> Action {
    let Action::Redirect(redirect) = action else { return action.clone() };
    let well_known = match redirect.scheme.as_deref() {
        Some("https") => 443,
        None if https => 443,
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
        let on = |scheme: Option<&str>, port, listener, https| {
            let redirect = Redirect { scheme: scheme.map(Into::into), hostname: None, path: None, port, status: 302 };
            match action_on(&Action::Redirect(redirect), listener, https) {
                Action::Redirect(redirect) => redirect.port,
                _ => None,
            }
        };
        let port = |scheme, port, listener| on(scheme, port, listener, false);
        assert_eq!(on(None, None, 443, true), None);
        assert_eq!(on(None, None, 8443, true), Some(8443));
        assert_eq!(on(Some("http"), None, 443, true), None);
        assert_eq!(port(None, None, 80), None);
        assert_eq!(port(None, None, 8080), Some(8080));
        assert_eq!(port(None, Some(9090), 80), Some(9090));
        assert_eq!(port(Some("https"), None, 8080), None);
        assert_eq!(port(Some("https"), Some(443), 80), None);
        assert_eq!(port(Some("https"), Some(80), 80), Some(80));
        assert_eq!(port(Some("http"), Some(8443), 80), Some(8443));
    }
}

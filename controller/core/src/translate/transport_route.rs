//! Routes that look into no request: TLSRoute, TCPRoute and UDPRoute.

use std::collections::{BTreeMap, BTreeSet};

use controller_api::route::Rule;

use super::{
    attachment::{self, Attach, Object},
    fault::{Fault, by_condition},
    gateway::Gateway,
    grant::Referrer,
    hostname,
    inputs::Inputs,
    listener::Slot,
    name, route_rule,
    status::{Conditions, Report},
};
use crate::{
    ir::{Destination, ObjectRef, TcpRoute, Tls, UdpRoute},
    snapshot::Key,
};

/// Attaches the routes of all three kinds to the listeners that take them and writes their statuses.
pub(super) fn attach(inputs: &Inputs<'_>, gateways: &mut BTreeMap<Key, Gateway<'_>>, report: &mut Report) {
    let tls = inputs.snapshot.tls_routes.iter().map(|(key, route)| {
        let parent_refs = route.spec.parent_refs.as_deref().unwrap_or_default();
        (key, Object { metadata: &route.metadata, parent_refs, spec: &route.spec })
    });
    attachment::attach_all(inputs, gateways, report, "TLSRoute", tls, |reference, spec| {
        Route::read(inputs, reference, spec.hostnames.as_deref(), spec.rules.as_deref())
    });
    let tcp = inputs.snapshot.tcp_routes.iter().map(|(key, route)| {
        let parent_refs = route.spec.parent_refs.as_deref().unwrap_or_default();
        (key, Object { metadata: &route.metadata, parent_refs, spec: &route.spec })
    });
    attachment::attach_all(inputs, gateways, report, "TCPRoute", tcp, |reference, spec| {
        Route::read(inputs, reference, None, spec.rules.as_deref())
    });
    let udp = inputs.snapshot.udp_routes.iter().map(|(key, route)| {
        let parent_refs = route.spec.parent_refs.as_deref().unwrap_or_default();
        (key, Object { metadata: &route.metadata, parent_refs, spec: &route.spec })
    });
    attachment::attach_all(inputs, gateways, report, "UDPRoute", udp, |reference, spec| {
        Route::read(inputs, reference, None, spec.rules.as_deref())
    });
}

/// A route with all that does not depend on where it attaches.
struct Route {
    reference: ObjectRef,
    hostnames: Vec<String>,
    destination: Destination,
    faults: Vec<Fault>,
    /// It takes nothing at all.
    refused: bool,
}

impl Route {
    fn read(inputs: &Inputs<'_>, reference: &ObjectRef, hostnames: Option<&[String]>, rules: Option<&[Rule]>) -> Self {
        let mut faults = Vec::new();
        let name = name::transport_destination(reference);
        let from =
            Referrer { group: "gateway.networking.k8s.io", kind: reference.kind, namespace: &reference.namespace };
        // By server name alone, one rule of a TLSRoute is as good as another: what they all name shares the connections.
        let several = reference.kind == "TLSRoute";
        let rules = rules.unwrap_or_default();
        if rules.len() != 1 && (rules.is_empty() || !several) {
            let message = format!("a {} has exactly one rule, not {}", reference.kind, rules.len());
            faults.push(Fault::accepted("InvalidRule", message));
        }
        let references = rules
            .iter()
            .enumerate()
            .flat_map(|(index, rule)| route_rule::references(index, rule.backend_refs.as_deref().unwrap_or_default()));
        let mut backends = Vec::new();
        if faults.is_empty() {
            (backends, faults) = route_rule::backends(inputs, from, &name, references);
        }
        let (hostnames, invalid): (Vec<_>, Vec<_>) =
            hostnames.unwrap_or_default().iter().cloned().partition(|host| hostname::is_valid(host));
        if !invalid.is_empty() {
            let message = format!("hostnames [{}] are invalid", invalid.join(" "));
            faults.push(Fault::accepted("UnsupportedValue", message));
        }
        let refused = faults.iter().any(|fault| fault.condition == "Accepted");
        let destination = Destination { name, backends };
        Self { reference: reference.clone(), hostnames, destination, faults, refused }
    }
}

impl Attach for Route {
    fn hostnames(&self) -> &[String] {
        &self.hostnames
    }

    fn add_to(&mut self, gateway: &mut Gateway<'_>, index: usize, hosts: &BTreeSet<String>) {
        let Some(listener) = gateway.listeners.get_mut(index) else { return };
        listener.attached_routes += 1;
        let Some(slot) = listener.slot else { return };
        if self.refused {
            return;
        }
        let name = name::transport_route(&self.reference);
        let (route, mut destination) = (self.reference.clone(), self.destination.clone());
        match slot {
            Slot::Http(_) => {}
            Slot::Tcp(index) => {
                if let Some(listener) = gateway.proxy.tcp.get_mut(index) {
                    // What is handed on is TLS already, between the client and the backend.
                    if listener.tls == Some(Tls::Passthrough) {
                        for backend in &mut destination.backends {
                            backend.tls = None;
                        }
                    }
                    let sni = hosts.iter().filter(|host| *host != hostname::ANY).cloned().collect();
                    listener.routes.push(TcpRoute { name, route, sni, destination });
                }
            }
            Slot::Udp(index) => {
                if let Some(listener) = gateway.proxy.udp.get_mut(index) {
                    listener.route.get_or_insert(UdpRoute { name, route, destination });
                }
            }
        }
    }

    fn report_faults(&self, conditions: &mut Conditions) {
        for (condition, (reason, message)) in by_condition(&self.faults) {
            conditions.set(condition, false, reason, message);
        }
    }
}

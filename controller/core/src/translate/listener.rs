//! One listener of a Gateway: what it accepts, and what is wrong with it.

use gateway_api::apis::experimental::gateways::{
    GatewayListeners, GatewayListenersAllowedRoutes, GatewayListenersAllowedRoutesNamespacesFrom as From,
    GatewayListenersAllowedRoutesNamespacesSelector,
};
use serde_json::{Value, json};

use super::{hostname, inputs::Inputs, selector::Selector, status::Conditions};

const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// The kinds of routes that HTTP listeners take.
const HTTP_KINDS: [&str; 2] = ["HTTPRoute", "GRPCRoute"];

/// A listener while it is translated.
#[derive(Debug)]
pub(super) struct Listener<'s> {
    /// As the Gateway's spec has it.
    pub(super) spec: &'s GatewayListeners,
    /// What its status says.
    pub(super) conditions: Conditions,
    /// Routes that are attached to it, whether or not it works.
    pub(super) attached_routes: usize,
    /// Where it stands in [`crate::ir::Proxy::http`], if it is valid.
    pub(super) http: Option<usize>,
    kinds: Vec<RouteKind>,
    namespaces: Namespaces,
}

#[derive(Debug, PartialEq, Eq)]
struct RouteKind {
    group: Option<String>,
    kind: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Namespaces {
    All,
    Same,
    Selected(Selector),
    None,
}

impl<'s> Listener<'s> {
    /// Validates all that can be said without looking at other listeners.
    pub(super) fn new(spec: &'s GatewayListeners) -> Self {
        let mut conditions = Conditions::default();
        let kinds = match spec.protocol.as_str() {
            "HTTP" => allowed_kinds(spec.allowed_routes.as_ref(), &mut conditions),
            other => {
                let message = match other {
                    "HTTPS" | "TLS" | "TCP" | "UDP" => format!("Protocol {other} is not supported yet, must be HTTP."),
                    _ => format!("Protocol {other} is unsupported, must be HTTP."),
                };
                conditions.set("Accepted", false, "UnsupportedProtocol", message);
                Vec::new()
            }
        };
        let namespaces = allowed_namespaces(spec.allowed_routes.as_ref(), &mut conditions);
        let mut listener = Self { spec, conditions, attached_routes: 0, http: None, kinds, namespaces };
        listener.validate_address();
        listener
    }

    fn validate_address(&mut self) {
        if self.spec.tls.is_some() && self.spec.protocol == "HTTP" {
            let message = "Listener must not have TLS set when protocol is HTTP.";
            self.conditions.set("Programmed", false, "Invalid", message);
        }
        let host = self.hostname();
        if host != hostname::ANY && !hostname::is_valid(host) {
            let message = format!("Hostname {host} is not a valid DNS name.");
            self.conditions.set("Programmed", false, "Invalid", message);
        }
        if self.port().is_none() {
            let message = format!("Port {} is out of range.", self.spec.port);
            self.conditions.set("Accepted", false, "PortUnavailable", message);
        }
    }

    /// The port, if it is one.
    pub(super) fn port(&self) -> Option<u16> {
        u16::try_from(self.spec.port).ok().filter(|port| *port != 0)
    }

    /// `*` when the spec names none.
    pub(super) fn hostname(&self) -> &'s str {
        match self.spec.hostname.as_deref() {
            None | Some("") => hostname::ANY,
            Some(hostname) => hostname,
        }
    }

    /// Writes the conditions that follow from those that are there already, and says whether the listener works.
    pub(super) fn conclude(&mut self) -> bool {
        let valid = self.conditions.is_empty();
        if valid {
            self.conditions.set(
                "Programmed",
                true,
                "Programmed",
                "Sending translated listener configuration to the data plane",
            );
            self.conditions.set("Accepted", true, "Accepted", "Listener has been successfully translated");
        } else if self.conditions.find("Programmed").is_none() {
            let message = "Listener is invalid, see other Conditions for details.";
            self.conditions.set("Programmed", false, "Invalid", message);
        }
        if self.conditions.find("ResolvedRefs").is_none() {
            self.conditions.set("ResolvedRefs", true, "ResolvedRefs", "Listener references have been resolved");
        }
        valid
    }

    /// Whether routes of this kind in this namespace may attach; the Gateway is in `own`.
    pub(super) fn allows(&self, inputs: &Inputs<'_>, kind: &str, own: &str, namespace: &str) -> bool {
        let namespace_allowed = match &self.namespaces {
            Namespaces::All => true,
            Namespaces::Same => namespace == own,
            Namespaces::Selected(selector) => selector.matches(inputs.namespace_labels(namespace)),
            Namespaces::None => false,
        };
        namespace_allowed && self.kinds.iter().any(|allowed| allowed.kind == kind)
    }

    /// Its part of the Gateway's status.
    pub(super) fn status(&self, generation: Option<i64>) -> Value {
        let kind = |kind: &RouteKind| match &kind.group {
            Some(group) => json!({"group": group, "kind": kind.kind}),
            None => json!({"kind": kind.kind}),
        };
        json!({
            "name": self.spec.name,
            "attachedRoutes": self.attached_routes,
            "supportedKinds": self.kinds.iter().map(kind).collect::<Value>(),
            "conditions": self.conditions.to_json(generation),
        })
    }
}

fn allowed_kinds(routes: Option<&GatewayListenersAllowedRoutes>, conditions: &mut Conditions) -> Vec<RouteKind> {
    let asked = routes.and_then(|routes| routes.kinds.as_deref()).unwrap_or_default();
    if asked.is_empty() {
        return HTTP_KINDS.map(|kind| RouteKind { group: Some(GATEWAY_API.into()), kind: kind.into() }).into();
    }
    let mut kinds = Vec::new();
    for asked in asked {
        if asked.group.as_deref().is_some_and(|group| group != GATEWAY_API) {
            let message = format!("Group is not supported, group must be {GATEWAY_API}");
            conditions.set("ResolvedRefs", false, "InvalidRouteKinds", message);
        } else if HTTP_KINDS.contains(&asked.kind.as_str()) {
            kinds.push(RouteKind { group: asked.group.clone(), kind: asked.kind.clone() });
        } else {
            let message = format!("{} is not supported, kind must be one of [{}]", asked.kind, HTTP_KINDS.join(" "));
            conditions.set("ResolvedRefs", false, "InvalidRouteKinds", message);
        }
    }
    kinds
}

fn allowed_namespaces(routes: Option<&GatewayListenersAllowedRoutes>, conditions: &mut Conditions) -> Namespaces {
    let namespaces = routes.and_then(|routes| routes.namespaces.as_ref());
    let Some(namespaces) = namespaces else { return Namespaces::Same };
    match (&namespaces.from, &namespaces.selector) {
        (Some(From::All), _) => Namespaces::All,
        (Some(From::Same) | None, _) => Namespaces::Same,
        (Some(From::Selector), None) => {
            let message = "The allowedRoutes.namespaces.selector field must be specified when \
                           allowedRoutes.namespaces.from is set to \"Selector\".";
            conditions.set("Programmed", false, "Invalid", message);
            Namespaces::None
        }
        (Some(From::Selector), Some(spec)) => match selector(spec) {
            Ok(selector) => Namespaces::Selected(selector),
            Err(error) => {
                let message = format!("The allowedRoutes.namespaces.selector could not be parsed: {error}.");
                conditions.set("Programmed", false, "Invalid", message);
                Namespaces::None
            }
        },
    }
}

fn selector(spec: &GatewayListenersAllowedRoutesNamespacesSelector) -> Result<Selector, String> {
    let expressions = spec.match_expressions.iter().flatten().map(|expression| {
        let values = expression.values.as_deref().unwrap_or_default();
        (expression.key.as_str(), expression.operator.as_str(), values)
    });
    Selector::new(spec.match_labels.as_ref(), expressions)
}

/// Marks the listeners of one Gateway that cannot share their port.
pub(super) fn mark_conflicts(gateway: &str, listeners: &mut [Listener<'_>]) {
    let conflicts = conflicts(listeners);
    for (reason, message, members) in conflicts {
        let names = members.iter().filter_map(|index| listeners.get(*index));
        let names: Vec<String> = names.map(|listener| format!("{gateway}/{}", listener.spec.name)).collect();
        let message = format!("{message}, conflicting listeners: {}", names.join(", "));
        for index in members {
            if let Some(listener) = listeners.get_mut(index) {
                listener.conditions.set("Conflicted", true, reason, message.clone());
            }
        }
    }
}

/// Groups of listeners, by index, that are in each other's way, with reason and message.
fn conflicts(listeners: &[Listener<'_>]) -> Vec<(&'static str, &'static str, Vec<usize>)> {
    let transport = |listener: &Listener<'_>| match listener.spec.protocol.as_str() {
        "HTTP" => Some("HTTP"),
        "HTTPS" | "TLS" => Some("TLS"),
        "TCP" => Some("TCP"),
        _ => None,
    };
    let mut found = Vec::new();
    let mut ports: Vec<i32> = listeners.iter().map(|listener| listener.spec.port).collect();
    ports.sort_unstable();
    ports.dedup();
    for port in ports {
        let here = listeners.iter().enumerate();
        let here: Vec<_> =
            here.filter(|(_, listener)| listener.spec.port == port && transport(listener).is_some()).collect();
        let Some((_, first)) = here.first() else { continue };
        if here.iter().any(|(_, listener)| transport(listener) != transport(first)) {
            let message = "All listeners for a given port must use a compatible protocol";
            found.push(("ProtocolConflict", message, here.iter().map(|(index, _)| *index).collect()));
            continue;
        }
        for (index, listener) in &here {
            let same = here.iter().filter(|(_, other)| other.hostname() == listener.hostname());
            let same: Vec<usize> = same.map(|(index, _)| *index).collect();
            if same.len() > 1 && same.first() == Some(index) {
                let message = "All listeners for a given port must use a unique hostname";
                found.push(("HostnameConflict", message, same));
            }
        }
    }
    found
}

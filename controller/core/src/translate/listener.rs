//! One listener of a Gateway or ListenerSet: what it accepts, and what is wrong with it.

pub(super) mod certificate;
pub(super) mod conflict;
pub(super) mod overlap;
mod protocol;

use gateway_api::apis::experimental::gateways::{
    GatewayListeners, GatewayListenersAllowedRoutes, GatewayListenersAllowedRoutesNamespacesFrom as From,
    GatewayListenersAllowedRoutesNamespacesSelector,
};
use serde_json::{Value, json};

pub(super) use self::protocol::Protocol;
use super::{hostname, inputs::Inputs, selector::Selector, status::Conditions};
use crate::{
    Settings,
    ir::{HttpListener, ObjectRef, Proxy, TcpListener, Termination, Tls, UdpListener},
};

const GATEWAY_API: &str = "gateway.networking.k8s.io";

const ACCEPTED: &str = "Listener has been successfully translated";

/// What an HTTPS listener offers clients to speak.
const HTTP_ALPN: [&str; 2] = ["h2", "http/1.1"];

/// A listener while it is translated.
#[derive(Debug)]
pub(super) struct Listener<'s> {
    /// As [`HttpListener::name`].
    pub(super) name: String,
    /// The Gateway that it belongs to.
    pub(super) gateway: ObjectRef,
    /// The Gateway or ListenerSet that has it in its spec.
    pub(super) owner: ObjectRef,
    /// As that spec has it.
    pub(super) spec: &'s GatewayListeners,
    /// `None` when there is no such protocol.
    pub(super) protocol: Option<Protocol>,
    /// What its status says.
    pub(super) conditions: Conditions,
    /// Routes that are attached to it, whether or not it works.
    pub(super) attached_routes: usize,
    /// Where it stands in [`crate::ir::Proxy`], if it works.
    pub(super) slot: Option<Slot>,
    /// How its TLS ends, where it does.
    pub(super) termination: Option<Termination>,
    kinds: Vec<RouteKind>,
    namespaces: Namespaces,
    sound: bool,
}

/// A place in [`crate::ir::Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// In `http`.
    Http(usize),
    /// In `tcp`.
    Tcp(usize),
    /// In `udp`.
    Udp(usize),
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
    /// Validates all that can be said without looking at other listeners and objects.
    pub(super) fn new(gateway: &ObjectRef, owner: &ObjectRef, spec: &'s GatewayListeners) -> Self {
        let ObjectRef { namespace, name, .. } = gateway;
        let name = match owner.kind {
            "ListenerSet" => format!("{namespace}/{name}/{}/{}/{}", owner.namespace, owner.name, spec.name),
            _ => format!("{namespace}/{name}/{}", spec.name),
        };
        let mut listener = Self {
            name,
            gateway: gateway.clone(),
            owner: owner.clone(),
            spec,
            protocol: None,
            conditions: Conditions::default(),
            attached_routes: 0,
            slot: None,
            termination: None,
            kinds: Vec::new(),
            namespaces: Namespaces::None,
            sound: true,
        };
        match Protocol::of(spec) {
            Ok(protocol) => {
                listener.protocol = Some(protocol);
                listener.read_kinds(protocol.kinds());
                if let Err((condition, reason, message)) = protocol.validate(spec) {
                    listener.refuse(condition, reason, &message);
                }
            }
            Err((condition, reason, message)) => listener.refuse(condition, reason, &message),
        }
        match allowed_namespaces(spec.allowed_routes.as_ref()) {
            Ok(namespaces) => listener.namespaces = namespaces,
            Err(message) => listener.refuse("Programmed", "Invalid", &message),
        }
        listener.validate_address();
        listener
    }

    fn validate_address(&mut self) {
        let host = self.hostname();
        if host != hostname::ANY && !hostname::is_valid(host) {
            self.refuse("Programmed", "Invalid", &format!("Hostname {host} is not a valid DNS name."));
        }
        if self.port().is_none() {
            self.refuse("Accepted", "PortUnavailable", &format!("Port {} is out of range.", self.spec.port));
        }
    }

    /// Reads the certificates that it shows, if it ends TLS.
    pub(super) fn read_certificates(&mut self, inputs: &Inputs<'_>) {
        if !self.sound || !self.protocol.is_some_and(Protocol::terminates_tls) {
            return;
        }
        let references = self.spec.tls.as_ref().and_then(|tls| tls.certificate_refs.as_deref()).unwrap_or_default();
        if references.is_empty() {
            return;
        }
        let (certificates, faults) = certificate::read(inputs, &self.owner, references);
        if let Some((reason, message)) = certificate::condition(&faults, certificates.is_empty()) {
            self.conditions.set("ResolvedRefs", false, reason, message);
        }
        if certificates.is_empty() {
            self.sound = false;
            // What is missing may still come. To ask for what nobody grants is the listener's own fault.
            if faults.iter().all(|fault| fault.reason != "RefNotPermitted") {
                self.conditions.set("Accepted", true, "Accepted", ACCEPTED);
            }
        }
        let alpn = match self.protocol {
            Some(Protocol::Https) => HTTP_ALPN.map(ToOwned::to_owned).into(),
            _ => Vec::new(),
        };
        self.termination = Some(Termination { certificates, alpn, client: None });
    }

    /// It speaks HTTP over TLS.
    pub(super) fn is_https(&self) -> bool {
        self.protocol == Some(Protocol::Https)
    }

    /// Nothing has been found wrong so far.
    pub(super) fn is_sound(&self) -> bool {
        self.sound
    }

    /// It does not work, because this condition does not hold.
    pub(super) fn refuse(&mut self, condition: &'static str, reason: &'static str, message: &str) {
        self.sound = false;
        self.conditions.set(condition, false, reason, message.to_owned());
    }

    /// It does not work, because another listener is in its way.
    fn conflict(&mut self, reason: &'static str, message: &str) {
        self.sound = false;
        self.conditions.set("Conflicted", true, reason, message.to_owned());
        if self.is_of_set() {
            self.conditions.set("Accepted", false, reason, message.to_owned());
            self.conditions.set("Programmed", false, reason, message.to_owned());
        }
    }

    fn is_of_set(&self) -> bool {
        self.owner.kind == "ListenerSet"
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

    /// Its place in [`crate::ir::Proxy::http`], if it works.
    pub(super) fn http(&self) -> Option<usize> {
        match self.slot {
            Some(Slot::Http(index)) => Some(index),
            _ => None,
        }
    }

    /// Writes the conditions that follow from those that are there already.
    pub(super) fn conclude(&mut self) {
        let set = |conditions: &mut Conditions, condition, status, reason, message: &str| {
            if conditions.find(condition).is_none() {
                conditions.set(condition, status, reason, message.to_owned());
            }
        };
        if self.sound {
            let message = "Sending translated listener configuration to the data plane";
            set(&mut self.conditions, "Programmed", true, "Programmed", message);
            set(&mut self.conditions, "Accepted", true, "Accepted", ACCEPTED);
        } else {
            let reason = if self.is_of_set() { "ListenersNotValid" } else { "Invalid" };
            let message = "Listener is invalid, see other Conditions for details.";
            set(&mut self.conditions, "Programmed", false, reason, message);
        }
        let message = "Listener references have been resolved";
        set(&mut self.conditions, "ResolvedRefs", true, "ResolvedRefs", message);
        if self.sound && self.is_of_set() {
            set(&mut self.conditions, "Conflicted", false, "NoConflicts", "No conflicts detected");
        }
    }

    /// The kinds of routes that it takes: those asked for that are among `possible`, or all of these.
    fn read_kinds(&mut self, possible: &[&str]) {
        let routes = self.spec.allowed_routes.as_ref();
        let asked = routes.and_then(|routes| routes.kinds.as_deref()).unwrap_or_default();
        if asked.is_empty() {
            let kind = |kind: &&str| RouteKind { group: Some(GATEWAY_API.into()), kind: (*kind).into() };
            self.kinds = possible.iter().map(kind).collect();
        }
        for asked in asked {
            if asked.group.as_deref().is_some_and(|group| group != GATEWAY_API) {
                let message = format!("Group is not supported, group must be {GATEWAY_API}");
                self.refuse("ResolvedRefs", "InvalidRouteKinds", &message);
            } else if possible.contains(&asked.kind.as_str()) {
                self.kinds.push(RouteKind { group: asked.group.clone(), kind: asked.kind.clone() });
            } else {
                let kind = &asked.kind;
                let message = format!("{kind} is not supported, kind must be one of [{}]", possible.join(" "));
                self.refuse("ResolvedRefs", "InvalidRouteKinds", &message);
            }
        }
    }

    /// Gives it its place in `proxy`, if it works.
    pub(super) fn add_to(&mut self, proxy: &mut Proxy, settings: &Settings) {
        let (true, Some(protocol), Some(gateway_port)) = (self.sound, self.protocol, self.port()) else { return };
        let name = self.name.clone();
        let (gateway, parent) = (self.gateway.clone(), self.owner.clone());
        let (section, hostname) = (self.spec.name.clone(), self.hostname().to_owned());
        let (address, port) = (settings.bind_address(&proxy.key), settings.bind_port(gateway_port));
        let tls = self.termination.take();
        self.slot = Some(match protocol {
            Protocol::Http | Protocol::Https => {
                let routes = Vec::new();
                proxy.http.push(HttpListener {
                    name,
                    gateway,
                    parent,
                    section,
                    address,
                    port,
                    gateway_port,
                    hostname,
                    tls,
                    routes,
                });
                Slot::Http(proxy.http.len() - 1)
            }
            Protocol::Tcp | Protocol::TlsPassthrough | Protocol::TlsTerminate => {
                let tls = match protocol {
                    Protocol::TlsPassthrough => Some(Tls::Passthrough),
                    _ => tls.map(Tls::Terminate),
                };
                let routes = Vec::new();
                proxy.tcp.push(TcpListener {
                    name,
                    gateway,
                    parent,
                    section,
                    address,
                    port,
                    gateway_port,
                    hostname,
                    tls,
                    routes,
                });
                Slot::Tcp(proxy.tcp.len() - 1)
            }
            Protocol::Udp => {
                proxy.udp.push(UdpListener {
                    name,
                    gateway,
                    parent,
                    section,
                    address,
                    port,
                    gateway_port,
                    route: None,
                });
                Slot::Udp(proxy.udp.len() - 1)
            }
        });
    }

    /// Whether routes of this kind in this namespace may attach.
    pub(super) fn allows(&self, inputs: &Inputs<'_>, kind: &str, namespace: &str) -> bool {
        let namespace_allowed = match &self.namespaces {
            Namespaces::All => true,
            Namespaces::Same => namespace == self.owner.namespace,
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

fn allowed_namespaces(routes: Option<&GatewayListenersAllowedRoutes>) -> Result<Namespaces, String> {
    let namespaces = routes.and_then(|routes| routes.namespaces.as_ref());
    let Some(namespaces) = namespaces else { return Ok(Namespaces::Same) };
    match (&namespaces.from, &namespaces.selector) {
        (Some(From::All), _) => Ok(Namespaces::All),
        (Some(From::Same) | None, _) => Ok(Namespaces::Same),
        (Some(From::Selector), None) => Err("The allowedRoutes.namespaces.selector field must be specified when \
                                             allowedRoutes.namespaces.from is set to \"Selector\"."
            .to_owned()),
        (Some(From::Selector), Some(spec)) => match selector(spec) {
            Ok(selector) => Ok(Namespaces::Selected(selector)),
            Err(error) => Err(format!("The allowedRoutes.namespaces.selector could not be parsed: {error}.")),
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

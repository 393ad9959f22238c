//! backendRefs: the object they name, whether they may, and where its replicas are.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use controller_api::{
    backend::{Backend as BackendObject, BackendEndpoint, BackendSpec, BackendType},
    backend_ref::BackendRef as PolicyBackendRef,
};
use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::EndpointSlice,
};

use super::{
    backend_tls,
    fault::Fault,
    grant::{self, Referrer, Target},
    hostname,
    inputs::Inputs,
};
use crate::ir::{Backend, BackendTls, Endpoint, Endpoints, HeaderMutations, ObjectRef, Origin};

/// A reference to a backend, as every kind of backendRef spells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference<'a> {
    /// Core when absent.
    pub(super) group: Option<&'a str>,
    /// `Service` when absent.
    pub(super) kind: Option<&'a str>,
    /// That of the referring object when absent.
    pub(super) namespace: Option<&'a str>,
    /// Name of the object.
    pub(super) name: &'a str,
    /// Required for a Service.
    pub(super) port: Option<i32>,
}

impl<'a> Reference<'a> {
    /// What it names. The kinds that are not Kubernetes' own are known without their group, as Envoy Gateway knows them.
    pub(super) fn target(self, from: Referrer<'a>) -> Target<'a> {
        let kind = self.kind.unwrap_or("Service");
        let group = match (self.group.unwrap_or_default(), kind) {
            ("", "Backend") => ENVOY_GATEWAY,
            ("", "ServiceImport") => MULTI_CLUSTER,
            (group, _) => group,
        };
        let namespace = self.namespace.filter(|namespace| !namespace.is_empty()).unwrap_or(from.namespace);
        Target { group, kind, namespace, name: self.name }
    }
}

impl<'a> From<&'a PolicyBackendRef> for Reference<'a> {
    fn from(reference: &'a PolicyBackendRef) -> Self {
        Self {
            group: Some(&reference.group),
            kind: Some(&reference.kind),
            namespace: reference.namespace.as_deref(),
            name: &reference.name,
            port: reference.port.map(i32::from),
        }
    }
}

/// What a reference leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resolved {
    /// The object, with the Service's port as section.
    pub(super) origin: Origin,
    /// Its replicas.
    pub(super) endpoints: Endpoints,
    /// It speaks HTTP/2.
    pub(super) http2: bool,
    /// It takes traffic only while its siblings are down.
    pub(super) fallback: bool,
    /// How to speak TLS with it.
    pub(super) tls: Option<Arc<BackendTls>>,
    /// The `:authority` that suits it.
    pub(super) authority: String,
}

impl Resolved {
    /// There is nobody to send a request to.
    pub(super) fn is_empty(&self) -> bool {
        match &self.endpoints {
            Endpoints::Static(endpoints) => endpoints.is_empty(),
            Endpoints::Dns(hosts) => hosts.is_empty(),
        }
    }
}

const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";
const MULTI_CLUSTER: &str = "multicluster.x-k8s.io";

type Resolver = fn(&Inputs<'_>, Transport, &str, Reference<'_>) -> Result<Resolved, Fault>;

/// Follows `reference`, which `from` makes.
pub(super) fn resolve(inputs: &Inputs<'_>, from: Referrer<'_>, reference: Reference<'_>) -> Result<Resolved, Fault> {
    let target = reference.target(from);
    let Target { group, kind, namespace, .. } = target;
    if !["", MULTI_CLUSTER, ENVOY_GATEWAY].contains(&group) {
        let message = "Group is invalid, only the core API group (specified by omitting the group field or setting \
                       it to an empty string), multicluster.x-k8s.io and gateway.envoyproxy.io are supported";
        return Err(Fault::resolved_refs("InvalidKind", message));
    }
    let (kind, resolver): (_, Resolver) = match (group, kind) {
        ("", "Service") => ("Service", service),
        (ENVOY_GATEWAY, "Backend") => ("Backend", backend),
        (MULTI_CLUSTER, "ServiceImport") => ("ServiceImport", service_import),
        _ => {
            let message = "Kind is invalid, only Service, MCS ServiceImport and Envoy Gateway Backend are supported";
            return Err(Fault::resolved_refs("InvalidKind", message));
        }
    };
    inputs.note(kind, namespace, reference.name);
    if !grant::permits(inputs.snapshot, from, target) {
        let name = reference.name;
        let message = format!("Backend ref to {kind} {namespace}/{name} not permitted by any ReferenceGrant");
        return Err(Fault::resolved_refs("RefNotPermitted", message));
    }
    resolver(inputs, Transport::of(from), namespace, reference)
}

/// Like [`resolve`], for what users' requests are sent to: a unix socket beside Envoy is none of theirs.
pub(super) fn resolve_for_route(
    inputs: &Inputs<'_>,
    from: Referrer<'_>,
    reference: Reference<'_>,
) -> Result<Resolved, Fault> {
    let resolved = resolve(inputs, from, reference)?;
    match &resolved.endpoints {
        Endpoints::Static(endpoints) if endpoints.iter().any(|endpoint| matches!(endpoint, Endpoint::Unix(_))) => {
            let message = "unix domain sockets are not supported in backend references";
            Err(Fault::resolved_refs("UnsupportedAddressType", message))
        }
        _ => Ok(resolved),
    }
}

/// The one backend that a filter sends requests to, called `name`, and its `:authority`. It must have endpoints.
pub(super) fn single(
    inputs: &Inputs<'_>,
    from: Referrer<'_>,
    reference: Reference<'_>,
    name: String,
) -> Result<(Backend, String), Fault> {
    let resolved = resolve_for_route(inputs, from, reference)?;
    if resolved.is_empty() {
        return Err(no_endpoints(&resolved.origin));
    }
    let backend = Backend {
        name,
        weight: 1,
        origin: Some(resolved.origin),
        endpoints: Some(resolved.endpoints),
        http2: resolved.http2,
        fallback: resolved.fallback,
        tls: resolved.tls,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
    };
    Ok((backend, resolved.authority))
}

/// What a Service's port has to carry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// Only a UDPRoute has datagrams to send.
    fn of(from: Referrer<'_>) -> Self {
        if from.kind == "UDPRoute" { Self::Udp } else { Self::Tcp }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// `protocol` is that of a port; TCP when unset.
    fn is(self, protocol: Option<&str>) -> bool {
        protocol.filter(|protocol| !protocol.is_empty()).unwrap_or("TCP") == self.name()
    }
}

fn service(
    inputs: &Inputs<'_>,
    transport: Transport,
    namespace: &str,
    reference: Reference<'_>,
) -> Result<Resolved, Fault> {
    let (name, number) = (reference.name, number(reference, "Service")?);
    let Some(service) = inputs.snapshot.services.get(&(namespace.to_owned(), name.to_owned())) else {
        let message = format!("service {namespace}/{name} not found");
        return Err(Fault::resolved_refs("BackendNotFound", message));
    };
    if is_external_name(service) {
        let message = format!(
            "Service {namespace}/{name} is of type ExternalName, which is not supported as a backend; use an Envoy \
             Gateway Backend resource with an FQDN endpoint instead"
        );
        return Err(Fault::resolved_refs("UnsupportedValue", message));
    }
    let object = ObjectRef { kind: "Service", namespace: namespace.to_owned(), name: name.to_owned() };
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    behind_port(inputs, transport, object, ports, number, inputs.slices(namespace, name))
}

/// Like a Service, but its replicas are found by another label.
fn service_import(
    inputs: &Inputs<'_>,
    transport: Transport,
    namespace: &str,
    reference: Reference<'_>,
) -> Result<Resolved, Fault> {
    let (name, number) = (reference.name, number(reference, "ServiceImport")?);
    let Some(import) = inputs.snapshot.service_imports.get(&(namespace.to_owned(), name.to_owned())) else {
        let message = format!("service import {namespace}/{name} not found");
        return Err(Fault::resolved_refs("BackendNotFound", message));
    };
    let object = ObjectRef { kind: "ServiceImport", namespace: namespace.to_owned(), name: name.to_owned() };
    behind_port(inputs, transport, object, &import.spec.ports, number, inputs.imported_slices(namespace, name))
}

/// The port that a reference to an object of this kind must have.
fn number(reference: Reference<'_>, kind: &str) -> Result<i32, Fault> {
    reference.port.ok_or_else(|| {
        let message = format!("A valid port number corresponding to a port on the {kind} must be specified");
        Fault::resolved_refs("PortNotSpecified", message)
    })
}

/// What is behind the port `number` of `object`, whose ports and slices these are.
fn behind_port(
    inputs: &Inputs<'_>,
    transport: Transport,
    object: ObjectRef,
    ports: &[ServicePort],
    number: i32,
    slices: &[&EndpointSlice],
) -> Result<Resolved, Fault> {
    let ObjectRef { kind, namespace, name } = &object;
    let Some(port) = ports.iter().find(|port| port.port == number && transport.is(port.protocol.as_deref())) else {
        let message = format!("{} Port {number} not found on {kind} {namespace}/{name}", transport.name());
        return Err(Fault::resolved_refs("PortNotFound", message));
    };
    Ok(Resolved {
        tls: backend_tls::resolve(inputs, &object, port.name.as_deref(), None)?,
        fallback: false,
        endpoints: replicas(slices, port, transport)?,
        http2: is_h2c(port),
        authority: format!("{name}.{namespace}:{number}"),
        origin: Origin { object, section: Some(number.to_string()) },
    })
}

/// The fault of a reference to an object that exists but has nobody to send a request to.
pub(super) fn no_endpoints(origin: &Origin) -> Fault {
    let ObjectRef { kind, namespace, name } = &origin.object;
    let message = format!("no ready endpoints for the related {kind} {namespace}/{name}");
    Fault { condition: "BackendsAvailable", reason: "EndpointsNotFound", message }
}

fn is_h2c(port: &ServicePort) -> bool {
    port.app_protocol.as_deref() == Some("kubernetes.io/h2c")
}

fn is_external_name(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// The ready endpoints of a Service's port; slices name ports as the Service does.
fn replicas(slices: &[&EndpointSlice], service_port: &ServicePort, transport: Transport) -> Result<Endpoints, Fault> {
    let mut fixed = BTreeSet::new();
    let mut names = BTreeSet::new();
    for slice in slices {
        let ports = slice.ports.as_deref().unwrap_or_default().iter();
        let same = ports.filter(|port| {
            port.name.as_deref().unwrap_or_default() == service_port.name.as_deref().unwrap_or_default()
                && transport.is(port.protocol.as_deref())
        });
        for port in same.filter_map(|port| port.port.and_then(|port| u16::try_from(port).ok())) {
            for (_, address) in ready_addresses(slice) {
                if slice.address_type == "FQDN" {
                    names.insert((address.to_owned(), port));
                } else if let Ok(address) = address.parse::<IpAddr>() {
                    fixed.insert(Endpoint::Ip(address, port));
                }
            }
        }
    }
    match (fixed.is_empty(), names.is_empty()) {
        (false, false) => {
            let message = "mixed endpointslice address type for the same backendRef is not supported";
            Err(Fault::resolved_refs("UnsupportedAddressType", message))
        }
        (true, false) => Ok(Endpoints::Dns(names.into_iter().collect())),
        _ => Ok(Endpoints::Static(fixed.into_iter().collect())),
    }
}

/// Zone and address of a slice's endpoints that take traffic.
pub(super) fn ready_addresses(slice: &EndpointSlice) -> impl Iterator<Item = (Option<&str>, &str)> {
    let ready = slice
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
    ready.flat_map(|endpoint| endpoint.addresses.iter().map(|address| (endpoint.zone.as_deref(), address.as_str())))
}

fn backend(
    inputs: &Inputs<'_>,
    _transport: Transport,
    namespace: &str,
    reference: Reference<'_>,
) -> Result<Resolved, Fault> {
    let name = reference.name;
    if !inputs.settings.backend {
        let message = "Backend is disabled in Envoy Gateway configuration";
        return Err(Fault::resolved_refs("UnsupportedValue", message));
    }
    let key = (namespace.to_owned(), name.to_owned());
    let Some(object) = inputs.snapshot.backends.get(&key) else {
        let message = format!("Backend {namespace}/{name} not found");
        return Err(Fault::resolved_refs("BackendNotFound", message));
    };
    let itself = ObjectRef { kind: "Backend", namespace: namespace.to_owned(), name: name.to_owned() };
    validate(inputs, &itself, object)?;
    let spec = &object.spec;
    let endpoints = backend_endpoints(spec);
    let authority = match (&endpoints, spec.endpoints.first().and_then(|endpoint| endpoint.hostname.clone())) {
        (_, Some(hostname)) => hostname,
        (Endpoints::Dns(hosts), None) => hosts.first().map(|(host, port)| format!("{host}:{port}")).unwrap_or_default(),
        (Endpoints::Static(_), None) => format!("{name}.{namespace}"),
    };
    let section = reference.port.map(|port| port.to_string());
    Ok(Resolved {
        tls: backend_tls::resolve(inputs, &itself, section.as_deref(), spec.tls.as_deref())?,
        fallback: spec.fallback == Some(true),
        origin: Origin { object: itself, section: None },
        endpoints,
        http2: spec.app_protocols.iter().any(|protocol| protocol == "gateway.envoyproxy.io/h2c"),
        authority,
    })
}

/// Whether `reference`, which `from` makes, is to a Backend that goes wherever each request wants to.
pub(super) fn is_dynamic(inputs: &Inputs<'_>, from: Referrer<'_>, reference: Reference<'_>) -> bool {
    let Target { group, kind, namespace, name } = reference.target(from);
    if (group, kind) != (ENVOY_GATEWAY, "Backend") {
        return false;
    }
    inputs.note("Backend", namespace, name);
    let key = (namespace.to_owned(), name.to_owned());
    let backend = inputs.snapshot.backends.get(&key);
    inputs.settings.backend && backend.is_some_and(|backend| backend.spec.kind == Some(BackendType::DynamicResolver))
}

/// The endpoints of a [valid](validate) Backend.
fn backend_endpoints(spec: &BackendSpec) -> Endpoints {
    let names = spec.endpoints.iter().filter_map(|endpoint| endpoint.fqdn.as_ref());
    let names: BTreeSet<_> = names.map(|fqdn| (fqdn.hostname.clone(), fqdn.port)).collect();
    if !names.is_empty() {
        return Endpoints::Dns(names.into_iter().collect());
    }
    let fixed = spec.endpoints.iter().filter_map(|endpoint| match endpoint {
        BackendEndpoint { ip: Some(ip), .. } => ip.address.parse().ok().map(|address| Endpoint::Ip(address, ip.port)),
        BackendEndpoint { unix: Some(unix), .. } => Some(Endpoint::Unix(unix.path.clone())),
        _ => None,
    });
    Endpoints::Static(fixed.collect::<BTreeSet<_>>().into_iter().collect())
}

/// Whether a Backend can be used at all; also what its own status says.
pub(super) fn validate(inputs: &Inputs<'_>, itself: &ObjectRef, backend: &BackendObject) -> Result<(), Fault> {
    let spec = &backend.spec;
    let running_on_host = inputs.settings.running_on_host;
    let invalid = |message: String| Fault::resolved_refs("InvalidAddress", message);
    let unsupported = |message: &str| Fault::resolved_refs("UnsupportedValue", message);
    if spec.kind == Some(BackendType::DynamicResolver) {
        return Err(unsupported("a Backend of type DynamicResolver is not supported yet"));
    }
    for endpoint in &spec.endpoints {
        let kinds = [endpoint.fqdn.is_some(), endpoint.ip.is_some(), endpoint.unix.is_some()];
        if kinds.iter().filter(|set| **set).count() != 1 {
            return Err(invalid("an endpoint must have exactly one of fqdn, ip and unix".into()));
        }
        if let Some(hostname) = &endpoint.hostname {
            validate_name(hostname, running_on_host).map_err(invalid)?;
        }
        if let Some(fqdn) = &endpoint.fqdn {
            validate_name(&fqdn.hostname, running_on_host).map_err(invalid)?;
        }
        if let Some(ip) = &endpoint.ip {
            validate_address(&ip.address, running_on_host).map_err(invalid)?;
        }
    }
    let named = spec.endpoints.iter().filter(|endpoint| endpoint.fqdn.is_some()).count();
    if named != 0 && named != spec.endpoints.len() {
        return Err(Fault::resolved_refs(
            "UnsupportedAddressType",
            "FQDN endpoints cannot be mixed with IP or Unix endpoints in one Backend",
        ));
    }
    if spec.tls.as_ref().is_some_and(|tls| !tls.fingerprints.is_empty()) {
        return Err(unsupported("tls.fingerprints is not supported: fingerprints are taken of clients"));
    }
    match &spec.tls {
        Some(tls) if !backend_tls::says_whom_to_believe(inputs, itself, tls, &ports(spec)) => {
            let message = "must specify either CACertificateRefs or WellKnownCACertificates when InsecureSkipVerify is \
                           unset or false";
            Err(Fault::resolved_refs("InvalidBackendRef", message))
        }
        _ => Ok(()),
    }
}

/// The ports of a Backend's endpoints, as a policy's `sectionName` spells them.
fn ports(spec: &BackendSpec) -> BTreeSet<String> {
    let port = |endpoint: &BackendEndpoint| {
        let fqdn = endpoint.fqdn.as_ref().map(|fqdn| fqdn.port);
        fqdn.or_else(|| endpoint.ip.as_ref().map(|ip| ip.port)).map(|port| port.to_string())
    };
    spec.endpoints.iter().filter_map(port).collect()
}

fn validate_name(host: &str, running_on_host: bool) -> Result<(), String> {
    if host.starts_with('*') || !hostname::is_valid(host) {
        Err(format!("hostname {host} is not a valid FQDN"))
    } else if running_on_host && host == "localhost" {
        Ok(())
    } else if !host.contains('.') {
        Err(format!("hostname {host} should be a domain with at least two segments separated by dots"))
    } else {
        Ok(())
    }
}

fn validate_address(address: &str, running_on_host: bool) -> Result<(), String> {
    let Ok(parsed) = address.parse::<IpAddr>() else { return Err(format!("IP address {address} is invalid")) };
    if parsed.to_canonical().is_loopback() && !running_on_host {
        let place = "in the loopback range is only supported when using the Host infrastructure";
        return Err(format!("IP address {address} {place}"));
    }
    Ok(())
}

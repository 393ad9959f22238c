//! `spec.tls` of a Gateway: what it asks of clients' certificates, and the certificate that it shows to backends.

use std::collections::BTreeMap;

use gateway_api::apis::experimental::gateways::{
    GatewayListenersTlsCertificateRefs as CertificateRef, GatewayTls, GatewayTlsFrontend,
    GatewayTlsFrontendDefaultValidation as DefaultValidation, GatewayTlsFrontendDefaultValidationMode as DefaultMode,
    GatewayTlsFrontendPerPortTlsValidation as PortValidation, GatewayTlsFrontendPerPortTlsValidationMode as PortMode,
};

use crate::{
    ir::{Certificate, ClientValidation, ObjectRef},
    translate::{
        authority::{self, Fault, Reference},
        grant::Referrer,
        inputs::Inputs,
        listener::{self, Listener},
        status::Conditions,
    },
};

/// What a port or the default asks of clients, and what is wrong with that.
struct Validation {
    /// `None` when no reference leads to authorities.
    client: Option<ClientValidation>,
    faults: Vec<Fault>,
}

/// Sets what is asked of clients on the HTTPS listeners, and tells in the Gateway's conditions how its references fared.
/// Returns the certificate for backends.
pub(super) fn read(
    inputs: &Inputs<'_>,
    gateway: &ObjectRef,
    tls: &GatewayTls,
    listeners: &mut [Listener<'_>],
    conditions: &mut Conditions,
) -> Option<Certificate> {
    let mut wrong = None;
    if let Some(frontend) = &tls.frontend {
        let validations = validations(inputs, gateway, frontend);
        for listener in listeners.iter_mut().filter(|listener| listener.is_https()) {
            let asked = validations.get(&Some(listener.spec.port)).or_else(|| validations.get(&None));
            if let Some(validation) = asked.and_then(Option::as_ref) {
                apply(listener, validation);
            }
        }
        let all = || validations.values().flatten();
        if all().any(|validation| validation.client.as_ref().is_some_and(|client| client.optional)) {
            let message = "Gateway is using AllowInsecureFallback frontend validation mode.";
            conditions.set("InsecureFrontendValidationMode", true, "ConfigurationChanged", message);
        }
        if let Some(fault) = all().flat_map(|validation| &validation.faults).next() {
            let message = format!("Failed to get frontend CA certs for gateway: {}", fault.message);
            wrong = Some(("InvalidParameters", message));
        }
    }
    let mut certificate = None;
    if let Some(reference) = tls.backend.as_ref().and_then(|backend| backend.client_certificate_ref.as_ref()) {
        let reference = CertificateRef {
            group: reference.group.clone(),
            kind: reference.kind.clone(),
            name: reference.name.clone(),
            namespace: reference.namespace.clone(),
        };
        match listener::certificate::find(inputs, gateway, &reference) {
            Ok(found) => certificate = Some(found),
            Err(fault) => {
                let reason = match fault.reason {
                    "RefNotPermitted" => "RefNotPermitted",
                    _ => "InvalidClientCertificateRef",
                };
                let message = format!("Invalid backend client certificate reference for gateway: {}", fault.message);
                wrong = Some((reason, message));
            }
        }
    }
    let message = || "Successfully resolved all TLS references for the gateway".to_owned();
    let (reason, message) = wrong.clone().unwrap_or_else(|| ("ResolvedRefs", message()));
    conditions.set("ResolvedRefs", wrong.is_none(), reason, message);
    certificate
}

/// By port, with the default under `None`. A port without a validation asks nothing, whatever the default says.
fn validations(
    inputs: &Inputs<'_>,
    gateway: &ObjectRef,
    frontend: &GatewayTlsFrontend,
) -> BTreeMap<Option<i32>, Option<Validation>> {
    let default = frontend.default.validation.as_ref().map(|validation| {
        let (references, optional) = of_default(validation);
        resolve(inputs, gateway, "default", references, optional)
    });
    let ports = frontend.per_port.iter().flatten().map(|port| {
        let validation = port.tls.validation.as_ref().map(|validation| {
            let (references, optional) = of_port(validation);
            resolve(inputs, gateway, &port.port.to_string(), references, optional)
        });
        (Some(port.port), validation)
    });
    [(None, default)].into_iter().chain(ports).collect()
}

type Written<'a> = (&'a str, &'a str, Option<&'a str>, &'a str);

fn of_default(validation: &DefaultValidation) -> (Vec<Written<'_>>, bool) {
    let references = validation.ca_certificate_refs.iter();
    let references = references.map(|one| (&*one.group, &*one.kind, one.namespace.as_deref(), &*one.name));
    (references.collect(), validation.mode == Some(DefaultMode::AllowInsecureFallback))
}

fn of_port(validation: &PortValidation) -> (Vec<Written<'_>>, bool) {
    let references = validation.ca_certificate_refs.iter();
    let references = references.map(|one| (&*one.group, &*one.kind, one.namespace.as_deref(), &*one.name));
    (references.collect(), validation.mode == Some(PortMode::AllowInsecureFallback))
}

fn resolve(
    inputs: &Inputs<'_>,
    gateway: &ObjectRef,
    port: &str,
    references: Vec<Written<'_>>,
    optional: bool,
) -> Validation {
    let from = Referrer { group: "gateway.networking.k8s.io", kind: "Gateway", namespace: &gateway.namespace };
    let (mut authorities, mut faults) = (Vec::new(), Vec::new());
    for (group, kind, namespace, name) in references {
        let namespace = namespace.unwrap_or(&gateway.namespace);
        match authority::find(inputs, from, Reference { group, kind, namespace, name }) {
            Ok(bundle) => {
                authorities.extend(bundle);
                if !authorities.ends_with(b"\n") {
                    authorities.push(b'\n');
                }
            }
            Err(fault) => faults.push(fault),
        }
    }
    if authorities.is_empty() && faults.is_empty() {
        let message = "caCertificateRefs must not be empty".to_owned();
        faults.push(Fault { reason: "InvalidCACertificateRef", message });
    }
    let name = format!("gateway/{}/{}/{port}/ca.crt", gateway.namespace, gateway.name);
    let client = (!authorities.is_empty()).then_some(ClientValidation { name, authorities, optional });
    Validation { client, faults }
}

/// A listener that knows no authority to ask for works for nobody, rather than for everybody.
fn apply(listener: &mut Listener<'_>, validation: &Validation) {
    if let (Some(client), Some(termination)) = (&validation.client, &mut listener.termination) {
        termination.client = Some(client.clone());
    }
    let Some(first) = validation.faults.first() else { return };
    let message = format!("Listener has invalid caCertificateRef for frontend TLS validation: {}", first.message);
    if validation.client.is_some() {
        listener.conditions.set("ResolvedRefs", false, first.reason, message);
        return;
    }
    listener.refuse("ResolvedRefs", first.reason, &message);
    listener.refuse("Programmed", first.reason, &message);
    listener.refuse("Accepted", "NoValidCACertificate", &message);
}

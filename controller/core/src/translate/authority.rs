//! Authorities that an object refers to: `caCertificateRefs`.

use super::{
    grant::{self, Referrer, Target},
    inputs::Inputs,
    tls,
};

/// A reference to a bundle of authorities, whatever struct of the API it stands in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference<'a> {
    /// API group, empty for core.
    pub(super) group: &'a str,
    /// `ConfigMap` or `Secret`.
    pub(super) kind: &'a str,
    /// Namespace.
    pub(super) namespace: &'a str,
    /// Name.
    pub(super) name: &'a str,
}

/// Why a reference leads to no authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Of the condition `ResolvedRefs`: `InvalidCACertificateRef`, `InvalidCACertificateKind` or `RefNotPermitted`.
    pub(super) reason: &'static str,
    /// A sentence without its full stop.
    pub(super) message: String,
}

/// The certificates under `ca.crt` in a ConfigMap or Secret, PEM.
pub(super) fn find(inputs: &Inputs<'_>, from: Referrer<'_>, reference: Reference<'_>) -> Result<Vec<u8>, Fault> {
    let Reference { group, kind, namespace, name } = reference;
    if !group.is_empty() || !matches!(kind, "ConfigMap" | "Secret") {
        let message = "Unsupported reference kind, supported kinds are ConfigMap and Secret in caCertificateRefs";
        return Err(Fault { reason: "InvalidCACertificateKind", message: message.into() });
    }
    if !grant::permits(inputs.snapshot, from, Target { group, kind, namespace, name }) {
        let message = format!("{kind} {namespace}/{name} in caCertificateRefs is not permitted by any ReferenceGrant");
        return Err(Fault { reason: "RefNotPermitted", message });
    }
    let invalid = |message| Fault { reason: "InvalidCACertificateRef", message };
    let key = (namespace.to_owned(), name.to_owned());
    let (found, bundle) = if kind == "ConfigMap" {
        let map = inputs.snapshot.config_maps.get(&key);
        let text = map.and_then(|map| map.data.as_ref()?.get("ca.crt")).map(String::as_bytes);
        let binary = || map.and_then(|map| Some(map.binary_data.as_ref()?.get("ca.crt")?.0.as_slice()));
        (map.is_some(), text.or_else(binary))
    } else {
        let secret = inputs.snapshot.secrets.get(&key);
        (secret.is_some(), secret.and_then(|secret| Some(secret.data.as_ref()?.get("ca.crt")?.0.as_slice())))
    };
    if !found {
        let kind = kind.to_lowercase();
        return Err(invalid(format!("{kind} {name} not found in namespace {namespace}")));
    }
    let bundle = bundle.ok_or_else(|| invalid(format!("{kind} {namespace}/{name} has no ca.crt")))?;
    match tls::check_authorities(bundle) {
        Ok(()) => Ok(bundle.to_vec()),
        Err(cause) => Err(invalid(format!("ca.crt of {kind} {namespace}/{name}: {cause}"))),
    }
}

//! The certificates that a listener shows: `tls.certificateRefs`.

use gateway_api::apis::experimental::gateways::GatewayListenersTlsCertificateRefs as Reference;

use crate::{
    ir::{Certificate, ObjectRef},
    translate::{
        grant::{self, Referrer, Target},
        inputs::Inputs,
        tls,
    },
};

/// Why a reference leads to no certificate.
pub(in crate::translate) struct Fault {
    /// Of the condition `ResolvedRefs`.
    pub(in crate::translate) reason: &'static str,
    /// A sentence without its full stop.
    pub(in crate::translate) message: String,
}

impl Fault {
    fn invalid(message: String) -> Self {
        Self { reason: "InvalidCertificateRef", message }
    }
}

/// The certificates behind `references`, and what is wrong with the others.
pub(super) fn read(inputs: &Inputs<'_>, owner: &ObjectRef, references: &[Reference]) -> (Vec<Certificate>, Vec<Fault>) {
    let (mut certificates, mut faults) = (Vec::new(), Vec::new());
    for (index, reference) in references.iter().enumerate() {
        match find(inputs, owner, reference) {
            Ok(certificate) => certificates.push(certificate),
            Err(Fault { reason, message }) => {
                faults.push(Fault { reason, message: format!("certificate refs {index}: {message}") });
            }
        }
    }
    (certificates, faults)
}

/// Reason and message of the false condition `ResolvedRefs`, if there are faults; `all` says that no reference is left.
pub(super) fn condition(faults: &[Fault], all: bool) -> Option<(&'static str, String)> {
    let first = faults.first()?;
    let (reason, what) = match first.reason {
        reason if all => (reason, "No valid secrets exist"),
        "InvalidCertificateRef" => ("PartiallyInvalidCertificateRef", "Some secrets are invalid"),
        reason => (reason, "Some secrets are invalid"),
    };
    let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    Some((reason, format!("{what}: {}.", messages.join("; "))))
}

/// The certificate in the Secret that `owner` refers to.
pub(in crate::translate) fn find(
    inputs: &Inputs<'_>,
    owner: &ObjectRef,
    reference: &Reference,
) -> Result<Certificate, Fault> {
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    if let Some(group) = reference.group.as_deref().filter(|group| !group.is_empty()) {
        return Err(Fault::invalid(format!("group {group} is not supported, it must be empty for a Secret")));
    }
    if kind != "Secret" {
        return Err(Fault::invalid(format!("kind {kind} is not supported, it must be Secret")));
    }
    let namespace = reference.namespace.as_deref().unwrap_or(&owner.namespace);
    let name = format!("{namespace}/{}", reference.name);
    let from = Referrer { group: "gateway.networking.k8s.io", kind: owner.kind, namespace: &owner.namespace };
    let to = Target { group: "", kind: "Secret", namespace, name: &reference.name };
    if !grant::permits(inputs.snapshot, from, to) {
        let message = format!("Secret {name} is not permitted by any ReferenceGrant");
        return Err(Fault { reason: "RefNotPermitted", message });
    }
    let key = (namespace.to_owned(), reference.name.clone());
    let secret = inputs.snapshot.secrets.get(&key);
    let secret = secret.ok_or_else(|| Fault::invalid(format!("Secret {name} does not exist")))?;
    if secret.type_.as_deref() != Some("kubernetes.io/tls") {
        return Err(Fault::invalid(format!("Secret {name} must be of type kubernetes.io/tls")));
    }
    let data = |key| secret.data.as_ref().and_then(|data| data.get(key)).filter(|value| !value.0.is_empty());
    let (Some(chain), Some(private)) = (data("tls.crt"), data("tls.key")) else {
        return Err(Fault::invalid(format!("Secret {name} must contain tls.crt and tls.key")));
    };
    tls::check_pair(&chain.0, &private.0).map_err(|cause| {
        Fault::invalid(format!("Secret {name} must contain a valid tls.crt with its tls.key: {cause}"))
    })?;
    let mut chain = chain.0.clone();
    if !chain.ends_with(b"\n") {
        chain.push(b'\n');
    }
    Ok(Certificate { name, chain, key: private.0.clone() })
}

//! Secrets that a policy refers to.

use controller_api::backend_ref::SecretRef;
use k8s_openapi::api::core::v1::Secret;

use crate::{
    ir::ObjectRef,
    translate::{
        grant::{self, Referrer},
        inputs::Inputs,
    },
};

/// The Secret that `owner` refers to. The error is a sentence without its full stop.
pub(super) fn find<'s>(reference: &SecretRef, owner: &ObjectRef, inputs: &Inputs<'s>) -> Result<&'s Secret, String> {
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    if kind != "Secret" || reference.group.as_deref().is_some_and(|group| !group.is_empty()) {
        return Err(format!("kind must be Secret, not {kind}"));
    }
    let namespace = reference.namespace.as_deref().unwrap_or(&owner.namespace);
    let name = &reference.name;
    let from = Referrer { group: "gateway.envoyproxy.io", kind: owner.kind, namespace: &owner.namespace };
    if !grant::permits(inputs.snapshot, from, grant::Target { group: "", kind: "Secret", namespace, name }) {
        return Err(format!("ref to Secret {namespace}/{name} not permitted by any ReferenceGrant"));
    }
    let secret = inputs.snapshot.secrets.get(&(namespace.to_owned(), name.clone()));
    secret.map(AsRef::as_ref).ok_or_else(|| format!("secret {namespace}/{name} does not exist"))
}

/// The text under `key`, without the line feed that an editor left at its end; `what` names it where it is missing.
pub(super) fn text(
    reference: &SecretRef,
    key: &str,
    what: &str,
    owner: &ObjectRef,
    inputs: &Inputs<'_>,
) -> Result<String, String> {
    let secret = find(reference, owner, inputs)?;
    let place = || format!("{}/{}", reference.namespace.as_deref().unwrap_or(&owner.namespace), reference.name);
    let plain = secret.string_data.as_ref().and_then(|data| data.get(key)).map(String::as_bytes);
    let bytes = plain.or_else(|| Some(secret.data.as_ref()?.get(key)?.0.as_slice()));
    let bytes = bytes.map(<[u8]>::trim_ascii_end).filter(|bytes| !bytes.is_empty());
    let bytes = bytes.ok_or_else(|| format!("{what} not found in secret {}", place()))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| format!("{what} in secret {} is no text", place()))
}

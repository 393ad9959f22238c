//! External authorization: the backend that is asked.

use std::collections::BTreeMap;

use controller_api::{
    backend_ref::{BackendRef, LocalObjectKeyRef},
    security_policy::ext_auth::{ContextExtension, ContextExtensionType, ExtAuth},
};

use super::{Layers, destination};
use crate::{
    ir::{self, ObjectRef},
    translate::inputs::Inputs,
};

/// Follows the references of `spec.extAuth`. The error is a sentence without its full stop.
pub(super) fn resolve(auth: &ExtAuth, inputs: &Inputs<'_>, layers: Layers<'_>) -> Result<ir::ExtAuth, String> {
    build(auth, inputs, layers).map_err(|error| format!("ExtAuth: {error}"))
}

fn build(auth: &ExtAuth, inputs: &Inputs<'_>, layers: Layers<'_>) -> Result<ir::ExtAuth, String> {
    let Some(service) = Service::of(auth) else {
        return Err("spec.extAuth must have exactly one of grpc and http".into());
    };
    let field = service.field;
    if auth.http.as_ref().is_some_and(|http| is_set(http.path.as_ref()) && is_set(http.path_override.as_ref())) {
        return Err("only one of path or pathOverride can be specified".into());
    }
    if auth.body_to_ext_auth.as_ref().is_some_and(|body| body.max_request_bytes == 0) {
        return Err("spec.extAuth.bodyToExtAuth.maxRequestBytes must be at least 1".into());
    }
    if auth.status_on_error.is_some_and(|status| !(400..600).contains(&status)) {
        return Err("spec.extAuth.statusOnError must be 400 to 511".into());
    }
    let owner = owner(layers);
    let name = format!("{}/extauth/0", layers.name(|spec| spec.ext_auth.is_some()));
    let Some((mut destination, authority)) = destination::resolve(&name, service.references, owner, inputs)? else {
        return Err(format!("spec.extAuth.{field}.backendRefs must not be empty"));
    };
    if auth.grpc.is_some() {
        // gRPC is HTTP/2, whatever the Service's port says.
        destination.backends.iter_mut().for_each(|backend| backend.http2 = true);
    }
    Ok(ir::ExtAuth { destination, authority, context_extensions: context_extensions(auth, inputs, layers)? })
}

/// The service's backendRefs, and the policy that they stand in.
pub(super) fn references<'a>(auth: &'a ExtAuth, layers: Layers<'a>) -> (&'a ObjectRef, &'a [BackendRef]) {
    (owner(layers), Service::of(auth).map_or(&[], |service| service.references))
}

fn owner(layers: Layers<'_>) -> &ObjectRef {
    layers.owner(|spec| {
        spec.ext_auth.as_deref().and_then(Service::of).is_some_and(|service| !service.references.is_empty())
    })
}

/// What both kinds of service have.
struct Service<'a> {
    field: &'static str,
    references: &'a [BackendRef],
}

impl<'a> Service<'a> {
    /// None unless there is exactly one.
    fn of(auth: &'a ExtAuth) -> Option<Self> {
        match (&auth.grpc, &auth.http) {
            (Some(grpc), None) => Some(Self::new("grpc", grpc.backend_ref.as_ref(), &grpc.backend_refs)),
            (None, Some(http)) => Some(Self::new("http", http.backend_ref.as_ref(), &http.backend_refs)),
            _ => None,
        }
    }

    fn new(field: &'static str, reference: Option<&'a BackendRef>, references: &'a [BackendRef]) -> Self {
        let references = match (reference, references) {
            (Some(reference), []) => std::slice::from_ref(reference),
            (_, references) => references,
        };
        Self { field, references }
    }
}

fn is_set(path: Option<&String>) -> bool {
    path.is_some_and(|path| !path.is_empty())
}

fn context_extensions(
    auth: &ExtAuth,
    inputs: &Inputs<'_>,
    layers: Layers<'_>,
) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    for extension in &auth.context_extensions {
        let owner = layers.owner(|spec| {
            let extensions = spec.ext_auth.iter().flat_map(|auth| &auth.context_extensions);
            extensions.into_iter().any(|known| known.name == extension.name)
        });
        let value = context_extension(extension, &owner.namespace, inputs)
            .map_err(|error| format!("spec.extAuth.contextExtensions[{}] {error}", extension.name))?;
        if values.insert(extension.name.clone(), value).is_some() {
            return Err(format!("spec.extAuth.contextExtensions has {} twice", extension.name));
        }
    }
    Ok(values)
}

fn context_extension(extension: &ContextExtension, namespace: &str, inputs: &Inputs<'_>) -> Result<String, String> {
    match (extension.kind.unwrap_or_default(), &extension.value, &extension.value_ref) {
        (ContextExtensionType::Value, Some(value), None) => Ok(value.clone()),
        (ContextExtensionType::ValueRef, None, Some(reference)) => referenced(reference, namespace, inputs),
        (ContextExtensionType::Value, ..) => Err("must have a value, and no valueRef".into()),
        (ContextExtensionType::ValueRef, ..) => Err("must have a valueRef, and no value".into()),
    }
}

fn referenced(reference: &LocalObjectKeyRef, namespace: &str, inputs: &Inputs<'_>) -> Result<String, String> {
    let LocalObjectKeyRef { kind, name, key, .. } = reference;
    let object = (namespace.to_owned(), name.clone());
    let missing = || format!("refers to {kind} {namespace}/{name}, which is not there");
    let value = match kind.as_str() {
        "ConfigMap" => {
            let config_map = inputs.snapshot.config_maps.get(&object).ok_or_else(missing)?;
            config_map.data.as_ref().and_then(|data| data.get(key)).cloned()
        }
        "Secret" => {
            let secret = inputs.snapshot.secrets.get(&object).ok_or_else(missing)?;
            let text = secret.string_data.as_ref().and_then(|data| data.get(key)).cloned();
            let data = || secret.data.as_ref().and_then(|data| String::from_utf8(data.get(key)?.0.clone()).ok());
            text.or_else(data)
        }
        _ => return Err(format!("must refer to a ConfigMap or Secret, not {kind}")),
    };
    value.ok_or_else(|| format!("refers to {kind} {namespace}/{name}, which has no text under {key}"))
}

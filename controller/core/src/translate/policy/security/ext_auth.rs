//! External authorization: the backend that is asked.

use std::collections::BTreeMap;

use controller_api::{
    backend_ref::{BackendRef, LocalObjectKeyRef},
    security_policy::{
        SecurityPolicySpec,
        ext_auth::{ContextExtension, ContextExtensionType, ExtAuth, GrpcExtAuthService},
    },
};

use super::Layers;
use crate::{
    ir::{self, Backend, Destination, Endpoint, Endpoints, HeaderMutations, ObjectRef},
    translate::{
        backend::{self, Reference},
        grant::Referrer,
        inputs::Inputs,
    },
};

/// Why external authorization cannot be set up.
pub(super) struct Error {
    /// A sentence without its full stop.
    pub(super) message: String,
    /// It is not the user's fault, hence nothing that `failOpen` was meant for.
    pub(super) unsupported: bool,
}

impl From<String> for Error {
    fn from(error: String) -> Self {
        Self { message: format!("ExtAuth: {error}"), unsupported: false }
    }
}

/// Follows the references of `spec.extAuth`.
pub(super) fn resolve(auth: &ExtAuth, inputs: &Inputs<'_>, layers: Layers<'_>) -> Result<ir::ExtAuth, Error> {
    if auth.http.is_some() {
        return Err(Error { message: "ExtAuth: spec.extAuth.http is not supported yet".into(), unsupported: true });
    }
    let Some(grpc) = &auth.grpc else { return Err("spec.extAuth must have grpc or http".to_owned().into()) };
    let settings = grpc.backend_settings.as_ref();
    if let Some(field) = settings.and_then(|settings| settings.unsupported.keys().next()) {
        let message = format!("ExtAuth: spec.extAuth.grpc.backendSettings.{field} is not supported yet");
        return Err(Error { message, unsupported: true });
    }
    if auth.body_to_ext_auth.as_ref().is_some_and(|body| body.max_request_bytes == 0) {
        return Err("spec.extAuth.bodyToExtAuth.maxRequestBytes must be at least 1".to_owned().into());
    }
    if auth.status_on_error.is_some_and(|status| !(400..600).contains(&status)) {
        return Err("spec.extAuth.statusOnError must be 400 to 511".to_owned().into());
    }
    let owner = layers.owner(|spec| grpc_service(spec).is_some_and(has_backends));
    let name = format!("{}/extauth/0", layers.name(|spec| spec.ext_auth.is_some()));
    let (destination, authority) = destination(name, grpc, owner, inputs)?;
    Ok(ir::ExtAuth { destination, authority, context_extensions: context_extensions(auth, inputs, layers)? })
}

fn grpc_service(spec: &SecurityPolicySpec) -> Option<&GrpcExtAuthService> {
    spec.ext_auth.as_ref().and_then(|auth| auth.grpc.as_ref())
}

fn has_backends(grpc: &GrpcExtAuthService) -> bool {
    grpc.backend_ref.is_some() || !grpc.backend_refs.is_empty()
}

fn destination(
    name: String,
    grpc: &GrpcExtAuthService,
    owner: &ObjectRef,
    inputs: &Inputs<'_>,
) -> Result<(Destination, String), String> {
    let references: &[BackendRef] = match (&grpc.backend_ref, grpc.backend_refs.as_slice()) {
        (Some(reference), []) => std::slice::from_ref(reference),
        (_, references) => references,
    };
    let from = Referrer { group: "gateway.envoyproxy.io", kind: owner.kind, namespace: &owner.namespace };
    let mut backends = Vec::new();
    let mut authority = None;
    for (index, reference) in references.iter().enumerate() {
        let resolved = backend::resolve(
            inputs,
            from,
            Reference {
                group: Some(&reference.group),
                kind: Some(&reference.kind),
                namespace: reference.namespace.as_deref(),
                name: &reference.name,
                port: reference.port.map(i32::from),
            },
        )
        .map_err(|fault| lower_first(&fault.message))?;
        authority.get_or_insert(resolved.authority);
        backends.push(Backend {
            name: format!("{name}/backend/{index}"),
            weight: reference.weight.unwrap_or(1),
            origin: Some(resolved.origin),
            endpoints: Some(resolved.endpoints),
            // gRPC is HTTP/2, whatever the Service's port says.
            h2c: true,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
        });
    }
    let Some(authority) = authority else { return Err("spec.extAuth.grpc.backendRefs must not be empty".into()) };
    if backends.iter().any(|backend| shape(backend) != backends.first().and_then(shape)) {
        return Err("external service destinations having multiple endpoint types are not supported".into());
    }
    Ok((Destination { name, backends }, authority))
}

/// Names and addresses cannot share a cluster.
fn shape(backend: &Backend) -> Option<u8> {
    Some(match backend.endpoints.as_ref()? {
        Endpoints::Dns(_) => 0,
        Endpoints::Static(endpoints) if matches!(endpoints.first(), Some(Endpoint::Unix(_))) => 1,
        Endpoints::Static(_) => 2,
    })
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

/// A message of its own as part of another.
fn lower_first(message: &str) -> String {
    let mut letters = message.chars();
    letters.next().map(|first| format!("{}{}", first.to_lowercase(), letters.as_str())).unwrap_or_default()
}

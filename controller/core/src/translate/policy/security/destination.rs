//! Backends of a policy itself: whom Envoy asks about requests, or for keys.

use controller_api::{backend_ref::BackendRef, cluster_settings::ClusterSettings};

use crate::{
    ir::{Backend, Destination, Endpoint, Endpoints, HeaderMutations, ObjectRef},
    translate::{
        backend::{self, Reference},
        grant::Referrer,
        inputs::Inputs,
    },
};

/// Follows the references of `owner`; the destination is called `name`, and the `:authority` is that of the first backend. The error
/// is a part of a sentence.
pub(super) fn resolve(
    name: &str,
    references: &[BackendRef],
    owner: &ObjectRef,
    inputs: &Inputs<'_>,
) -> Result<Option<(Destination, String)>, String> {
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
            http2: resolved.http2,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
        });
    }
    if backends.iter().any(|backend| shape(backend) != backends.first().and_then(shape)) {
        return Err("external service destinations having multiple endpoint types are not supported".into());
    }
    Ok(authority.map(|authority| (Destination { name: name.to_owned(), backends }, authority)))
}

/// The first of the settings that is not translated.
pub(super) fn unsupported(settings: Option<&ClusterSettings>) -> Option<&str> {
    settings.and_then(|settings| settings.unsupported.keys().next()).map(String::as_str)
}

/// Names and addresses cannot share a cluster.
fn shape(backend: &Backend) -> Option<u8> {
    Some(match backend.endpoints.as_ref()? {
        Endpoints::Dns(_) => 0,
        Endpoints::Static(endpoints) if matches!(endpoints.first(), Some(Endpoint::Unix(_))) => 1,
        Endpoints::Static(_) => 2,
    })
}

/// A message of its own as part of another.
fn lower_first(message: &str) -> String {
    let mut letters = message.chars();
    letters.next().map(|first| format!("{}{}", first.to_lowercase(), letters.as_str())).unwrap_or_default()
}

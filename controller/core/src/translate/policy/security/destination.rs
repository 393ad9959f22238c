//! Backends of a policy itself: whom Envoy asks about requests, or for keys.

use std::net::SocketAddr;

use controller_api::backend_ref::BackendRef;
use proto::extauth;

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
            fallback: resolved.fallback,
            tls: resolved.tls,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
        });
    }
    if backends.iter().any(|backend| shape(backend) != backends.first().and_then(shape)) {
        return Err("external service destinations having multiple endpoint types are not supported".into());
    }
    Ok(authority.map(|authority| (Destination { name: name.to_owned(), backends }, authority)))
}

/// All replicas, for requests that `extauth` sends: like Envoy without TLS, whatever a URL says. The error is a part of a
/// sentence.
pub(super) fn backends(destination: &Destination) -> Result<extauth::Backends, String> {
    let used = destination.backends.iter().filter(|backend| backend.weight > 0);
    let mut addresses = Vec::new();
    for endpoints in used.filter_map(|backend| backend.endpoints.as_ref()) {
        match endpoints {
            Endpoints::Dns(hosts) => addresses.extend(hosts.iter().map(|(host, port)| format!("{host}:{port}"))),
            Endpoints::Static(endpoints) => {
                for endpoint in endpoints {
                    match endpoint {
                        Endpoint::Ip(ip, port) => addresses.push(SocketAddr::new(*ip, *port).to_string()),
                        Endpoint::Unix(_) => return Err("unix domain sockets are not supported there".into()),
                    }
                }
            }
        }
    }
    addresses.sort();
    addresses.dedup();
    Ok(extauth::Backends { addresses, plaintext: true })
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

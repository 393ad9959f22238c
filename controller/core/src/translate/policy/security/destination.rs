//! Backends of a policy itself: whom Envoy asks about requests, or for keys.

use std::net::SocketAddr;

use controller_api::backend_ref::BackendRef;
use proto::extauth;

use crate::{
    ir::{
        Authorities, Backend, BackendTls, Destination, Endpoint, Endpoints, HeaderMutations, ObjectRef, ServerName,
        SubjectAltName,
    },
    translate::{backend, grant::Referrer, inputs::Inputs},
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
        let resolved = backend::resolve(inputs, from, reference.into()).map_err(|fault| lower_first(&fault.message))?;
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

/// All replicas, for requests that `extauth` sends: like Envoy with TLS where a policy or the backend says so, and else without,
/// whatever a URL says. The error is a part of a sentence.
pub(super) fn backends(destination: &Destination) -> Result<extauth::Backends, String> {
    let used: Vec<&Backend> = destination.backends.iter().filter(|backend| backend.weight > 0).collect();
    let settings = used.first().and_then(|backend| backend.tls.as_deref());
    if used.iter().any(|backend| backend.tls.as_deref() != settings) {
        return Err("backends with different TLS settings are not supported there".into());
    }
    let mut addresses = Vec::new();
    for endpoints in used.iter().filter_map(|backend| backend.endpoints.as_ref()) {
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
    let tls = settings.map(|settings| tls(settings, &addresses)).transpose()?;
    Ok(extauth::Backends { addresses, plaintext: tls.is_none(), tls: tls.map(Box::new) })
}

/// The error is a part of a sentence.
fn tls(settings: &BackendTls, addresses: &[String]) -> Result<extauth::BackendTls, String> {
    let text = |pem: &[u8]| String::from_utf8(pem.to_vec()).map_err(|_| "a certificate there is no PEM".to_owned());
    let ca = match &settings.authorities {
        Some(Authorities::Bundle { pem, .. }) => Some(text(pem)?),
        Some(Authorities::System) | None => None,
    };
    let server_name = match &settings.server_name {
        ServerName::OfRequest => None,
        ServerName::Fixed(name) => Some(name.clone()),
        ServerName::OfEndpoint => {
            let mut hosts = addresses.iter().filter_map(|address| address.rsplit_once(':')).map(|(host, _)| host);
            let host = hosts.next();
            if hosts.any(|other| Some(other) != host) {
                return Err("backends with TLS and several host names are not supported there".into());
            }
            host.map(str::to_owned)
        }
    };
    let shown = settings.client_certificate.as_ref();
    let key = shown.map(|shown| text(&shown.key).map(extauth::Secret::new)).transpose();
    Ok(extauth::BackendTls {
        ca,
        server_name,
        subject_alt_names: settings
            .subject_alt_names
            .iter()
            .map(|(SubjectAltName::Dns(name) | SubjectAltName::Uri(name))| name.clone())
            .collect(),
        insecure_skip_verify: settings.authorities.is_none(),
        certificate: shown.map(|shown| text(&shown.chain)).transpose()?,
        key: key?,
    })
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

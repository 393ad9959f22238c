//! The filter `ExternalAuth`: a service that is asked about every request of a rule.

use controller_api::security_policy::ext_auth::{
    BodyToExtAuth, ExtAuth as ExtAuthSpec, GrpcExtAuthService, HttpExtAuthService,
};
use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesFiltersExternalAuth as Spec, HttpRouteRulesFiltersExternalAuthProtocol as Protocol,
};

use super::{backend, fault::Fault, inputs::Inputs, name, route_filter::Of, route_match::is_token};
use crate::ir::{Destination, ExtAuth, ExternalAuth};

/// Reads the filter of a rule.
pub(super) fn read(inputs: &Inputs<'_>, of: Of<'_>, spec: &Spec) -> Result<ExternalAuth, Fault> {
    let reference = backend::Reference {
        group: spec.backend_ref.group.as_deref(),
        kind: spec.backend_ref.kind.as_deref(),
        namespace: spec.backend_ref.namespace.as_deref(),
        name: &spec.backend_ref.name,
        port: spec.backend_ref.port,
    };
    let name = name::ext_auth(of.destination);
    let place = "failed to validate the ExternalAuth filter";
    let (mut backend, authority) =
        backend::single(inputs, of.from, reference, name::backend(&name, Some(0))).map_err(|fault| fault.at(place))?;
    // gRPC is HTTP/2, whatever the Service's port says.
    backend.http2 |= spec.protocol == Protocol::Grpc;
    let backend = ExtAuth {
        destination: Destination { name, backends: vec![backend] },
        authority,
        context_extensions: std::collections::BTreeMap::new(),
    };
    Ok(ExternalAuth { route: of.route.clone(), spec: translated(spec)?, backend })
}

/// The same in the words of a SecurityPolicy.
fn translated(spec: &Spec) -> Result<ExtAuthSpec, Fault> {
    let unsupported = |message: &str| Fault::accepted("UnsupportedValue", message);
    let mut auth = ExtAuthSpec {
        body_to_ext_auth: spec.forward_body.as_ref().and_then(|body| body.max_size).filter(|size| *size != 0).map(
            |size| BodyToExtAuth {
                max_request_bytes: u32::try_from(size).unwrap_or(if size < 0 { 1 } else { u32::MAX }),
            },
        ),
        ..ExtAuthSpec::default()
    };
    match (spec.protocol.clone(), &spec.grpc, &spec.http) {
        (Protocol::Grpc, grpc, None) => {
            auth.headers_to_ext_auth = grpc.as_ref().and_then(|grpc| grpc.allowed_headers.clone());
            auth.grpc = Some(GrpcExtAuthService::default());
        }
        (Protocol::Http, None, http) => {
            auth.headers_to_ext_auth = http.as_ref().and_then(|http| http.allowed_headers.clone());
            auth.http = Some(HttpExtAuthService {
                path: http.as_ref().and_then(|http| http.path.clone()),
                headers_to_backend: http
                    .as_ref()
                    .and_then(|http| http.allowed_response_headers.clone())
                    .unwrap_or_default(),
                ..HttpExtAuthService::default()
            });
        }
        _ => return Err(unsupported("an ExternalAuth filter has either grpc or http, as its protocol says")),
    }
    // An empty list is the same as none: what the protocol needs.
    auth.headers_to_ext_auth = auth.headers_to_ext_auth.filter(|headers| !headers.is_empty());
    let headers = auth.headers_to_ext_auth.iter().flatten();
    let mut headers = headers.chain(auth.http.iter().flat_map(|http| &http.headers_to_backend));
    if headers.any(|header| !is_token(header)) {
        return Err(unsupported("an ExternalAuth filter names a header that is none"));
    }
    let path = auth.http.as_ref().and_then(|http| http.path.as_deref()).unwrap_or_default();
    if !path.is_empty() && (!path.starts_with('/') || path.contains(['\r', '\n', '\0'])) {
        return Err(unsupported("the path of an ExternalAuth filter is invalid"));
    }
    Ok(auth)
}

//! Signed tokens: the key sets that they are checked with.

use std::{collections::BTreeSet, net::IpAddr};

use controller_api::{
    backend_ref::BackendRef,
    security_policy::{
        SecurityPolicySpec,
        jwt::{Jwt, JwtProvider, LocalJwks, LocalJwksType, RemoteJwks},
    },
};
use jsonwebtoken::{DecodingKey, jwk::Jwk};
use serde_json::Value;

use super::{Layers, destination};
use crate::{
    ir::{self, Backend, Destination, Endpoint, Endpoints, HeaderMutations, Jwks, ObjectRef},
    translate::inputs::Inputs,
};

/// The key set of each provider, in step with them; what is wrong is added to `errors`.
pub(super) fn resolve(
    jwt: &Jwt,
    inputs: &Inputs<'_>,
    layers: Layers<'_>,
    errors: &mut Vec<String>,
) -> Vec<Option<Jwks>> {
    if jwt.providers.is_empty() {
        errors.push("JWT: spec.jwt.providers must not be empty".into());
    }
    if jwt.optional.is_some() && jwt.fail_open.is_some() {
        errors.push("JWT: spec.jwt can have only one of optional and failOpen".into());
    }
    let owner = layers.owner(has_providers);
    let mut names = BTreeSet::new();
    let mut sets = Vec::new();
    for (index, provider) in jwt.providers.iter().enumerate() {
        let mut fail = |error: String| errors.push(format!("JWT: spec.jwt.providers[{index}].{error}"));
        if provider.name.is_empty() || !names.insert(&provider.name) {
            fail(format!("name {:?} must be set and unique", provider.name));
        }
        if provider.recompute_route == Some(true) && provider.claim_to_headers.is_empty() {
            fail("recomputeRoute needs claimToHeaders".into());
        }
        sets.push(key_set((index, provider), owner, inputs, layers).map_err(fail).ok());
    }
    sets
}

/// The backendRefs of all providers, and the policy that they stand in.
pub(super) fn references<'a>(
    jwt: &'a Jwt,
    layers: Layers<'a>,
) -> (&'a ObjectRef, impl Iterator<Item = &'a BackendRef>) {
    let remote = jwt.providers.iter().filter_map(|provider| provider.remote_jwks.as_ref());
    (layers.owner(has_providers), remote.flat_map(|remote| &remote.backend_refs))
}

fn has_providers(spec: &SecurityPolicySpec) -> bool {
    spec.jwt.as_ref().is_some_and(|jwt| !jwt.providers.is_empty())
}

fn key_set(
    (index, provider): (usize, &JwtProvider),
    owner: &ObjectRef,
    inputs: &Inputs<'_>,
    layers: Layers<'_>,
) -> Result<Jwks, String> {
    match (&provider.remote_jwks, &provider.local_jwks) {
        (Some(remote), None) => {
            let name = format!("{}/jwt/{index}", layers.name(has_providers));
            remote_jwks(remote, &name, owner, inputs).map(Jwks::Remote)
        }
        (None, Some(local)) => {
            let text = text(local, &owner.namespace, inputs)?;
            check(&text).map_err(|error| format!("localJWKS is no JWKS: {error}"))?;
            Ok(Jwks::Local(text))
        }
        _ => Err("must have exactly one of remoteJWKS and localJWKS".into()),
    }
}

fn remote_jwks(
    remote: &RemoteJwks,
    name: &str,
    owner: &ObjectRef,
    inputs: &Inputs<'_>,
) -> Result<ir::RemoteJwks, String> {
    let settings = remote.backend_settings.as_deref();
    let retry = settings.and_then(|settings| settings.retry.as_ref());
    if retry.is_some_and(|retry| retry.per_retry.as_ref().is_some_and(|per_retry| per_retry.timeout.is_some())) {
        return Err("remoteJWKS: Retry timeout is not supported".into());
    }
    if retry.is_some_and(|retry| retry.retry_on.as_ref().is_some_and(|on| !on.http_status_codes.is_empty())) {
        return Err("remoteJWKS: HTTPStatusCodes is not supported".into());
    }
    if remote.backend_ref.is_some() {
        return Err("remoteJWKS: backendRef is not supported, use backendRefs".into());
    }
    let site = site(&remote.uri).ok_or_else(|| format!("remoteJWKS.uri {:?} is no http or https URL", remote.uri))?;
    match destination::resolve(name, &remote.backend_refs, owner, inputs).map_err(|e| format!("remoteJWKS: {e}"))? {
        Some((destination, _)) => Ok(ir::RemoteJwks { destination, server_name: None }),
        None => Ok(site),
    }
}

/// The host of the URL itself, as a destination.
fn site(url: &str) -> Option<ir::RemoteJwks> {
    let uri: http::Uri = url.parse().ok()?;
    let tls = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?;
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let name = format!("{}_{port}", host.replace('.', "_"));
    let endpoints = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => Endpoints::Static(vec![Endpoint::Ip(address, port)]),
        Err(_) => Endpoints::Dns(vec![(host.to_owned(), port)]),
    };
    let backend = Backend {
        name: format!("{name}/backend/-1"),
        weight: 1,
        origin: None,
        endpoints: Some(endpoints),
        http2: false,
        fallback: false,
        tls: None,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
    };
    Some(ir::RemoteJwks {
        destination: Destination { name, backends: vec![backend] },
        server_name: tls.then(|| host.to_owned()),
    })
}

fn text(local: &LocalJwks, namespace: &str, inputs: &Inputs<'_>) -> Result<String, String> {
    let reference = match (local.kind.unwrap_or_default(), &local.inline, &local.value_ref) {
        (LocalJwksType::Inline, Some(inline), None) => return Ok(inline.clone()),
        (LocalJwksType::ValueRef, None, Some(reference)) => reference,
        (LocalJwksType::Inline, ..) => return Err("localJWKS must have inline, and no valueRef".into()),
        (LocalJwksType::ValueRef, ..) => return Err("localJWKS must have valueRef, and no inline".into()),
    };
    if reference.kind != "ConfigMap" {
        return Err(format!("localJWKS.valueRef.kind must be ConfigMap, not {}", reference.kind));
    }
    let key = (namespace.to_owned(), reference.name.clone());
    let Some(config_map) = inputs.snapshot.config_maps.get(&key) else {
        return Err(format!("localJWKS.valueRef: ConfigMap {namespace}/{} not found", reference.name));
    };
    let data = config_map.data.as_ref();
    let text = data.and_then(|data| data.get("jwks").or_else(|| data.values().next()));
    text.cloned().ok_or_else(|| format!("localJWKS.valueRef: ConfigMap {namespace}/{} is empty", reference.name))
}

/// A key set is of use when it has at least one key that is understood.
fn check(text: &str) -> Result<(), String> {
    let set: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Some(keys) = set.get("keys").and_then(Value::as_array) else { return Err("it has no list of keys".into()) };
    let mut first_error = "its list of keys is empty".to_owned();
    for (index, key) in keys.iter().enumerate() {
        let key = serde_json::from_value::<Jwk>(key.clone()).map_err(|error| error.to_string());
        match key.and_then(|key| DecodingKey::from_jwk(&key).map_err(|error| error.to_string())) {
            Ok(_) => return Ok(()),
            Err(error) if index == 0 => first_error = format!("its first key: {error}"),
            Err(_) => {}
        }
    }
    Err(first_error)
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_key_set_has_a_key() {
        let key = r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#;
        assert_eq!(check(&format!(r#"{{"keys":[{key}]}}"#)), Ok(()));
        assert_eq!(check(&format!(r#"{{"keys":[{{"kty":"new"}},{key}]}}"#)), Ok(()));
        for text in ["", "keys", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"new"}]}"#, r#"{"keys":7}"#] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}

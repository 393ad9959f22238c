//! Signed tokens: the key sets that they are checked with.

use std::collections::BTreeSet;

use controller_api::security_policy::{
    SecurityPolicySpec,
    jwt::{Jwt, JwtProvider, LocalJwks, LocalJwksType},
};
use jsonwebtoken::{DecodingKey, jwk::Jwk};
use serde_json::Value;

use super::Layers;
use crate::translate::inputs::Inputs;

/// The key set of each provider, in step with them; what is wrong is added to `errors`.
pub(super) fn resolve(
    jwt: &Jwt,
    inputs: &Inputs<'_>,
    layers: Layers<'_>,
    errors: &mut Vec<String>,
) -> Vec<Option<String>> {
    if jwt.providers.is_empty() {
        errors.push("JWT: spec.jwt.providers must not be empty".into());
    }
    if jwt.optional.is_some() && jwt.fail_open.is_some() {
        errors.push("JWT: spec.jwt can have only one of optional and failOpen".into());
    }
    let namespace = &layers.owner(has_providers).namespace;
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
        sets.push(key_set(provider, namespace, inputs).map_err(fail).ok());
    }
    sets
}

fn has_providers(spec: &SecurityPolicySpec) -> bool {
    spec.jwt.as_ref().is_some_and(|jwt| !jwt.providers.is_empty())
}

fn key_set(provider: &JwtProvider, namespace: &str, inputs: &Inputs<'_>) -> Result<String, String> {
    if provider.remote_jwks.is_some() {
        return Err("remoteJWKS is not supported yet, use localJWKS".into());
    }
    let Some(local) = &provider.local_jwks else { return Err("localJWKS must be set".into()) };
    let text = text(local, namespace, inputs)?;
    check(&text).map_err(|error| format!("localJWKS is no JWKS: {error}"))?;
    Ok(text)
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

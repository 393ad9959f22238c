//! API keys: hashed here, checked by `extauth`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use controller_api::security_policy::{
    SecurityPolicySpec,
    api_key_auth::{ApiKeyAuth, ApiKeyExtractFrom},
};
use k8s_openapi::api::core::v1::Secret;
use proto::extauth::{ApiKey, Key, Method, Policy, Source};
use sha2::{Digest, Sha256};

use super::{Layers, header, secret};
use crate::translate::inputs::Inputs;

/// Annotation of a Secret: the class of service of the clients in it.
const TIER: &str = "tollgate.dev/tier";
/// Annotations of a Secret with this prefix: labels of the clients in it.
const LABEL: &str = "tollgate.dev/label.";
/// Tells the upstream the client's tier.
const TIER_HEADER: &str = "x-client-tier";
/// Longest key that `extauth` looks at, in bytes.
const LONGEST_KEY: usize = 512;
/// Tells the upstream one of the client's labels.
const LABEL_HEADER: &str = "x-client-label-";

/// The policy that `extauth` serves. The error is a sentence without its full stop.
pub(super) fn resolve(auth: &ApiKeyAuth, inputs: &Inputs<'_>, layers: Layers<'_>) -> Result<Policy, String> {
    build(auth, inputs, layers).map_err(|error| format!("APIKeyAuth: {error}"))
}

fn build(auth: &ApiKeyAuth, inputs: &Inputs<'_>, layers: Layers<'_>) -> Result<Policy, String> {
    if inputs.settings.extauth.is_none() {
        return Err("API keys need the extauth service, which is turned off".into());
    }
    let mut from = Vec::new();
    for (index, extract) in auth.extract_from.iter().enumerate() {
        from.extend(sources(extract).map_err(|error| format!("spec.apiKeyAuth.extractFrom[{index}] {error}"))?);
    }
    if from.is_empty() {
        return Err("spec.apiKeyAuth.extractFrom must not be empty".into());
    }
    let client_header = auth.forward_client_id_header.clone().filter(|header| !header.is_empty());
    if let Some(name) = client_header.as_ref().filter(|name| !header::can_be_set(name)) {
        return Err(format!("spec.apiKeyAuth.forwardClientIDHeader {name:?} is no header that can be set"));
    }
    let owner = layers.owner(|spec| api_key_auth(spec).is_some_and(|auth| !auth.credential_refs.is_empty()));
    let mut keys = Keys::default();
    for (index, reference) in auth.credential_refs.iter().enumerate() {
        let field = format!("spec.apiKeyAuth.credentialRefs[{index}]");
        let secret = secret::find(reference, owner, inputs).map_err(|error| format!("{field}: {error}"))?;
        keys.add(secret).map_err(|error| format!("{field}: Secret {} {error}", reference.name))?;
    }
    let labels: BTreeSet<_> = keys.all.iter().flat_map(|key| key.labels.keys()).collect();
    let label_headers =
        labels.into_iter().map(|name| (name.clone(), format!("{LABEL_HEADER}{}", name.to_lowercase()))).collect();
    let method = ApiKey {
        from,
        forward: auth.sanitize != Some(true),
        client_header,
        // Named even when no key has a tier, for extauth removes what clients send under this name.
        tier_header: Some(TIER_HEADER.into()),
        label_headers,
        keys: keys.all,
        ..ApiKey::default()
    };
    let name = layers.name(|spec| api_key_auth(spec).is_some());
    Ok(Policy { name, methods: vec![Method::ApiKey(method)], ..Policy::default() })
}

fn api_key_auth(spec: &SecurityPolicySpec) -> Option<&ApiKeyAuth> {
    spec.api_key_auth.as_ref()
}

fn sources(extract: &ApiKeyExtractFrom) -> Result<Vec<Source>, String> {
    let ApiKeyExtractFrom { headers, params, cookies } = extract;
    if [headers, params, cookies].iter().filter(|names| !names.is_empty()).count() != 1 {
        return Err("must have exactly one of headers, params and cookies".into());
    }
    if headers.iter().chain(params).chain(cookies).any(String::is_empty) {
        return Err("must not have empty names".into());
    }
    if let Some(name) = headers.iter().find(|name| !header::can_be_set(name)) {
        return Err(format!("has {name:?}, which is no header that can hold a key"));
    }
    let header = |name: &String| {
        let prefix = if name.eq_ignore_ascii_case("authorization") { "Bearer " } else { "" };
        Source::Header { name: name.clone(), prefix: prefix.into() }
    };
    let query = |name: &String| Source::Query { name: name.clone() };
    let cookie = |name: &String| Source::Cookie { name: name.clone() };
    Ok(headers.iter().map(header).chain(params.iter().map(query)).chain(cookies.iter().map(cookie)).collect())
}

#[derive(Default)]
struct Keys {
    all: Vec<Key>,
    clients: BTreeSet<String>,
    /// Hash to the client that has it.
    owners: BTreeMap<String, String>,
}

impl Keys {
    /// Takes the clients of `secret` in: `data` maps a client's id to its key. A client that is known already is left out.
    fn add(&mut self, secret: &Secret) -> Result<(), String> {
        let annotations = secret.metadata.annotations.clone().unwrap_or_default();
        let labels: BTreeMap<_, _> = annotations
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(LABEL)?.to_owned(), value.clone())))
            .collect();
        if let Some(label) = labels.keys().find(|label| !header::is_token(label)) {
            return Err(format!("has the annotation {LABEL}{label}, whose name cannot be part of a header"));
        }
        let tier = annotations.get(TIER).cloned();
        if labels.values().chain(&tier).any(|value| value.trim() != value || value.chars().any(char::is_control)) {
            return Err("has a tier or label that no header can carry".into());
        }
        let data = secret.data.iter().flatten().map(|(client, key)| (client, key.0.as_slice()));
        let text = secret.string_data.iter().flatten().map(|(client, key)| (client, key.as_bytes()));
        for (client, key) in text.chain(data) {
            if !self.clients.insert(client.clone()) {
                continue;
            }
            // A line feed at the end is what `echo` left there: no header can carry it.
            let key = key.trim_ascii_end();
            if key.is_empty()
                || key.len() > LONGEST_KEY
                || key.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b',')
            {
                return Err(format!(
                    "has a key for client {client} that no request can carry: it must be 1 to {LONGEST_KEY} visible \
                     ASCII characters without a comma"
                ));
            }
            let hash = hash(key);
            if let Some(other) = self.owners.insert(hash.clone(), client.clone()) {
                return Err(format!("has a duplicated API key: clients {other} and {client} share it"));
            }
            self.all.push(Key {
                hash,
                client: client.clone(),
                tier: tier.clone(),
                labels: labels.clone(),
                ..Key::default()
            });
        }
        Ok(())
    }
}

fn hash(key: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(key) {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

//! The Secrets that certificates are stored in.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use controller_core::infra;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{
    authority::Pair,
    plan::{Authorities, Leaf, State},
};

/// The authorities with their keys; only this command reads it.
pub(super) const AUTHORITY: &str = "envoy-gateway-ca";
/// 32 random bytes that Envoy's own OpenID login seals its cookies with.
pub(super) const HMAC: &str = "envoy-oidc-hmac";
const HMAC_KEY: &str = "hmac-secret";

/// The Secrets with certificates, and the names that each is for.
pub(super) fn names(namespace: &str, dns_domain: &str) -> BTreeMap<String, Vec<String>> {
    let controller = "envoy-gateway";
    let suffixes =
        ["", &format!(".{namespace}"), &format!(".{namespace}.svc"), &format!(".{namespace}.svc.{dns_domain}")];
    let own = |name: &str| suffixes.iter().map(|suffix| format!("{name}{suffix}")).collect();
    let any = vec![format!("*.{namespace}"), format!("*.{namespace}.svc"), format!("*.{namespace}.svc.{dns_domain}")];
    [
        (controller.to_owned(), own(controller)),
        ("envoy".to_owned(), any.clone()),
        ("envoy-rate-limit".to_owned(), any),
        // A name that no Envoy has: its policies hold secrets.
        (infra::EXTAUTH.to_owned(), own(infra::EXTAUTH)),
    ]
    .into()
}

/// What the Secrets of a namespace hold.
pub(super) fn read(secrets: &BTreeMap<String, Secret>, names: &BTreeMap<String, Vec<String>>) -> State {
    let text = |secret: &Secret, key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty())
    };
    let pair = |secret: &Secret, certificate: &str, key: &str| {
        Some(Pair { certificate: text(secret, certificate)?, key: text(secret, key)? })
    };
    let mut authorities = Authorities::default();
    if let Some(secret) = secrets.get(AUTHORITY) {
        authorities.signing = pair(secret, "tls.crt", "tls.key");
        let since = text(secret, "next-since").and_then(|since| since.parse().ok()).map(Duration::from_secs);
        authorities.next =
            pair(secret, "next.crt", "next.key").map(|next| (next, SystemTime::UNIX_EPOCH + since.unwrap_or_default()));
        authorities.former = super::authority::split(&text(secret, "former.crt").unwrap_or_default());
    }
    let leaf = |name: &String| {
        let secret = secrets.get(name)?;
        let leaf = Leaf { pair: pair(secret, "tls.crt", "tls.key")?, trusted: text(secret, "ca.crt")? };
        Some((name.clone(), leaf))
    };
    State { authorities, leaves: names.keys().filter_map(leaf).collect() }
}

/// The Secrets that hold `state`, in the order in which they have to be written.
pub(super) fn write(state: &State, namespace: &str) -> Vec<Secret> {
    let mut data = BTreeMap::new();
    let mut put = |key: &str, text: &str| data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
    // A Secret of this type has both, even while there is none that signs.
    let (certificate, key) = state.authorities.signing.as_ref().map_or(("", ""), |pair| (&pair.certificate, &pair.key));
    put("tls.crt", certificate);
    put("tls.key", key);
    if let Some((next, since)) = &state.authorities.next {
        put("next.crt", &next.certificate);
        put("next.key", &next.key);
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        put("next-since", &since.to_string());
    }
    if !state.authorities.former.is_empty() {
        put("former.crt", &state.authorities.former.concat());
    }
    let mut secrets = vec![secret(AUTHORITY, namespace, "Opaque", data)];
    for (name, leaf) in &state.leaves {
        let data = [("ca.crt", &leaf.trusted), ("tls.crt", &leaf.pair.certificate), ("tls.key", &leaf.pair.key)];
        let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())));
        secrets.push(secret(name, namespace, "kubernetes.io/tls", data.into()));
    }
    secrets
}

/// The Secret with `key`.
pub(super) fn hmac(namespace: &str, key: [u8; 32]) -> Secret {
    secret(HMAC, namespace, "Opaque", [(HMAC_KEY.to_owned(), ByteString(key.to_vec()))].into())
}

fn secret(name: &str, namespace: &str, kind: &str, data: BTreeMap<String, ByteString>) -> Secret {
    let labels = [("control-plane", "envoy-gateway"), ("app.kubernetes.io/managed-by", "envoy-gateway")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.into()),
            ..Default::default()
        },
        type_: Some(kind.to_owned()),
        data: Some(data),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::certgen::plan;

    #[test]
    fn what_is_written_is_read_again() {
        let names = names("ns", "cluster.local");
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let mut state = plan::next(&State::default(), &names, now).unwrap();
        state.authorities.next = Some((state.authorities.signing.clone().unwrap(), now));
        state.authorities.former = vec![state.authorities.signing.clone().unwrap().certificate];
        let secrets = write(&state, "ns").into_iter().map(|secret| (secret.metadata.name.clone().unwrap(), secret));
        assert!(read(&secrets.collect(), &names) == state);
    }
}

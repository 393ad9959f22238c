//! Metadata that many answers have in common: the claims of a token, once for all requests that carry it.

use std::collections::HashMap;
use std::fmt;

use bytes::{BufMut, Bytes};
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::{EncodeError, Message as _};

use crate::claims::{Claims, SCOPES, scopes};
use crate::json;

/// Key of the method that decided.
pub(crate) const METHOD: &str = "method";

/// Metadata as Envoy gets it; as a tree it would take several times the memory.
#[derive(PartialEq)]
pub struct Shared {
    /// A `google.protobuf.Struct`; one that follows on another adds to it.
    encoded: Bytes,
}

impl Shared {
    /// Encodes the metadata once.
    pub fn new(metadata: HashMap<String, Value>) -> Self {
        Self { encoded: Struct { fields: metadata }.encode_to_vec().into() }
    }

    /// What the metadata says of a token: its claims under the provider's name, and its scopes.
    pub(crate) fn of_claims(provider: &str, claims: &Claims) -> Self {
        let scopes = scopes(claims);
        let (scopes, claims) =
            (json::Texts { name: SCOPES, texts: &scopes }, json::Object { name: provider, members: claims });
        let listed = !scopes.texts.is_empty();
        // Many of them stay for long: not a byte more than they take.
        let length = if listed { scopes.encoded_len() } else { 0 } + claims.encoded_len();
        let mut encoded = Vec::with_capacity(length);
        if listed {
            scopes.put(&mut encoded);
        }
        claims.put(&mut encoded);
        Self { encoded: encoded.into() }
    }

    /// By name, for who looks into it.
    pub fn metadata(&self) -> HashMap<String, Value> {
        // It was encoded here.
        Struct::decode(self.encoded.clone()).unwrap_or_default().fields
    }

    /// The claims of [`Self::of_claims`], which stand last.
    pub(crate) fn claims(&self) -> Option<json::Members<'_>> {
        json::Members::of(&self.encoded).last()?.1.object()
    }

    /// Bytes of the encoded form.
    pub fn encoded_len(&self) -> usize {
        self.encoded.len()
    }

    /// Adds the encoded `Struct` to one that is being written.
    pub(crate) fn put(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.encoded);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.metadata().fmt(formatter)
    }
}

/// Writes `dynamic_metadata` of a `CheckResponse`: what is shared, what is one answer's own, and the method that decided.
pub(crate) fn put_metadata(
    own: HashMap<String, Value>,
    shared: Option<&Shared>,
    method: Option<&str>,
    buffer: &mut impl BufMut,
) -> Result<(), EncodeError> {
    /// Field 4, length-delimited.
    const DYNAMIC_METADATA: u8 = 4 << 3 | 2;
    let own = Struct { fields: own };
    let method = method.map(|method| json::Text { name: METHOD, text: method });
    let length =
        own.encoded_len() + shared.map_or(0, Shared::encoded_len) + method.as_ref().map_or(0, json::Text::encoded_len);
    if length == 0 {
        return Ok(());
    }
    buffer.put_u8(DYNAMIC_METADATA);
    prost::encoding::encode_varint(length as u64, buffer);
    if let Some(shared) = shared {
        shared.put(buffer);
    }
    own.encode(buffer)?;
    if let Some(method) = method {
        method.put(buffer);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use envoy_types::pb::envoy::service::auth::v3::CheckResponse;

    use super::*;
    use crate::verdict::{Grant, Verdict, text};

    fn values(pairs: &[(&str, &str)]) -> HashMap<String, Value> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect()
    }

    #[test]
    fn what_is_written_reads_like_the_tree() {
        let shared = || Some(Arc::new(Shared::new(values(&[("main", "claims"), ("method", "a claim")]))));
        for (own, shared) in [
            (values(&[("method", "jwt"), ("tier", "gold")]), shared()),
            (values(&[]), shared()),
            (values(&[("method", "api_key")]), None),
            (values(&[]), None),
        ] {
            for method in [Some("basic"), None] {
                let (headers, own, shared) = (vec![(http::header::VIA, "us".into())], own.clone(), shared.clone());
                let grant = Grant { headers, metadata: own, shared, method, ..Grant::default() };
                let tree = CheckResponse::from(Verdict::Allow(grant.clone()));
                let mut written = Vec::new();
                Verdict::Allow(grant).encode(&mut written).unwrap();
                assert_eq!(CheckResponse::decode(written.as_slice()).unwrap(), tree);
            }
        }
    }

    #[test]
    fn an_answer_of_its_own_wins_over_what_is_shared() {
        let shared = Some(Arc::new(Shared::new(values(&[("method", "a claim")]))));
        let mut grant = Grant { metadata: values(&[("method", "jwt")]), shared, ..Grant::default() };
        grant.unshare();
        assert_eq!(grant.metadata, values(&[("method", "jwt")]));
        assert_eq!(grant.shared, None);
    }
}

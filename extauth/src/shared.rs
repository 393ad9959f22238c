//! Metadata that many answers have in common: the claims of a token, once for all requests that carry it.

use std::collections::HashMap;

use bytes::{BufMut, Bytes};
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::{EncodeError, Message as _};

/// Metadata as a tree for who looks into it, and encoded for Envoy.
#[derive(Debug, PartialEq)]
pub struct Shared {
    metadata: HashMap<String, Value>,
    /// A `google.protobuf.Struct`; one that follows on another adds to it.
    encoded: Bytes,
}

impl Shared {
    /// Encodes the metadata once.
    pub fn new(metadata: HashMap<String, Value>) -> Self {
        let fields = Struct { fields: metadata };
        Self { encoded: fields.encode_to_vec().into(), metadata: fields.fields }
    }

    /// By name.
    pub fn metadata(&self) -> &HashMap<String, Value> {
        &self.metadata
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

/// Writes `dynamic_metadata` of a `CheckResponse`: what is shared, and what is one answer's own.
pub(crate) fn put_metadata(
    own: HashMap<String, Value>,
    shared: Option<&Shared>,
    buffer: &mut impl BufMut,
) -> Result<(), EncodeError> {
    /// Field 4, length-delimited.
    const DYNAMIC_METADATA: u8 = 4 << 3 | 2;
    let own = Struct { fields: own };
    let length = own.encoded_len() + shared.map_or(0, Shared::encoded_len);
    if length == 0 {
        return Ok(());
    }
    buffer.put_u8(DYNAMIC_METADATA);
    prost::encoding::encode_varint(length as u64, buffer);
    if let Some(shared) = shared {
        shared.put(buffer);
    }
    own.encode(buffer)
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
            let grant =
                Grant { headers: vec![(http::header::VIA, "us".into())], metadata: own, shared, ..Grant::default() };
            let tree = CheckResponse::from(Verdict::Allow(grant.clone()));
            let mut written = Vec::new();
            Verdict::Allow(grant).encode(&mut written).unwrap();
            assert_eq!(CheckResponse::decode(written.as_slice()).unwrap(), tree);
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

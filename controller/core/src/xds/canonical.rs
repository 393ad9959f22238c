//! One encoding for equal messages.
//!
//! Envoy's messages hold their maps in hash maps, whose order is another one in each process and each message. Sent like
//! that, nothing would ever look unchanged. So the entries of every map are sorted here, at any depth and within `Any`.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

const ANY: &str = "google.protobuf.Any";

/// `message`, which is a `descriptor`, with the entries of its maps sorted. What cannot be read stays as it is.
pub(super) fn sorted(descriptor: &MessageDescriptor, message: &[u8]) -> Vec<u8> {
    rewrite(descriptor, message).unwrap_or_else(|| message.to_vec())
}

/// A field as it stands in an encoded message.
struct Field<'a> {
    number: u32,
    wire_type: WireType,
    value: &'a [u8],
}

fn rewrite(descriptor: &MessageDescriptor, mut rest: &[u8]) -> Option<Vec<u8>> {
    let packed = (descriptor.full_name() == ANY).then(|| packed_type(descriptor.parent_pool(), rest)).flatten();
    let mut out = Vec::with_capacity(rest.len());
    let mut entries: Vec<(u32, Vec<u8>)> = Vec::new();
    while !rest.is_empty() {
        let field = next_field(&mut rest)?;
        let known = descriptor.get_field(field.number);
        let value = match (field.wire_type, known.as_ref().map(FieldDescriptor::kind)) {
            (WireType::LengthDelimited, Some(Kind::Message(inner))) => sorted(&inner, field.value),
            (WireType::LengthDelimited, Some(Kind::Bytes)) => match &packed {
                Some(packed) => sorted(packed, field.value),
                None => field.value.to_vec(),
            },
            _ => field.value.to_vec(),
        };
        if known.is_some_and(|known| known.is_map()) {
            entries.push((field.number, value));
        } else {
            write_field(field.number, field.wire_type, &value, &mut out);
        }
    }
    entries.sort();
    for (number, value) in entries {
        write_field(number, WireType::LengthDelimited, &value, &mut out);
    }
    Some(out)
}

/// Takes one field off the front. `None` when the bytes are no message.
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let (number, wire_type) = decode_key(rest).ok()?;
    let length = match wire_type {
        WireType::Varint => {
            let mut after = *rest;
            decode_varint(&mut after).ok()?;
            rest.len() - after.len()
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(rest).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (value, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(Field { number, wire_type, value })
}

fn write_field(number: u32, wire_type: WireType, value: &[u8], out: &mut Vec<u8>) {
    encode_key(number, wire_type, out);
    if wire_type == WireType::LengthDelimited {
        encode_varint(value.len() as u64, out);
    }
    out.extend_from_slice(value);
}

/// The message that an encoded `Any` holds, by the name after the last slash of its first field.
fn packed_type(pool: &DescriptorPool, mut any: &[u8]) -> Option<MessageDescriptor> {
    let url = next_field(&mut any).filter(|field| field.number == 1)?;
    let name = std::str::from_utf8(url.value).ok()?.rsplit('/').next()?;
    pool.get_message_by_name(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::collections::HashMap;

    use envoy_types::pb::{
        envoy::config::{
            core::v3::Metadata,
            route::v3::{Route, RouteConfiguration, VirtualHost},
        },
        google::protobuf::Any,
    };
    use prost::{Message, Name};

    use super::*;
    use crate::xds::{metadata::structure, value::any};

    fn descriptor<M: Name>() -> MessageDescriptor {
        proto::descriptors::pool().unwrap().get_message_by_name(&M::full_name()).unwrap()
    }

    /// Twenty entries in each map, so that two equal maps iterate alike only by a miracle.
    fn configuration() -> RouteConfiguration {
        let keys: Vec<String> = (0..20).map(|key| format!("key-{key}")).collect();
        let fields = || structure(keys.iter().map(|key| (key.as_str(), "value")));
        let metadata = Metadata {
            filter_metadata: keys.iter().map(|key| (key.clone(), fields())).collect(),
            ..Default::default()
        };
        let typed: HashMap<String, Any> = keys.iter().map(|key| (key.clone(), any(&metadata))).collect();
        let route = Route { name: "route".into(), typed_per_filter_config: typed, ..Default::default() };
        let host = VirtualHost { routes: vec![route], metadata: Some(metadata), ..Default::default() };
        RouteConfiguration { name: "routes".into(), virtual_hosts: vec![host], ..Default::default() }
    }

    #[test]
    fn equal_messages_are_equal_bytes_and_still_the_same_message() {
        let descriptor = descriptor::<RouteConfiguration>();
        let (a, b) = (configuration(), configuration());
        assert_ne!(a.encode_to_vec(), b.encode_to_vec());
        let bytes = sorted(&descriptor, &a.encode_to_vec());
        assert_eq!(bytes, sorted(&descriptor, &b.encode_to_vec()));
        let read = RouteConfiguration::decode(bytes.as_slice()).unwrap();
        assert_eq!(read.virtual_hosts[0].metadata, a.virtual_hosts[0].metadata);
        assert_eq!(read.virtual_hosts[0].routes[0].typed_per_filter_config.len(), 20);
    }

    #[test]
    fn the_order_of_lists_stays() {
        let descriptor = descriptor::<RouteConfiguration>();
        let configuration =
            RouteConfiguration { internal_only_headers: vec!["b".into(), "a".into()], ..Default::default() };
        let bytes = sorted(&descriptor, &configuration.encode_to_vec());
        assert_eq!(RouteConfiguration::decode(bytes.as_slice()).unwrap(), configuration);
    }

    #[test]
    fn what_is_no_message_stays_as_it_is() {
        let descriptor = descriptor::<RouteConfiguration>();
        for bytes in [&[0x0a, 0xff][..], &[0xff; 12], &[0x0b]] {
            assert_eq!(sorted(&descriptor, bytes), bytes);
        }
    }
}

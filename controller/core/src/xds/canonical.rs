//! One encoding for equal messages.
//!
//! Envoy's messages hold their maps in hash maps, whose order is another one in each process and each message. Sent like
//! that, nothing would ever look unchanged. So the entries of every map are sorted here, at any depth and within `Any`.
//! Sorting leaves every length as it is, so it happens in place, and what has no map anywhere below is not looked at.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::LazyLock,
};

use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{Kind, MessageDescriptor};

const ANY: &str = "google.protobuf.Any";

/// Sorts the entries of all maps of `message`, which is a `name`. What cannot be read stays as it is.
pub(super) fn sort(name: &str, message: &mut [u8]) {
    if let Some(index) = TABLE.by_name.get(name) {
        TABLE.sort(*index, message);
    }
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

/// The messages that can have a map somewhere below them, as indices.
struct Table {
    by_name: HashMap<String, usize>,
    /// For each the fields that lead there.
    messages: Vec<Vec<Field>>,
    any: Option<usize>,
}

#[derive(Clone, Copy)]
struct Field {
    number: u32,
    message: usize,
    is_map: bool,
}

impl Table {
    fn new() -> Self {
        let mut table = Self { by_name: HashMap::new(), messages: Vec::new(), any: None };
        let Ok(pool) = proto::descriptors::pool() else { return table };
        let all: Vec<MessageDescriptor> = pool.all_messages().collect();
        let names = with_maps(&all);
        let known: Vec<&MessageDescriptor> = all.iter().filter(|message| names.contains(message.full_name())).collect();
        table.by_name = known.iter().enumerate().map(|(index, known)| (known.full_name().to_owned(), index)).collect();
        table.any = table.by_name.get(ANY).copied();
        let fields = |message: &&MessageDescriptor| {
            let fields = message.fields().filter_map(|field| {
                let Kind::Message(inner) = field.kind() else { return None };
                // The entries of a map are sorted, whatever they hold; those that hold nothing to sort have no index.
                let inner = table.by_name.get(inner.full_name()).copied();
                let message = inner.or(field.is_map().then_some(usize::MAX))?;
                Some(Field { number: field.number(), message, is_map: field.is_map() })
            });
            fields.collect()
        };
        table.messages = known.iter().map(fields).collect();
        table
    }

    fn sort(&self, index: usize, message: &mut [u8]) {
        let Some(fields) = self.messages.get(index) else { return };
        if self.any == Some(index) {
            return self.sort_packed(message);
        }
        // Where the entries of one map stand, which come one after another.
        let mut entries: (u32, Vec<Entry>) = (0, Vec::new());
        let mut at = 0;
        while at < message.len() {
            let Some(found) = next(message, at) else { return };
            let field = fields.iter().find(|field| field.number == found.number);
            if let Some(field) = field.filter(|_| found.wire_type == WireType::LengthDelimited) {
                self.sort(field.message, &mut message[found.value.clone()]);
                if field.is_map {
                    if entries.0 != found.number {
                        order(message, &std::mem::replace(&mut entries, (found.number, Vec::new())).1);
                    }
                    entries.1.push(Entry { whole: at..found.value.end, value: found.value.clone() });
                }
            }
            at = found.value.end;
        }
        order(message, &entries.1);
    }

    /// Sorts what an `Any` holds, which is the message named after the last slash of its first field.
    fn sort_packed(&self, any: &mut [u8]) {
        let Some(url) = next(any, 0).filter(|field| field.number == 1) else { return };
        let name = std::str::from_utf8(&any[url.value.clone()]).ok().and_then(|url| url.rsplit('/').next());
        let Some(index) = name.and_then(|name| self.by_name.get(name)) else { return };
        if let Some(value) = next(any, url.value.end).filter(|field| field.number == 2) {
            self.sort(*index, &mut any[value.value]);
        }
    }
}

/// The names of messages that have a map or an `Any` somewhere below them.
fn with_maps(all: &[MessageDescriptor]) -> HashSet<String> {
    let mut above: HashMap<String, Vec<String>> = HashMap::new();
    let mut pending = vec![ANY.to_owned()];
    for message in all {
        for field in message.fields() {
            if let Kind::Message(inner) = field.kind() {
                above.entry(inner.full_name().to_owned()).or_default().push(message.full_name().to_owned());
            }
            if field.is_map() {
                pending.push(message.full_name().to_owned());
            }
        }
    }
    let mut names = HashSet::new();
    while let Some(name) = pending.pop() {
        if let Some(above) = above.get(&name).filter(|_| !names.contains(&name)) {
            pending.extend(above.iter().cloned());
        }
        names.insert(name);
    }
    names
}

/// One entry of a map: its bytes with and without tag and length.
struct Entry {
    whole: Range<usize>,
    value: Range<usize>,
}

/// Sorts entries that stand one after another.
fn order(message: &mut [u8], entries: &[Entry]) {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by(|a, b| message[a.value.clone()].cmp(&message[b.value.clone()]));
    let whole = first.whole.start..last.whole.end;
    let sorted: Vec<u8> = order.iter().flat_map(|entry| &message[entry.whole.clone()]).copied().collect();
    // Entries of a map that others stand between stay as they are.
    if sorted.len() == whole.len() {
        message[whole].copy_from_slice(&sorted);
    }
}

/// A field as it stands in an encoded message.
struct Found {
    number: u32,
    wire_type: WireType,
    value: Range<usize>,
}

/// The field that begins at `at`. `None` when the bytes are no message.
fn next(message: &[u8], at: usize) -> Option<Found> {
    let mut rest = message.get(at..)?;
    let (number, wire_type) = decode_key(&mut rest).ok()?;
    let length = match wire_type {
        WireType::Varint => {
            let mut after = rest;
            decode_varint(&mut after).ok()?;
            rest.len() - after.len()
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let start = message.len() - rest.len();
    (length <= rest.len()).then(|| Found { number, wire_type, value: start..start + length })
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

    fn sorted(message: &[u8]) -> Vec<u8> {
        let mut sorted = message.to_vec();
        sort(&RouteConfiguration::full_name(), &mut sorted);
        sorted
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
        let (a, b) = (configuration(), configuration());
        assert_ne!(a.encode_to_vec(), b.encode_to_vec());
        let bytes = sorted(&a.encode_to_vec());
        assert_eq!(bytes, sorted(&b.encode_to_vec()));
        let read = RouteConfiguration::decode(bytes.as_slice()).unwrap();
        assert_eq!(read.virtual_hosts[0].metadata, a.virtual_hosts[0].metadata);
        assert_eq!(read.virtual_hosts[0].routes[0].typed_per_filter_config.len(), 20);
    }

    #[test]
    fn the_order_of_lists_stays() {
        let configuration =
            RouteConfiguration { internal_only_headers: vec!["b".into(), "a".into()], ..Default::default() };
        let bytes = sorted(&configuration.encode_to_vec());
        assert_eq!(RouteConfiguration::decode(bytes.as_slice()).unwrap(), configuration);
    }

    #[test]
    fn what_is_no_message_stays_as_it_is() {
        for bytes in [&[0x0a, 0xff][..], &[0xff; 12], &[0x0b]] {
            assert_eq!(sorted(bytes), bytes);
        }
    }
}

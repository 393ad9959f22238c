//! JSON written as an encoded `google.protobuf.Struct`, a member at a time and without a tree between.

use bytes::BufMut;
use prost::encoding::{encode_varint, encoded_len_varint};
use serde_json::{Map, Value};

/// `Struct.fields`, `ListValue.values`, and the key of a map's entry: field 1, length-delimited.
pub(super) const FIRST: u8 = 1 << 3 | 2;
/// The value of a map's entry.
pub(super) const ENTRY_VALUE: u8 = 2 << 3 | 2;
/// The kinds of a `google.protobuf.Value`.
pub(super) const NULL: u8 = 1 << 3;
pub(super) const NUMBER: u8 = 2 << 3 | 1;
pub(super) const STRING: u8 = 3 << 3 | 2;
pub(super) const BOOL: u8 = 4 << 3;
pub(super) const STRUCT: u8 = 5 << 3 | 2;
pub(super) const LIST: u8 = 6 << 3 | 2;

/// A member that is a text.
pub(crate) struct Text<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
}

/// A member that is a list of texts.
pub(crate) struct Texts<'a> {
    pub(crate) name: &'a str,
    pub(crate) texts: &'a [String],
}

/// A member that is an object.
pub(crate) struct Object<'a> {
    pub(crate) name: &'a str,
    pub(crate) members: &'a Map<String, Value>,
}

impl Text<'_> {
    pub(crate) fn encoded_len(&self) -> usize {
        delimited(member_len(self.name, delimited(self.text.len())))
    }

    pub(crate) fn put(&self, buffer: &mut impl BufMut) {
        head(self.name, delimited(self.text.len()), buffer);
        bytes(STRING, self.text.as_bytes(), buffer);
    }
}

impl Texts<'_> {
    pub(crate) fn encoded_len(&self) -> usize {
        delimited(member_len(self.name, delimited(self.list_len())))
    }

    pub(crate) fn put(&self, buffer: &mut impl BufMut) {
        let length = self.list_len();
        head(self.name, delimited(length), buffer);
        prefix(LIST, length, buffer);
        for text in self.texts {
            prefix(FIRST, delimited(text.len()), buffer);
            bytes(STRING, text.as_bytes(), buffer);
        }
    }

    fn list_len(&self) -> usize {
        self.texts.iter().map(|text| delimited(delimited(text.len()))).sum()
    }
}

impl Object<'_> {
    pub(crate) fn encoded_len(&self) -> usize {
        delimited(member_len(self.name, delimited(members_len(self.members))))
    }

    pub(crate) fn put(&self, buffer: &mut impl BufMut) {
        let length = members_len(self.members);
        head(self.name, delimited(length), buffer);
        prefix(STRUCT, length, buffer);
        put_members(self.members, buffer);
    }
}

fn put_members(members: &Map<String, Value>, buffer: &mut impl BufMut) {
    for (name, value) in members {
        head(name, value_len(value), buffer);
        put_value(value, buffer);
    }
}

fn put_value(value: &Value, buffer: &mut impl BufMut) {
    match value {
        Value::Null => buffer.put_slice(&[NULL, 0]),
        Value::Bool(value) => buffer.put_slice(&[BOOL, u8::from(*value)]),
        Value::Number(number) => {
            buffer.put_u8(NUMBER);
            buffer.put_f64_le(number.as_f64().unwrap_or_default());
        }
        Value::String(text) => bytes(STRING, text.as_bytes(), buffer),
        Value::Array(values) => {
            prefix(LIST, values_len(values), buffer);
            for value in values {
                prefix(FIRST, value_len(value), buffer);
                put_value(value, buffer);
            }
        }
        Value::Object(members) => {
            prefix(STRUCT, members_len(members), buffer);
            put_members(members, buffer);
        }
    }
}

fn value_len(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 2,
        Value::Number(_) => 9,
        Value::String(text) => delimited(text.len()),
        Value::Array(values) => delimited(values_len(values)),
        Value::Object(members) => delimited(members_len(members)),
    }
}

fn values_len(values: &[Value]) -> usize {
    values.iter().map(|value| delimited(value_len(value))).sum()
}

fn members_len(members: &Map<String, Value>) -> usize {
    members.iter().map(|(name, value)| delimited(member_len(name, value_len(value)))).sum()
}

/// A map's entry, whose value takes so many bytes.
fn member_len(name: &str, value: usize) -> usize {
    delimited(name.len()) + delimited(value)
}

/// So many bytes with what stands before them.
fn delimited(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

/// All of a member but its value.
fn head(name: &str, value: usize, buffer: &mut impl BufMut) {
    prefix(FIRST, member_len(name, value), buffer);
    bytes(FIRST, name.as_bytes(), buffer);
    prefix(ENTRY_VALUE, value, buffer);
}

fn bytes(tag: u8, bytes: &[u8], buffer: &mut impl BufMut) {
    prefix(tag, bytes.len(), buffer);
    buffer.put_slice(bytes);
}

fn prefix(tag: u8, length: usize, buffer: &mut impl BufMut) {
    buffer.put_u8(tag);
    encode_varint(length as u64, buffer);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use envoy_types::pb::google::protobuf::Struct;
    use prost::Message as _;
    use serde_json::json;

    use super::*;
    use crate::claims;
    use crate::shared::Shared;

    #[test]
    fn what_is_written_is_what_protobuf_would_write() {
        let deep = (0..14).fold(json!("deep"), |inner, _| json!({ "inner": [inner] }));
        let long = "x".repeat(20_000);
        let claims = json!({
            "sub": "ada", "exp": 1_900_000_000_u64, "half": 0.5, "less": -3, "no": null, "yes": true, "not": false,
            "none": [], "empty": {}, "scope": "read write", "nested": {"list": [1, "two", [null], {"a": ""}]}, "deep": deep, "long": long,
        });
        let claims = claims.as_object().unwrap();
        let metadata = claims::metadata("main", claims.clone()).collect();
        let (written, expected) = (Shared::of_claims("main", claims), Shared::new(metadata));
        assert_eq!(written.metadata(), expected.metadata());
        assert_eq!(written.encoded_len(), expected.encoded_len());
        assert!(!written.metadata().is_empty());
    }

    #[test]
    fn a_member_without_a_name_stays_one() {
        let claims = json!({"": "no name", "sub": "ada"});
        let metadata = Shared::of_claims("main", claims.as_object().unwrap()).metadata();
        assert_eq!(metadata, claims::metadata("main", claims.as_object().unwrap().clone()).collect());
    }

    #[test]
    fn a_text_takes_the_bytes_that_it_says() {
        for text in [String::new(), "jwt".to_owned(), "x".repeat(300)] {
            let (member, mut written) = (Text { name: "method", text: &text }, Vec::new());
            member.put(&mut written);
            assert_eq!(written.len(), member.encoded_len());
            let read = Struct::decode(written.as_slice()).unwrap();
            assert_eq!(read.fields.get("method"), Some(&crate::verdict::text(&text)));
        }
    }
}

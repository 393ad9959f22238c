//! An encoded `google.protobuf.Struct` read a member at a time and without a tree between: the other way of [`super::encode`].

use prost::encoding::decode_varint;
use serde_json::{Map, Number, Value};

use super::encode::{BOOL, ENTRY_VALUE, FIRST, LIST, NULL, NUMBER, STRING, STRUCT};

/// The members of an object, each a name and an encoded `google.protobuf.Value`.
#[derive(Clone)]
pub(crate) struct Members<'a>(&'a [u8]);

/// One of a member's values, encoded.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'a>(&'a [u8]);

impl<'a> Members<'a> {
    /// Those of an encoded `Struct`.
    pub(crate) fn of(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    /// The member with exactly that name, else the one that the dots lead to.
    pub(crate) fn find(&self, path: &str) -> Option<Encoded<'a>> {
        self.get(path).or_else(|| {
            path.match_indices('.').find_map(|(dot, _)| {
                let inner = self.get(path.get(..dot)?)?.object()?;
                inner.find(path.get(dot + 1..)?)
            })
        })
    }

    fn get(&self, name: &str) -> Option<Encoded<'a>> {
        self.clone().find_map(|(known, value)| (known == name.as_bytes()).then_some(value))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], Encoded<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut entry = take(&mut self.0, FIRST)?;
        let name = take(&mut entry, FIRST)?;
        Some((name, Encoded(take(&mut entry, ENTRY_VALUE)?)))
    }
}

impl<'a> Encoded<'a> {
    /// The members of an object.
    pub(crate) fn object(mut self) -> Option<Members<'a>> {
        take(&mut self.0, STRUCT).map(Members)
    }

    /// The value as a tree; `None` for what was not written here.
    pub(crate) fn value(mut self) -> Option<Value> {
        let (tag, rest) = self.0.split_first()?;
        match *tag {
            NULL => Some(Value::Null),
            BOOL => Some(Value::Bool(*rest.first()? != 0)),
            NUMBER => number(f64::from_le_bytes(*rest.first_chunk()?)).map(Value::Number),
            STRING => Some(Value::String(text(take(&mut self.0, STRING)?)?)),
            LIST => {
                let (mut rest, mut values) = (take(&mut self.0, LIST)?, Vec::new());
                while let Some(value) = take(&mut rest, FIRST) {
                    values.push(Encoded(value).value()?);
                }
                Some(Value::Array(values))
            }
            _ => {
                let members = self.object()?.map(|(name, value)| Some((text(name)?, value.value()?)));
                members.collect::<Option<Map<_, _>>>().map(Value::Object)
            }
        }
    }
}

/// Whether a value reads the same when it has been a protobuf value, whose numbers are doubles and have no sign of a fraction.
pub(crate) fn survives(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => {
            number.as_f64().and_then(self::number).is_some_and(|same| same.to_string() == number.to_string())
        }
        Value::Array(values) => values.iter().all(survives),
        Value::Object(members) => members.values().all(survives),
    }
}

/// A whole number if it may have been one.
fn number(double: f64) -> Option<Number> {
    /// Up to here doubles tell all whole numbers apart.
    const EXACT: f64 = 9_007_199_254_740_991.0;
    if double.fract() == 0.0 && double.abs() <= EXACT {
        return format!("{double:.0}").parse::<i64>().ok().map(Number::from);
    }
    Number::from_f64(double)
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// What stands behind this tag, if it comes next.
fn take<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (first, mut after) = rest.split_first()?;
    if *first != tag {
        return None;
    }
    let length = usize::try_from(decode_varint(&mut after).ok()?).ok()?;
    let (bytes, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::claims;
    use crate::shared::Shared;

    fn any_json() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1_000_000_i64..1_000_000).prop_map(Value::from),
            any::<f64>().prop_map(|double| Number::from_f64(double).map_or(Value::Null, Value::Number)),
            (-50_i32..50).prop_map(|whole| Value::from(f64::from(whole))),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            number,
            ".{0,6}".prop_map(Value::String)
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::btree_map("[a.]{0,3}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_survives_reads_as_it_was_and_is_found_where_it_was(
            members in prop::collection::btree_map("[a.]{0,3}", any_json(), 0..6),
            path in "[a.]{0,5}",
        ) {
            let claims: Map<String, Value> = members.into_iter().collect();
            let shared = Shared::of_claims("main", &claims);
            let found = shared.claims().and_then(|members| members.find(&path)).map(|value| value.value().unwrap());
            let expected = claims::find(&claims, &path);
            prop_assert_eq!(found.is_some(), expected.is_some());
            if let Some(expected) = expected {
                let (read, written) = (found.unwrap().to_string(), expected.to_string());
                prop_assert_eq!(read == written, survives(expected), "{}", expected);
            }
        }

        #[test]
        fn bytes_of_somebody_else_are_no_members_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for (_, value) in Members::of(&bytes) {
                value.value();
            }
            Members::of(&bytes).find("a.b");
        }
    }

    #[test]
    fn numbers_that_doubles_cannot_tell_do_not_survive() {
        for (value, whole) in [
            (json!(9_007_199_254_740_991_u64), true),
            (json!(9_007_199_254_740_993_u64), false),
            (json!(u64::MAX), false),
            (json!(-3), true),
            (json!(0.5), true),
            (json!(1.0), false),
            (json!(-0.0), false),
            (json!(1e300), true),
            (json!({"a": [1, {"b": 1.0}]}), false),
        ] {
            assert_eq!(survives(&value), whole, "{value}");
        }
    }
}

//! Reads what most files are made of, in half the time that serde-saphyr takes: block and flow collections and plain or quoted
//! scalars, by the same parser, without places. What could mean something else (anchors, tags, merge keys, numbers in odd
//! notations …) or is wrong it leaves to serde-saphyr, and says nothing but that.

use std::{borrow::Cow, fmt};

use granit_parser::{Event, Parser, ScalarStyle, StrInput};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
    forward_to_deserialize_any,
};

/// Collections within each other; what is deeper is left to who counts in bytes of stack.
const DEPTH: usize = 32;

/// The value of a text's one document, or `None` where a more thorough reader has to say what it is.
pub(super) fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Option<T> {
    let mut nodes = Nodes { events: Parser::new_from_str(text), next: None, depth: 0 };
    nodes.expect(|event| matches!(event, Event::StreamStart)).ok()?;
    nodes.expect(|event| matches!(event, Event::DocumentStart(_, None))).ok()?;
    let value = T::deserialize(&mut nodes).ok()?;
    nodes.expect(|event| matches!(event, Event::DocumentEnd)).ok()?;
    nodes.expect(|event| matches!(event, Event::StreamEnd)).ok()?;
    Some(value)
}

/// The nodes of a document that are yet to be read.
struct Nodes<'de> {
    events: Parser<'de, StrInput<'de>>,
    next: Option<Event<'de>>,
    depth: usize,
}

/// Not for this reader.
#[derive(Debug)]
struct Unusual;

impl fmt::Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unusual")
    }
}

impl std::error::Error for Unusual {}

impl de::Error for Unusual {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Nodes<'de> {
    fn peek(&mut self) -> Result<&Event<'de>, Unusual> {
        let event = match self.next.take() {
            Some(event) => event,
            None => self.event()?,
        };
        Ok(self.next.insert(event))
    }

    fn take(&mut self) -> Result<Event<'de>, Unusual> {
        match self.next.take() {
            Some(event) => Ok(event),
            None => self.event(),
        }
    }

    fn event(&mut self) -> Result<Event<'de>, Unusual> {
        match self.events.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(_)) | None => Err(Unusual),
        }
    }

    fn expect(&mut self, is_expected: impl Fn(&Event<'de>) -> bool) -> Result<(), Unusual> {
        if is_expected(&self.take()?) { Ok(()) } else { Err(Unusual) }
    }

    /// A scalar without anchor or tag, and whether it stands there without quotes.
    fn scalar(&mut self) -> Result<(Cow<'de, str>, bool), Unusual> {
        match self.take()? {
            Event::Scalar(text, style, 0, None) => Ok((text, style == ScalarStyle::Plain)),
            _ => Err(Unusual),
        }
    }

    /// Text that is not nothing.
    fn text(&mut self) -> Result<Cow<'de, str>, Unusual> {
        match self.scalar()? {
            (text, true) if is_null(&text) => Err(Unusual),
            (text, _) => Ok(text),
        }
    }

    fn fields<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Unusual> {
        self.expect(|event| matches!(event, Event::MappingStart(_, 0, None)))?;
        let value = self.collection(|nodes| visitor.visit_map(nodes))?;
        self.expect(|event| matches!(event, Event::MappingEnd))?;
        Ok(value)
    }

    fn collection<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Unusual>) -> Result<T, Unusual> {
        if self.depth == DEPTH {
            return Err(Unusual);
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }
}

fn is_null(plain: &str) -> bool {
    matches!(plain, "" | "~" | "null" | "Null" | "NULL")
}

/// A number as everybody writes it.
fn whole_number(plain: &str) -> Result<u64, Unusual> {
    let is_usual = plain == "0" || !plain.starts_with('0');
    let digits = plain.bytes().all(|byte| byte.is_ascii_digit());
    if is_usual && digits { plain.parse().map_err(|_| Unusual) } else { Err(Unusual) }
}

/// Plain text that no reader takes for anything else.
fn is_word(plain: &str) -> bool {
    const ELSE: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    plain.starts_with(|first: char| first.is_ascii_alphabetic())
        && !ELSE.iter().any(|other| plain.eq_ignore_ascii_case(other))
}

impl<'de> Deserializer<'de> for &mut Nodes<'de> {
    type Error = Unusual;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        match self.peek()? {
            Event::SequenceStart(..) => self.deserialize_seq(visitor),
            Event::MappingStart(..) => self.fields(visitor),
            _ => match self.scalar()? {
                (text, true) if text == "true" || text == "false" => visitor.visit_bool(text == "true"),
                (text, true) if text == "true" => visitor.visit_bool(true),
                (text, true) if text == "false" => visitor.visit_bool(false),
                (text, true) if !is_word(&text) => visitor.visit_u64(whole_number(&text)?),
                (Cow::Borrowed(text), _) => visitor.visit_borrowed_str(text),
                (Cow::Owned(text), _) => visitor.visit_string(text),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        match self.peek()? {
            Event::Scalar(text, ScalarStyle::Plain, 0, None) if is_null(text) => {
                self.take()?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        match self.scalar()? {
            (text, true) if text == "true" => visitor.visit_bool(true),
            (text, true) if text == "false" => visitor.visit_bool(false),
            _ => Err(Unusual),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        match self.scalar()? {
            (text, true) => visitor.visit_u64(whole_number(&text)?),
            _ => Err(Unusual),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        match self.text()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        self.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unusual> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unusual> {
        self.expect(|event| matches!(event, Event::SequenceStart(_, 0, None)))?;
        let value = self.collection(|nodes| visitor.visit_seq(nodes))?;
        self.expect(|event| matches!(event, Event::SequenceEnd))?;
        Ok(value)
    }

    /// Only the visitors of structs see to it that no key is there twice.
    fn deserialize_map<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unusual> {
        Err(Unusual)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unusual> {
        self.fields(visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum ignored_any
    }
}

impl<'de> SeqAccess<'de> for &mut Nodes<'de> {
    type Error = Unusual;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Unusual> {
        match self.peek()? {
            Event::SequenceEnd => Ok(None),
            _ => seed.deserialize(&mut **self).map(Some),
        }
    }
}

impl<'de> MapAccess<'de> for &mut Nodes<'de> {
    type Error = Unusual;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Unusual> {
        match self.peek()? {
            Event::MappingEnd => Ok(None),
            _ => seed.deserialize(&mut **self).map(Some),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Unusual> {
        seed.deserialize(&mut **self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::super::{Document, Domain, plain};

    fn rules(document: Document) -> String {
        let mut problems = vec![];
        let domain = Domain::build(document, &mut problems);
        let problems: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
        format!("{} {:?} {problems:?}", domain.name(), domain.rules())
    }

    /// Scalars that readers of YAML have different opinions about, and some that they agree on.
    fn scalar() -> impl Strategy<Value = &'static str> {
        let scalars = "a|a b|a_b|5|0|01|0x1f|0o17|1_000|+5|-5|1.0|1e3|.inf|.nan|1:30|2026-11-21|4294967295|4294967296|~|null|Null|NULL|nUll|\
            true|True|TRUE|false|yes|No|on|OFF|y|n|=|<<|''|'null'|'5'|\"5\"|\"\\u0041\\n\"|'a*'|a*|é|!!str 5|!!int '5'|!a b|&a b|*a|[]|[a]|{}|{a: b}|\
            minute|Hour|gcra|SLIDING-WINDOW|deny|a # b|a#b|>|'it''s'|-|?|a: b|a:b|,";
        select(scalars.split('|').collect::<Vec<_>>())
    }

    fn field() -> impl Strategy<Value = String> {
        let names = "key|value|shadow_mode|quota_mode|metadata|descriptors|rate_limit|surprise|? key";
        (select(names.split('|').collect::<Vec<_>>()), scalar())
            .prop_map(|(name, scalar)| format!("    {name}: {scalar}\n"))
    }

    fn limit() -> impl Strategy<Value = String> {
        let names = "unit|requests_per_unit|unlimited|leases|name|unit_multiplier|algorithm|burst|on_store_loss|onStoreLoss|leases|replaces|<<";
        let field = (select(names.split('|').collect::<Vec<_>>()), scalar());
        let field = field.prop_map(|(name, scalar)| format!("      {name}: {scalar}\n"));
        vec(field, 0..3).prop_map(|fields| format!("    rate_limit:\n      unit: day\n{}", fields.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_plain_means_the_same_to_the_thorough_reader(
            domain in scalar(), fields in vec(field(), 0..3), limit in limit(), end in select(vec!["", "...\n", "---\n", "---\na\n", "\t", "# x"]),
        ) {
            let text = format!("domain: {domain}\ndescriptors:\n  - key: k\n{}{limit}{end}", fields.concat());
            if let Some(document) = plain::read::<Document>(&text) {
                let thorough = super::super::read::<Document>(&text);
                prop_assert!(thorough.is_ok(), "{text}\n{thorough:?}");
                prop_assert_eq!(rules(document), rules(thorough.unwrap()), "{}", text);
            }
        }
    }

    #[test]
    fn ordinary_files_are_plain() {
        for text in [
            include_str!("../../../tests/suite/config/good/algorithms.yaml"),
            include_str!("../../../tests/suite/config/good/every_unit.yaml"),
        ] {
            assert!(plain::read::<Document>(text).is_some(), "{text}");
        }
        let text = "# a\ndomain: d # b\ndescriptors:\n- key: 'a'\n  value: \"b\\n\"\n  shadow_mode: true\n  descriptors:\n  \
                    rate_limit: {unit: day, requests_per_unit: 0, algorithm: gcra, unit_multiplier: 2}\n";
        assert!(plain::read::<Document>(text).is_some());
    }

    #[test]
    fn depth_is_bounded() {
        let text = format!("domain: d\ndescriptors: {}", "[{key: a, descriptors: ".repeat(100_000));
        assert!(plain::read::<Document>(&text).is_none());
    }
}

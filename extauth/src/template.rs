//! Texts with places for what is known about who sent a request.

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::Value;
use envoy_types::pb::google::protobuf::value::Kind;

use crate::rules::claim;

/// A text with `{…}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A text of the metadata.
    Known(&'static str),
    Label(String),
    Claim(String),
}

const KNOWN: [&str; 5] = ["client", "tier", "tenant", "method", "scopes"];

impl Template {
    /// Reads a text; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("has a `{` without its `}`")?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::parse(name)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The text for somebody; none when something in it is not known.
    pub fn text(&self, metadata: &HashMap<String, Value>) -> Option<String> {
        self.0.iter().map(|part| part.text(metadata)).collect()
    }

    /// The same as a value: what stands alone keeps its type.
    pub fn value(&self, metadata: &HashMap<String, Value>) -> Option<Value> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(crate::verdict::text(text)),
            [alone] => alone.find(metadata).cloned(),
            _ => self.text(metadata).map(|text| crate::verdict::text(&text)),
        }
    }

    /// Whether it is the same for everybody.
    pub fn is_constant(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }
}

impl Part {
    fn parse(name: &str) -> Result<Self, String> {
        if let Some(known) = KNOWN.into_iter().find(|known| *known == name) {
            return Ok(Self::Known(known));
        }
        match name.split_once('.') {
            Some(("labels", label)) if !label.is_empty() => Ok(Self::Label(label.to_owned())),
            Some(("claims", path)) if !path.is_empty() => Ok(Self::Claim(path.to_owned())),
            _ => Err(format!("has `{{{name}}}`, which is none of {}, labels.NAME and claims.PATH", KNOWN.join(", "))),
        }
    }

    fn find<'a>(&self, metadata: &'a HashMap<String, Value>) -> Option<&'a Value> {
        match self {
            Self::Text(_) => None,
            Self::Known(name) => metadata.get(*name),
            Self::Label(label) => match &metadata.get("labels")?.kind {
                Some(Kind::StructValue(labels)) => labels.fields.get(label),
                _ => None,
            },
            Self::Claim(path) => claim::claims(metadata, None).find_map(|claims| claim::find(claims, path)),
        }
    }

    fn text(&self, metadata: &HashMap<String, Value>) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            other => text(other.find(metadata)?),
        }
    }
}

/// A scalar, or a list of them joined by commas, as headers have it.
fn text(value: &Value) -> Option<String> {
    match value.kind.as_ref()? {
        Kind::ListValue(list) => {
            let texts = list.values.iter().map(scalar).collect::<Option<Vec<_>>>()?;
            // An element with a comma would read as two.
            (!texts.is_empty() && !texts.iter().any(|text| text.contains(','))).then(|| texts.join(","))
        }
        _ => scalar(value),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value.kind.as_ref()? {
        Kind::StringValue(text) => (!text.is_empty()).then(|| text.clone()),
        Kind::NumberValue(number) => Some(number.to_string()),
        Kind::BoolValue(value) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn unknown_places_are_errors() {
        for bad in ["{", "{client", "{claims}", "{claims.}", "{labels}", "{password}", "{}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
        assert!(Template::parse("}static").unwrap().is_constant());
    }

    #[test]
    fn what_is_not_known_takes_the_text_along() {
        let metadata = HashMap::from([("client".to_owned(), crate::verdict::text("acme"))]);
        let text = |text: &str| Template::parse(text).unwrap().text(&metadata);
        assert_eq!(text("c={client};").as_deref(), Some("c=acme;"));
        assert_eq!(text("{client}/{tier}"), None);
        assert_eq!(text("{claims.client}"), None, "metadata is no claim");
    }
}

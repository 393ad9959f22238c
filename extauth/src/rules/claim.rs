//! Claims, scopes, roles and groups in the metadata of a grant.

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

use crate::method::{Invalid, jwt};

/// A condition on one claim.
#[derive(Debug)]
pub(super) struct Claim {
    path: String,
    provider: Option<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    OneOf(Vec<String>),
    Contains(String),
    Present(bool),
}

type Metadata = HashMap<String, Value>;

impl Claim {
    pub(super) fn compile(condition: &proto::extauth::ClaimCondition, providers: &[&str]) -> Result<Self, Invalid> {
        if condition.claim.is_empty() {
            return Err(Invalid::new("claim", "is empty"));
        }
        if let Some(provider) = &condition.provider
            && !providers.contains(&provider.as_str())
        {
            return Err(Invalid::new("provider", "is the name of no method of this policy"));
        }
        let test = match (&condition.exact, condition.one_of.as_slice(), &condition.contains, condition.present) {
            (Some(value), [], None, None) => Test::OneOf(vec![value.clone()]),
            (None, values @ [_, ..], None, None) => Test::OneOf(values.to_vec()),
            (None, [], Some(value), None) => Test::Contains(value.clone()),
            (None, [], None, Some(present)) => Test::Present(present),
            _ => return Err(Invalid::new("claim", "takes exactly one of `exact`, `in`, `contains` and `present`")),
        };
        if let Test::OneOf(values) = &test
            && values.iter().any(String::is_empty)
        {
            return Err(Invalid::new("claim", "is compared with nothing; an empty claim is no claim"));
        }
        Ok(Self { path: condition.claim.clone(), provider: condition.provider.clone(), test })
    }

    pub(super) fn holds(&self, metadata: &Metadata) -> bool {
        let value = claims(metadata, self.provider.as_deref()).find_map(|claims| find(claims, &self.path));
        let value = value.filter(|value| !matches!(value.kind, None | Some(Kind::NullValue(_))));
        match (&self.test, value) {
            (Test::Present(present), value) => *present == value.is_some(),
            (_, None) => false,
            (Test::OneOf(texts), Some(value)) => texts.iter().any(|text| is(value, text)),
            (Test::Contains(text), Some(value)) => list(value).iter().any(|value| is(value, text)),
        }
    }
}

/// The claims of all providers, or of one.
pub(crate) fn claims<'a>(metadata: &'a Metadata, provider: Option<&'a str>) -> impl Iterator<Item = &'a Struct> {
    let theirs = move |name: &str| match provider {
        Some(provider) => name == provider,
        None => !jwt::RESERVED.contains(&name),
    };
    metadata.iter().filter(move |(name, _)| theirs(name)).filter_map(|(_, value)| match &value.kind {
        Some(Kind::StructValue(claims)) => Some(claims),
        _ => None,
    })
}

/// The claim with exactly that name, else the one that the dots lead to.
pub(crate) fn find<'a>(claims: &'a Struct, path: &str) -> Option<&'a Value> {
    claims.fields.get(path).or_else(|| {
        path.match_indices('.').find_map(|(dot, _)| match &claims.fields.get(path.get(..dot)?)?.kind {
            Some(Kind::StructValue(inner)) => find(inner, path.get(dot + 1..)?),
            _ => None,
        })
    })
}

/// Up to here, doubles tell whole numbers apart.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn is(value: &Value, text: &str) -> bool {
    match &value.kind {
        Some(Kind::StringValue(value)) => value == text,
        // Beyond it, a double stands for more than one number.
        Some(Kind::NumberValue(number)) => number.abs() < EXACT && text.parse() == Ok(*number),
        Some(Kind::BoolValue(value)) => text.parse() == Ok(*value),
        _ => false,
    }
}

fn list(value: &Value) -> &[Value] {
    match &value.kind {
        Some(Kind::ListValue(list)) => &list.values,
        _ => &[],
    }
}

/// A text of the metadata itself, such as the client.
pub(super) fn text<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a str> {
    match metadata.get(name)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Whether a scope was granted: to a key, or by one of the claims in which tokens carry them, as a list or as one text.
pub(super) fn has_scope(metadata: &Metadata, scope: &str) -> bool {
    let among = |value: &Value| match &value.kind {
        Some(Kind::StringValue(text)) => text.split(' ').any(|granted| granted == scope),
        _ => list(value).iter().any(|value| is(value, scope)),
    };
    let claimed = || claims(metadata, None).flat_map(|claims| ["scope", "scp"].map(|name| claims.fields.get(name)));
    metadata.get("scopes").is_some_and(among) || claimed().flatten().any(among)
}

/// Whether one of the claims at these places is, or lists, the text.
pub(super) fn has(metadata: &Metadata, places: &[&str], text: &str) -> bool {
    let values = claims(metadata, None).flat_map(|claims| places.iter().filter_map(|place| find(claims, place)));
    values.into_iter().any(|value| is(value, text) || list(value).iter().any(|value| is(value, text)))
}

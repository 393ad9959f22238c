//! What is known about somebody as JSON: how a claim is found, how it reads as a header, and which scopes it names.

use std::borrow::Cow;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value as ProtoValue};
use http::HeaderName;
use proto::extauth::{ClaimToHeader, Format, RequiredClaim};
use serde_json::{Map, Number, Value};

use crate::method::Invalid;
use crate::verdict::text as proto_text;
use crate::{header, json};

/// The members of a token, or of an answer about one.
pub(crate) type Claims = Map<String, Value>;

/// Where claims are looked up.
pub(crate) trait Lookup {
    /// The claim with exactly that name, else the one that the dots lead to.
    fn find(&self, path: &str) -> Option<Cow<'_, Value>>;
}

impl Lookup for Claims {
    fn find(&self, path: &str) -> Option<Cow<'_, Value>> {
        find(self, path).map(Cow::Borrowed)
    }
}

/// Key of the granted scopes in the metadata.
pub(crate) const SCOPES: &str = "scopes";

/// A claim would break out of the header that it is to go out in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfit;

/// Which claims go out as headers.
#[derive(Debug)]
pub(crate) struct ToHeaders(Vec<ToHeader>);

#[derive(Debug)]
struct ToHeader {
    claim: String,
    header: HeaderName,
    format: Format,
}

impl ToHeaders {
    /// Checks the configured claims and headers.
    pub(crate) fn compile(configured: &[ClaimToHeader]) -> Result<Self, Invalid> {
        let mut headers: Vec<ToHeader> = Vec::new();
        for (index, ClaimToHeader { claim, header, format }) in configured.iter().enumerate() {
            let field = |name| format!("claimsToHeaders[{index}].{name}");
            if claim.is_empty() {
                return Err(Invalid::new(field("claim"), "is empty"));
            }
            let name = header::name(header).map_err(|e| Invalid::new(field("header"), &e))?;
            if headers.iter().any(|other| other.header == name) {
                return Err(Invalid::new(field("header"), &format!("`{name}` is already set from another claim")));
            }
            headers.push(ToHeader { claim: claim.clone(), header: name, format: *format });
        }
        Ok(Self(headers))
    }

    /// Every header that may be set.
    pub(crate) fn names(&self) -> Vec<HeaderName> {
        self.0.iter().map(|to| to.header.clone()).collect()
    }

    /// The headers that these claims make: none for a claim that is missing, empty, or nothing that its format can write.
    pub(crate) fn of(&self, claims: &impl Lookup) -> Result<Vec<(HeaderName, String)>, Unfit> {
        let mut headers = Vec::with_capacity(self.0.len());
        for ToHeader { claim, header, format } in &self.0 {
            let Some(value) = claims.find(claim) else { continue };
            let text = match format {
                Format::Text => text(&value)?,
                Format::Json => Some(value.to_string()).filter(|_| !value.is_null()),
            };
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                header::value(&text).map_err(|_| Unfit)?;
                headers.push((header.clone(), text));
            }
        }
        Ok(headers)
    }
}

/// Checks the configured claims.
pub(crate) fn check_required(required: &[RequiredClaim]) -> Result<(), Invalid> {
    let empty = required.iter().position(|required| required.claim.is_empty());
    empty.map_or(Ok(()), |index| Err(Invalid::new(format!("requiredClaims[{index}].claim"), "is empty")))
}

/// Whether a claim is there, and says what it must.
pub(crate) fn has(claims: &Claims, RequiredClaim { claim, values }: &RequiredClaim) -> bool {
    match find(claims, claim) {
        None | Some(Value::Null) => false,
        Some(_) if values.is_empty() => true,
        Some(Value::Array(elements)) => elements.iter().any(|element| values.contains(element)),
        Some(value) => values.contains(value),
    }
}

/// The scopes of a token: `scope` is a list in a text (RFC 8693, section 4.2), `scp` what some issuers write instead.
pub(crate) fn scopes(claims: &Claims) -> Vec<String> {
    match claims.get("scope").or_else(|| claims.get("scp")) {
        Some(Value::String(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// What the metadata says of a token: its claims under the provider's name, and its scopes.
pub(crate) fn metadata(provider: &str, claims: Claims) -> impl Iterator<Item = (String, ProtoValue)> {
    let scopes = scopes(&claims);
    let values = scopes.iter().map(|scope| proto_text(scope)).collect();
    let scopes = (!scopes.is_empty())
        .then(|| (SCOPES.to_owned(), ProtoValue { kind: Some(Kind::ListValue(ListValue { values })) }));
    let fields = claims.into_iter().map(|(name, value)| (name, json::value(value))).collect();
    let claims = ProtoValue { kind: Some(Kind::StructValue(Struct { fields })) };
    scopes.into_iter().chain([(provider.to_owned(), claims)])
}

/// The claim with exactly that name, else the one that the dots lead to.
pub(crate) fn find<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    claims.get(path).or_else(|| {
        path.match_indices('.').find_map(|(dot, _)| {
            let inner = claims.get(path.get(..dot)?)?.as_object()?;
            find(inner, path.get(dot + 1..)?)
        })
    })
}

fn text(value: &Value) -> Result<Option<String>, Unfit> {
    let Value::Array(values) = value else { return Ok(scalar(value)) };
    let Some(texts) = values.iter().map(scalar).collect::<Option<Vec<_>>>() else { return Ok(None) };
    // An element with a comma would read as two.
    if texts.iter().any(|text| text.contains(',')) { Err(Unfit) } else { Ok(Some(texts.join(","))) }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(Number::to_string(number)),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

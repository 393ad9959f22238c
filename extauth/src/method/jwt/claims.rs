//! What the claims of a token must say (RFC 7519, section 4.1), and how they read as headers.

use serde_json::{Map, Number, Value};

use super::Error;
use crate::header;

type Claims = Map<String, Value>;

/// Whether the token says that it is the provider's: one text, where the library would take a list as well.
pub(super) fn issuer(claims: &Claims, expected: &str) -> Result<(), Error> {
    if claims.get("iss").and_then(Value::as_str) == Some(expected) { Ok(()) } else { Err(Error::Issuer) }
}

/// When a token is valid, in seconds since 1970 and with the leeway already given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    from: u64,
    until: u64,
}

impl Lifetime {
    /// From `nbf` on and before `exp`; `exp` must be there, and both must be numbers.
    pub(super) fn of(claims: &Claims, leeway: u64) -> Result<Self, Error> {
        let expires = claims.get("exp").and_then(seconds).ok_or(Error::NoExpiration)?;
        let not_before = claims.get("nbf").map_or(Some(0), seconds).ok_or(Error::NotYetValid)?;
        Ok(Self { from: not_before.saturating_sub(leeway), until: expires.saturating_add(leeway) })
    }

    pub(super) fn check(self, now: u64) -> Result<(), Error> {
        if now >= self.until {
            Err(Error::Expired)
        } else if now < self.from {
            Err(Error::NotYetValid)
        } else {
            Ok(())
        }
    }

    /// Seconds since 1970 at which the token is worth nothing any more.
    pub(super) fn until(self) -> u64 {
        self.until
    }
}

/// A `NumericDate`, cut to whole seconds. Texts, negative numbers and such that a double cannot tell apart are none.
fn seconds(value: &Value) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = value.as_number()?.as_f64()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked right here")]
    (0.0..=EXACT).contains(&number).then_some(number as u64)
}

/// A claim as a header value: `None` when the token lacks it or holds what no header can (an object, null, nothing).
pub(super) fn header(claims: &Claims, path: &str) -> Result<Option<String>, Error> {
    let Some(text) = find(claims, path).and_then(text) else { return Ok(None) };
    let text = text?;
    header::value(&text).map_err(|_| Error::Claim)?;
    Ok((!text.is_empty()).then_some(text))
}

/// The claim with exactly that name, else the one that the dots lead to.
fn find<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    claims.get(path).or_else(|| {
        path.match_indices('.').find_map(|(dot, _)| {
            let inner = claims.get(path.get(..dot)?)?.as_object()?;
            find(inner, path.get(dot + 1..)?)
        })
    })
}

fn text(value: &Value) -> Option<Result<String, Error>> {
    match value {
        Value::Array(values) => {
            let texts = values.iter().map(scalar).collect::<Option<Vec<_>>>()?;
            // An element with a comma would read as two.
            Some(if texts.iter().any(|text| text.contains(',')) { Err(Error::Claim) } else { Ok(texts.join(",")) })
        }
        other => scalar(other).map(Ok),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(Number::to_string(number)),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

//! What the claims of a token must say (RFC 7519, section 4.1).

use serde_json::Value;

use super::Error;
use crate::claims::Claims;
use crate::pattern::starred;

/// Whether the token says that it is the provider's: one text, and no list.
pub(super) fn issuer(claims: &Claims, expected: &str) -> Result<(), Error> {
    if claims.get("iss").and_then(Value::as_str) == Some(expected) { Ok(()) } else { Err(Error::Issuer) }
}

/// Whether the token is for one of the audiences: a text, or a list of texts and of nothing else.
pub(crate) fn audience(aud: Option<&Value>, accepted: &[String]) -> bool {
    let accepts = |text: &str| accepted.iter().any(|audience| audience == text);
    match aud {
        Some(Value::String(text)) => accepts(text),
        Some(Value::Array(values)) => {
            let texts = values.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
            texts.is_some_and(|texts| texts.into_iter().any(accepts))
        }
        _ => false,
    }
}

/// Whether the token is about one of the subjects, if there are any.
pub(super) fn subject(claims: &Claims, accepted: &[String]) -> Result<(), Error> {
    let subject = claims.get("sub").and_then(Value::as_str).filter(|subject| !subject.is_empty());
    let accepts = |subject: &str| accepted.iter().any(|pattern| starred(pattern, subject));
    if accepted.is_empty() || subject.is_some_and(accepts) { Ok(()) } else { Err(Error::Subject) }
}

/// When a token is valid, in seconds since 1970 and with the leeway already given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    from: u64,
    until: u64,
    /// Before that it has more time left than it may.
    short: u64,
}

/// What a provider asks of a token's times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) leeway: u64,
    pub(super) require_expiration: bool,
    pub(super) max_lifetime: Option<u64>,
}

impl Lifetime {
    /// From `nbf` on and before `exp`; both must be numbers where they are there.
    pub(super) fn of(claims: &Claims, times: Times) -> Result<Self, Error> {
        let Times { leeway, require_expiration, max_lifetime } = times;
        let expires = match claims.get("exp") {
            None if !require_expiration && max_lifetime.is_none() => None,
            exp => Some(exp.and_then(seconds).ok_or(Error::NoExpiration)?),
        };
        let not_before = claims.get("nbf").map_or(Some(0), seconds).ok_or(Error::NotYetValid)?;
        let short = max_lifetime
            .zip(expires)
            .map_or(0, |(longest, expires)| expires.saturating_sub(longest).saturating_sub(leeway));
        Ok(Self {
            from: not_before.saturating_sub(leeway),
            until: expires.map_or(u64::MAX, |expires| expires.saturating_add(leeway)),
            short,
        })
    }

    pub(super) fn check(self, now: u64) -> Result<(), Error> {
        if now >= self.until {
            Err(Error::Expired)
        } else if now < self.from {
            Err(Error::NotYetValid)
        } else if now < self.short {
            Err(Error::Lifetime)
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
pub(crate) fn seconds(value: &Value) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = value.as_number()?.as_f64()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked right here")]
    (0.0..=EXACT).contains(&number).then_some(number as u64)
}

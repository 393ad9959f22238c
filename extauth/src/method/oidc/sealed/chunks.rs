//! A session in as many cookies as it needs: `NAME` says how many there are, and `NAME-1`, `NAME-2` … have the rest.

use super::super::cookie::Cookies;
use crate::check::Check;
use crate::credential::Error;

/// Bytes of a session in one cookie: with name and attributes less than the 4096 that every browser keeps (RFC 6265, section 6.1).
const LENGTH: usize = 3600;
/// Cookies of one session. Envoy reads 60 KiB of headers by default.
const MOST: usize = 5;
/// Bytes of a session in all of them.
pub(super) const MOST_BYTES: usize = MOST * LENGTH;

/// `Set-Cookie` for each part, and for each cookie of a larger session before; `None` when it is too large.
pub(super) fn set(cookies: &Cookies, check: &Check<'_>, text: &str, seconds: u64) -> Option<Vec<String>> {
    let count = text.len().div_ceil(LENGTH).max(1);
    if count > MOST {
        return None;
    }
    let part = |number: usize| text.get(number * LENGTH..text.len().min((number + 1) * LENGTH)).unwrap_or_default();
    let first = cookies.set_session(&format!("{count}.{}", part(0)), seconds);
    let rest = (1..count).map(|number| cookies.set_part(number, part(number), seconds));
    Some(std::iter::once(first).chain(rest).chain(clear(cookies, check, count)).collect())
}

/// `Set-Cookie` that takes away the parts from this number on, of those that the browser has.
pub(super) fn clear(cookies: &Cookies, check: &Check<'_>, from: usize) -> Vec<String> {
    let has = |name: &str| check.cookies().any(|(sent, _)| sent == name);
    let first = (from == 0 && has(&cookies.session)).then(|| cookies.clear_session());
    let rest = (from.max(1)..MOST).filter(|number| has(&cookies.part(*number)));
    first.into_iter().chain(rest.map(|number| cookies.set_part(number, "", 0))).collect()
}

/// The session as it was before it was cut; an error when a part is missing or stands twice.
pub(super) fn join(cookies: &Cookies, check: &Check<'_>) -> Result<Option<String>, Error> {
    let Some(first) = cookies.session(check)? else { return Ok(None) };
    let (count, first) = first.split_once('.').ok_or(Error::Malformed)?;
    let count = count.parse().ok().filter(|count| (1..=MOST).contains(count)).ok_or(Error::Malformed)?;
    let mut text = first.to_owned();
    for number in 1..count {
        let name = cookies.part(number);
        let mut values = check.cookies().filter(|(sent, _)| *sent == name).map(|(_, value)| value);
        text.push_str(values.next().ok_or(Error::Malformed)?);
        if values.next().is_some() {
            return Err(Error::Ambiguous);
        }
    }
    Ok(Some(text))
}

/// The names of the further parts that the request has, whatever number they say.
pub(super) fn names<'a>(cookies: &Cookies, check: &Check<'a>) -> impl Iterator<Item = &'a str> {
    check.cookies().map(|(name, _)| name).filter(|name| {
        let number = name.strip_prefix(cookies.session.as_str()).and_then(|rest| rest.strip_prefix('-'));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

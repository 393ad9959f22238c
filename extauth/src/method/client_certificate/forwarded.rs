//! The header `x-forwarded-client-cert`, by which a proxy passes on whose certificate it received.

use super::Error;
use super::certificate::Names;
use crate::check::Check;

/// The header's name.
const HEADER: &str = "x-forwarded-client-cert";

/// What one proxy says.
#[derive(Debug, Default)]
pub(super) struct Element {
    /// Encoded as in a URI.
    pub(super) certificate: Option<String>,
    pub(super) names: Names,
}

/// The one element of the header; several proxies would leave it open whose word counts.
pub(super) fn find(check: &Check<'_>) -> Result<Option<Element>, Error> {
    let mut values = check.header(HEADER);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::Malformed);
    }
    parse(value).map(Some)
}

fn parse(value: &str) -> Result<Element, Error> {
    let mut element = Element::default();
    let mut rest = value;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or(Error::Malformed)?;
        let (value, after) = read(after)?;
        match key.to_ascii_lowercase().as_str() {
            "cert" => once(&mut element.certificate, value)?,
            "subject" => once(&mut element.names.subject, value)?,
            "uri" => element.names.uris.push(value),
            "dns" => element.names.dns.push(value),
            "by" | "hash" | "chain" => {}
            _ => return Err(Error::Malformed),
        }
        rest = after;
    }
    // Empty values stand for what the certificate does not have.
    element.names.subject = element.names.subject.filter(|subject| !subject.is_empty());
    element.names.uris.retain(|uri| !uri.is_empty());
    element.names.dns.retain(|name| !name.is_empty());
    Ok(element)
}

/// A value, quoted or not, and what follows its semicolon. A comma would start another element.
fn read(text: &str) -> Result<(String, &str), Error> {
    let mut value = String::new();
    let quoted = text.strip_prefix('"');
    let text = quoted.unwrap_or(text);
    let mut chars = text.char_indices();
    while let Some((index, char)) = chars.next() {
        match char {
            '\\' if quoted.is_some() => value.push(chars.next().ok_or(Error::Malformed)?.1),
            '"' if quoted.is_some() => {
                let after = text.get(index + 1..).unwrap_or_default();
                let next = after.strip_prefix(';').filter(|next| !next.is_empty());
                return if after.is_empty() { Ok((value, "")) } else { Ok((value, next.ok_or(Error::Malformed)?)) };
            }
            ';' if quoted.is_none() => return Ok((value, text.get(index + 1..).unwrap_or_default())),
            ',' | '"' if quoted.is_none() => return Err(Error::Malformed),
            _ => value.push(char),
        }
    }
    if quoted.is_some() { Err(Error::Malformed) } else { Ok((value, "")) }
}

fn once(place: &mut Option<String>, value: String) -> Result<(), Error> {
    if place.replace(value).is_some() { Err(Error::Malformed) } else { Ok(()) }
}

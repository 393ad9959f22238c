//! Where a credential stands in a request, how it is read strictly, and how it is taken away.

use std::borrow::Cow;

use http::HeaderName;
use http::header::COOKIE;
use percent_encoding::percent_decode_str;
use proto::extauth::Source;

use crate::check::Check;
use crate::header;
use crate::verdict::Removal;

/// What is wrong with a credential that a request does carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The place is there, but nothing stands in it.
    #[error("the credential is empty")]
    Empty,
    /// White space, control characters, or anything beyond visible ASCII.
    #[error("the credential is malformed")]
    Malformed,
    /// More than one, so that an upstream might read another than we do.
    #[error("more than one credential was sent")]
    Ambiguous,
}

/// What is wrong with a configured place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The header's name is no token, or a header for which there is a better place, such as `cookie`.
    #[error("`{0}` is no header to look for a credential in")]
    Header(String),
    /// The parameter or the cookie has no name, or one that could not be told apart in a request.
    #[error("`{0}` is no name that a query parameter or cookie can have")]
    Name(String),
}

/// The places in which one method looks.
#[derive(Clone, Debug)]
pub struct Places(Vec<Place>);

#[derive(Clone, Debug)]
enum Place {
    Header { name: HeaderName, prefix: String },
    Query { name: String },
    Cookie { name: String },
}

impl Places {
    /// Checks the configured places; the error says which of them is wrong.
    pub fn compile(sources: &[Source]) -> Result<Self, (usize, PlaceError)> {
        let places = sources.iter().enumerate().map(|(index, source)| Place::compile(source).map_err(|e| (index, e)));
        places.collect::<Result<_, _>>().map(Self)
    }

    /// The one credential of the request, or none.
    pub fn find<'a>(&self, check: &Check<'a>) -> Result<Option<Cow<'a, str>>, Error> {
        let mut found = None;
        for place in &self.0 {
            for value in place.values(check)? {
                if found.replace(value).is_some() {
                    return Err(Error::Ambiguous);
                }
            }
        }
        found.map(strict).transpose()
    }

    /// Notes what has to be taken out of the request so that no upstream sees the credential.
    pub fn strip(&self, check: &Check<'_>, removal: &mut Removal) {
        for place in &self.0 {
            match place {
                Place::Header { name, prefix } => {
                    if check.header(name.as_str()).any(|value| parts(value, prefix).next().is_some()) {
                        removal.header(name.as_str());
                    }
                }
                Place::Query { name } => {
                    if check.query().any(|(key, _)| key == name) {
                        removal.query(name);
                    }
                }
                Place::Cookie { name } if in_later_cookie_header(check, name) => removal.header(COOKIE.as_str()),
                Place::Cookie { name } => removal.cookie(name),
            }
        }
    }
}

impl Place {
    fn compile(source: &Source) -> Result<Self, PlaceError> {
        match source {
            Source::Header { name, prefix } => {
                let name = header::name(name).map_err(|_| PlaceError::Header(name.clone()))?;
                Ok(Self::Header { name, prefix: prefix.clone() })
            }
            Source::Query { name } => Ok(Self::Query { name: parameter(name, b"&=#%+")? }),
            Source::Cookie { name } => Ok(Self::Cookie { name: parameter(name, b";=,\"")? }),
        }
    }

    fn values<'a>(&self, check: &Check<'a>) -> Result<Vec<Cow<'a, str>>, Error> {
        match self {
            Self::Header { name, prefix } => header_values(check, name, prefix),
            Self::Query { name } => check
                .query()
                .filter(|(key, _)| key == name)
                .map(|(_, value)| percent_decode_str(value).decode_utf8().map_err(|_| Error::Malformed))
                .collect(),
            Self::Cookie { name } => {
                if in_later_cookie_header(check, name) {
                    return Err(Error::Ambiguous);
                }
                Ok(check.cookies().filter(|(key, _)| key == name).map(|(_, value)| Cow::Borrowed(value)).collect())
            }
        }
    }
}

/// Envoy joins repeated `cookie` headers by commas, and the upstream reads them apart again: what looks like part of a
/// value to us is a cookie to it.
fn in_later_cookie_header(check: &Check<'_>, name: &str) -> bool {
    let mut later = check.header(COOKIE.as_str()).flat_map(|value| value.split(',').skip(1));
    later.any(|part| part.trim_start().strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('=')))
}

fn header_values<'a>(check: &Check<'a>, name: &HeaderName, prefix: &str) -> Result<Vec<Cow<'a, str>>, Error> {
    let mut values = Vec::new();
    for value in check.header(name.as_str()) {
        let before = values.len();
        values.extend(parts(value, prefix).map(Cow::Borrowed));
        // One of ours beside anything else in a joined header: nobody knows which of them an upstream will read.
        if values.len() > before && value.contains(',') {
            return Err(Error::Ambiguous);
        }
    }
    Ok(values)
}

/// The comma-separated parts of a header that start with the prefix, without it.
fn parts<'a>(value: &'a str, prefix: &str) -> impl Iterator<Item = &'a str> {
    value.split(',').filter_map(move |part| {
        let part = if prefix.is_empty() { part } else { part.trim_start() };
        // Proxies trim white space at the end: a bare `Bearer` is an empty credential, not another scheme.
        if !prefix.is_empty() && part.trim_end().eq_ignore_ascii_case(prefix.trim_end()) {
            return Some("");
        }
        let (head, rest) = part.split_at_checked(prefix.len())?;
        if head.eq_ignore_ascii_case(prefix) {
            return Some(rest);
        }
        // A tab after the scheme does not make it another one; it stays, as it makes the credential malformed.
        let (scheme, rest) = part.split_at_checked(prefix.strip_suffix(' ')?.len())?;
        (scheme.eq_ignore_ascii_case(prefix.trim_end()) && rest.starts_with('\t')).then_some(rest)
    })
}

fn parameter(name: &str, forbidden: &[u8]) -> Result<String, PlaceError> {
    let legal = |byte: u8| byte.is_ascii_graphic() && !forbidden.contains(&byte);
    if !name.is_empty() && name.bytes().all(legal) {
        Ok(name.to_owned())
    } else {
        Err(PlaceError::Name(name.to_owned()))
    }
}

fn strict(value: Cow<'_, str>) -> Result<Cow<'_, str>, Error> {
    if value.is_empty() {
        Err(Error::Empty)
    } else if value.contains(',') {
        Err(Error::Ambiguous)
    } else if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(value)
    } else {
        Err(Error::Malformed)
    }
}

//! Headers that tell the upstream who a client is: which names and values may go out, and which spellings of a name an
//! upstream may take for another.

use http::HeaderName;

/// The longest header value that goes out, in bytes.
pub const LONGEST_VALUE: usize = 4096;

/// Headers that carry a message's framing or its route; rewriting them would change the request itself.
const RESERVED: [&str; 8] =
    ["connection", "content-length", "cookie", "host", "te", "trailer", "transfer-encoding", "upgrade"];

/// Why a header cannot tell an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No token in the sense of RFC 9110, section 5.6.2.
    #[error("is no header name")]
    Name,
    /// Framing, routing, or the cookies.
    #[error("names a header that must not be set")]
    Reserved,
    /// Line breaks, control characters, or white space at an end.
    #[error("has characters that a header value must not have")]
    Value,
    /// More than [`LONGEST_VALUE`].
    #[error("is longer than {LONGEST_VALUE} bytes")]
    Length,
}

/// Reads the name of a header that is to be set.
pub fn name(text: &str) -> Result<HeaderName, Error> {
    let name = text.parse::<HeaderName>().map_err(|_| Error::Name)?;
    if RESERVED.contains(&name.as_str()) { Err(Error::Reserved) } else { Ok(name) }
}

/// Checks that a value arrives at the upstream as it stands, or not at all.
pub fn value(text: &str) -> Result<(), Error> {
    if text.len() > LONGEST_VALUE {
        return Err(Error::Length);
    }
    let trimmed = text.trim() == text;
    if trimmed && !text.chars().any(char::is_control) { Ok(()) } else { Err(Error::Value) }
}

/// Whether an upstream may take one header name for the other: CGI and its heirs fold `-`, `_` and `.` into one.
pub fn alike(one: &str, other: &str) -> bool {
    let fold = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.bytes().map(fold).eq(other.bytes().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_and_never_framing() {
        assert!(name("X-Client-Id").is_ok_and(|name| name == "x-client-id"));
        assert_eq!(name("x client"), Err(Error::Name));
        assert_eq!(name(":path"), Err(Error::Name));
        assert_eq!(name("Content-Length"), Err(Error::Reserved));
    }

    #[test]
    fn h6_values_with_line_breaks_or_control_characters_are_refused() {
        for bad in ["a\r\nx-admin: 1", "a\nb", "a\0b", "\u{7f}", "a\u{85}b", " padded", "padded ", "\t"] {
            assert_eq!(value(bad), Err(Error::Value), "{bad:?}");
        }
        assert_eq!(value("Jürgen, the 1st"), Ok(()));
    }

    #[test]
    fn h7_values_are_capped() {
        assert_eq!(value(&"a".repeat(LONGEST_VALUE)), Ok(()));
        assert_eq!(value(&"a".repeat(LONGEST_VALUE + 1)), Err(Error::Length));
    }

    #[test]
    fn h2_spellings_are_folded() {
        for spelling in ["x-jwt-sub", "X_JWT_SUB", "x.jwt-sub", "x-jwt_Sub"] {
            assert!(alike("x-jwt-sub", spelling), "{spelling}");
        }
        assert!(!alike("x-jwt-sub", "x-jwt-su"));
        assert!(!alike("x-jwt-sub", "xx-jwtsub"));
    }
}

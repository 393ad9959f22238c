//! Header names in policies that `extauth` serves.

/// Headers that `extauth` neither sets nor reads keys from.
const RESERVED: [&str; 8] =
    ["connection", "content-length", "cookie", "host", "te", "trailer", "transfer-encoding", "upgrade"];

/// A token of RFC 9110, section 5.6.2.
pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A header that neither frames nor routes a message.
pub(super) fn can_be_set(name: &str) -> bool {
    is_token(name) && !RESERVED.contains(&name.to_ascii_lowercase().as_str())
}

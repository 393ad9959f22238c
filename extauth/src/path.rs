//! Request paths that mean the same to us, to Envoy and to any upstream.

use percent_encoding::percent_decode_str;

/// Why a path cannot be told from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// `*`, an absolute form, an authority: whatever does not start with one slash.
    #[error("the path does not start with a slash")]
    NoPath,
    /// An encoded or a backward slash, a control character, a fragment, or path parameters.
    #[error("the path has characters that servers read differently")]
    Character,
    /// A percent sign without two hexadecimal digits, or one that was encoded itself.
    #[error("the path is not encoded once")]
    Encoding,
    /// What is encoded is no UTF-8.
    #[error("the path is not UTF-8")]
    Utf8,
    /// `.`, `..` or nothing between two slashes.
    #[error("the path has dot or empty segments")]
    Segment,
}

/// The path of a request target as every server reads it: without query, and decoded. A path that some servers read
/// differently is an error: nobody could say what the upstream will make of it. Envoy's `normalize_path`, `merge_slashes` and
/// `path_with_escaped_slashes_action` turn most of these into clear ones, or refuse them.
pub fn canonical(target: &str) -> Result<String, Ambiguous> {
    let path = target.split('?').next().unwrap_or_default();
    if !path.starts_with('/') {
        return Err(Ambiguous::NoPath);
    }
    encoded_once(path)?;
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| Ambiguous::Utf8)?;
    // An encoded slash would be a segment's border to some.
    let slashes = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
    if slashes(path) != slashes(&decoded) || decoded.chars().any(ambiguous) {
        return Err(Ambiguous::Character);
    }
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let inner = segments.peek().is_some();
        if matches!(segment, "." | "..") || (inner && segment.is_empty()) {
            return Err(Ambiguous::Segment);
        }
    }
    Ok(decoded.into_owned())
}

/// Whether `path` is `prefix` or lies below it.
pub fn below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn ambiguous(character: char) -> bool {
    // A question mark that was encoded starts a query for whoever decodes first.
    character.is_control() || matches!(character, '\\' | ';' | '#' | '?')
}

/// Every percent sign starts two digits that do not decode to another percent sign: `%2561` would be `%61`, then `a`.
fn encoded_once(path: &str) -> Result<(), Ambiguous> {
    for (at, _) in path.match_indices('%') {
        let digits = path.get(at + 1..at + 3).ok_or(Ambiguous::Encoding)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) || digits == "25" {
            return Err(Ambiguous::Encoding);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_a5_paths_with_two_readings_have_none() {
        for (path, error) in [
            ("*", Ambiguous::NoPath),
            ("", Ambiguous::NoPath),
            ("http://evil.example.com/admin", Ambiguous::NoPath),
            ("shop.example.com:443", Ambiguous::NoPath),
            ("//admin", Ambiguous::Segment),
            ("/a//b", Ambiguous::Segment),
            ("/./admin", Ambiguous::Segment),
            ("/public/../admin", Ambiguous::Segment),
            ("/public/%2e%2E/admin", Ambiguous::Segment),
            ("/public/.%2e/admin", Ambiguous::Segment),
            ("/public/..", Ambiguous::Segment),
            ("/public%2F..%2fadmin", Ambiguous::Character),
            ("/admin%5c..", Ambiguous::Character),
            ("/public\\..\\admin", Ambiguous::Character),
            ("/admin;x=1/users", Ambiguous::Character),
            ("/admin%3Bx", Ambiguous::Character),
            ("/public/..;/admin", Ambiguous::Character),
            ("/private%23/public", Ambiguous::Character),
            ("/private#/public", Ambiguous::Character),
            ("/private%3f/public", Ambiguous::Character),
            ("/admin%00.png", Ambiguous::Character),
            ("/admin%0d%0a", Ambiguous::Character),
            ("/admin%09", Ambiguous::Character),
            ("/%2561dmin", Ambiguous::Encoding),
            ("/%252e%252e/admin", Ambiguous::Encoding),
            ("/admin%2", Ambiguous::Encoding),
            ("/admin%zz", Ambiguous::Encoding),
            ("/admin%u002f", Ambiguous::Encoding),
            ("/%c0%ae%c0%ae/admin", Ambiguous::Utf8),
            ("/%c0%afadmin", Ambiguous::Utf8),
            ("/%e0%80%af", Ambiguous::Utf8),
            ("/%ff", Ambiguous::Utf8),
        ] {
            assert_eq!(canonical(path), Err(error), "{path}");
        }
    }

    #[test]
    fn clear_paths_are_decoded_and_have_no_query() {
        for (path, clear) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/api/private/x?path=/status", "/api/private/x"),
            ("/a?b#c", "/a"),
            ("/%61dmin", "/admin"),
            ("/My%20Files/%E4%BD%A0", "/My Files/你"),
            ("/a/...", "/a/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a+b,c=d@e:f", "/a+b,c=d@e:f"),
        ] {
            assert_eq!(canonical(path).as_deref(), Ok(clear), "{path}");
        }
    }

    #[test]
    fn prefixes_end_at_segments() {
        for prefix in ["/a", "/a/"] {
            assert!(below("/a", prefix) && below("/a/", prefix) && below("/a/b", prefix), "{prefix}");
            assert!(!below("/ab", prefix) && !below("/", prefix) && !below("/b/a", prefix), "{prefix}");
        }
        assert!(below("/anything", "/") && below("/", "/"));
    }
}

//! Envoy's string matchers.

use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};

/// Equality.
pub(crate) fn exact(value: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Exact(value.to_owned())), ignore_case: false }
}

/// The end of the text.
pub(crate) fn suffix(value: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Suffix(value.to_owned())), ignore_case: false }
}

/// A pattern over the whole text.
pub(crate) fn regex(pattern: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(re2(pattern))), ignore_case: false }
}

/// A pattern in the syntax of RE2.
pub(crate) fn re2(pattern: &str) -> RegexMatcher {
    RegexMatcher { regex: pattern.to_owned(), engine_type: None }
}

/// A pattern that matches `text` itself.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for char in text.chars() {
        if r"\.+*?()|[]{}^$".contains(char) {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_matches_itself_only() {
        for text in ["/a.b", "/x(y)[z]{1}", r"/back\slash", "/a+b*c?d|e^f$g", "/plain-_~"] {
            let pattern = format!("^{}$", quote(text));
            assert!(regex::Regex::new(&pattern).is_ok_and(|regex| regex.is_match(text)), "{text}");
        }
        assert_eq!(quote("/a.b"), r"/a\.b");
    }
}

//! Regular expressions in RE2's syntax, of bounded size and in linear time.

use regex::{Regex, RegexBuilder};

/// The longest expression, in bytes.
pub const LONGEST: usize = 1024;
/// Memory of one compiled expression, in bytes.
const LARGEST: usize = 256 * 1024;

/// Compiles an expression that all of a text must fit; the error says what is wrong with it.
pub fn whole(expression: &str) -> Result<Regex, String> {
    // By itself first: `a)|(b` is none, but would be one between the parentheses.
    build(expression)?;
    build(&format!("\\A(?:{expression})\\z"))
}

/// Compiles an expression that some part of a text must fit.
pub fn anywhere(expression: &str) -> Result<Regex, String> {
    build(expression)
}

/// Whether a text is what a pattern says, in which a `*` at the start or the end stands for anything.
pub(crate) fn starred(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        _ if pattern == "*" => true,
        (None, None) => pattern == text,
        (Some(end), None) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (Some(end), Some(_)) => text.contains(end.strip_suffix('*').unwrap_or(end)),
    }
}

fn build(expression: &str) -> Result<Regex, String> {
    if expression.is_empty() {
        return Err("is empty".to_owned());
    }
    if expression.len() > LONGEST + 16 {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    let built = RegexBuilder::new(expression).size_limit(LARGEST).dfa_size_limit(LARGEST).nest_limit(32).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("needs more than {LARGEST} bytes; count less in it"),
        // The last line says what is wrong, those before it show where.
        other => other.to_string().lines().last().unwrap_or("is no regular expression").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a9_expressions_fit_all_of_a_text() {
        let fits = |expression: &str, text: &str| whole(expression).unwrap().is_match(text);
        assert!(fits("/a", "/a") && fits("/a|/b", "/b"));
        assert!(!fits("/a|/b", "/a/b") && !fits("/status", "/admin/status") && !fits("/a", "/a\n"));
        assert!(!fits("^/a$|x", "/a\n/a"));
    }

    #[test]
    fn stars_stand_at_the_ends_only() {
        for (pattern, text) in [("*", ""), ("a", "a"), ("a*", "abc"), ("*c", "abc"), ("*b*", "abc"), ("**", "x")] {
            assert!(starred(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("a", "ab"), ("a*", "ba"), ("*c", "cb"), ("a*c", "abc"), ("*b*", "a")] {
            assert!(!starred(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn s12_bombs_do_not_compile() {
        for bomb in ["", "a)|(b", "(", "((a{1000}){1000}){1000}", r"\pL{1000}", &"(".repeat(40), &"a".repeat(2000)] {
            assert!(whole(bomb).is_err(), "{bomb}");
        }
    }

    #[test]
    fn s12_backtracking_does_not_explode() {
        assert!(!whole("(a+)+b").unwrap().is_match(&"a".repeat(100_000)));
    }
}

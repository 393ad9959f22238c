//! Whether Envoy would take a regular expression. One that it refuses would cost a listener all of its routes.

use regex::RegexBuilder;

/// RE2 counts repetitions only so far.
const MAX_REPETITION: u32 = 1000;

/// Checks `pattern`; the error is a sentence without its full stop.
///
/// The `regex` crate speaks RE2's language and some more; what it has beyond RE2 is refused here.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    let invalid = |why: &str| Err(format!("regex {pattern:?} is invalid: {why}"));
    if let Err(error) = RegexBuilder::new(pattern).size_limit(1 << 24).build() {
        let text = error.to_string();
        return invalid(text.lines().last().unwrap_or_default().trim_start_matches("error: "));
    }
    for (extension, why) in [
        ("&&", "class intersection is not part of RE2"),
        ("~~", "class difference is not part of RE2"),
        ("(?x", "the flag x is not part of RE2"),
        ("(?R", "the flag R is not part of RE2"),
        ("(?u", "the flag u is not part of RE2"),
        ("\\b{", "word boundaries of this kind are not part of RE2"),
        ("\\<", "word boundaries of this kind are not part of RE2"),
        ("\\>", "word boundaries of this kind are not part of RE2"),
        ("\\u", "write \\x{...} for a code point"),
        ("\\U", "write \\x{...} for a code point"),
    ] {
        if pattern.contains(extension) {
            return invalid(why);
        }
    }
    let bounds = pattern.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(bounds, _)| bounds);
    let mut numbers = bounds.flat_map(|bounds| bounds.split(',')).filter_map(|number| number.parse::<u32>().ok());
    if numbers.any(|number| number > MAX_REPETITION) {
        return invalid("a repetition is larger than 1000");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_re2_takes_passes() {
        for pattern in ["", "/v[0-9]+/.*", "(?i)get|post", "(?P<name>a{2,5})", r"\d{1000}", r"^/\p{L}+$"] {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for pattern in ["*.foo", "(", "[a-z&&[^b]]", "a{1001}", "(?=a)", r"(a)\1", "(?x) a", r"\<a"] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
        assert!(check("*a").is_err_and(|error| error.starts_with("regex \"*a\" is invalid: ")));
    }
}

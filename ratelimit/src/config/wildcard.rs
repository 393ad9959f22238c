//! Text with `*` in it.

/// Matches text in which each `*` of the pattern stands for any number of characters, also none.
#[derive(Clone, Debug)]
pub(crate) struct Wildcard {
    prefix: Box<str>,
    middle: Vec<Box<str>>,
    suffix: Box<str>,
}

impl Wildcard {
    /// `None` when the pattern has no `*`.
    pub(crate) fn new(pattern: &str) -> Option<Self> {
        let (prefix, rest) = pattern.split_once('*')?;
        let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = middle.split('*').filter(|part| !part.is_empty()).map(Into::into).collect();
        Some(Self { prefix: prefix.into(), middle, suffix: suffix.into() })
    }

    /// Whether the whole text matches. The leftmost place for each part is enough, since `*` takes anything.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let Some(mut rest) = text.strip_prefix(&*self.prefix).and_then(|rest| rest.strip_suffix(&*self.suffix)) else {
            return false;
        };
        for part in &self.middle {
            match rest.split_once(&**part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::Wildcard;

    #[test]
    fn stars_match_any_number_of_characters() {
        for (pattern, text, expected) in [
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("a**c", "abc", true),
            ("path_/v*/users/*", "path_/v2/users/7", true),
            ("path_/v*/users/*", "path_/v2/orders/7", false),
        ] {
            assert_eq!(Wildcard::new(pattern).unwrap().matches(text), expected, "{pattern} on {text}");
        }
        assert!(Wildcard::new("plain").is_none());
    }

    proptest! {
        #[test]
        fn filling_the_stars_always_matches(parts in proptest::collection::vec("[ab]{0,3}", 2..5), fill in "[abc]{0,4}") {
            prop_assert!(Wildcard::new(&parts.join("*")).unwrap().matches(&parts.join(&fill)));
        }
    }
}

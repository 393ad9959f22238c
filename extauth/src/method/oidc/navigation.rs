//! Which requests are a person's browser going somewhere, so that a redirect to a login page makes sense.

use http::HeaderName;
use proto::extauth::{DenyRedirect, StringMatch};
use regex::Regex;

use crate::check::Check;
use crate::method::Invalid;

/// Headers whose senders never want a redirect.
#[derive(Debug)]
pub(super) struct Navigation(Vec<(HeaderName, Matcher)>);

#[derive(Debug)]
enum Matcher {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Pattern(Regex),
}

impl Navigation {
    pub(super) fn compile(config: &DenyRedirect) -> Result<Self, Invalid> {
        let compile = |(index, header): (usize, &proto::extauth::HeaderMatch)| {
            let field = |name| format!("denyRedirect.headers[{index}].{name}");
            let name = header.name.parse().map_err(|_| Invalid::new(field("name"), "is no header name"))?;
            let value = header.value.clone();
            let matcher = match header.kind {
                StringMatch::Exact => Matcher::Exact(value),
                StringMatch::Prefix => Matcher::Prefix(value),
                StringMatch::Suffix => Matcher::Suffix(value),
                StringMatch::RegularExpression => Matcher::Pattern(
                    Regex::new(&format!("^(?:{value})$")).map_err(|e| Invalid::new(field("value"), &e))?,
                ),
            };
            Ok((name, matcher))
        };
        config.headers.iter().enumerate().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the request is a navigation. Browsers say so themselves (Fetch Metadata); what older ones ask for is a page.
    pub(super) fn is(&self, check: &Check<'_>) -> bool {
        let has = |name: &str| check.header(name).next().is_some();
        let one_of = |name: &str, values: &[&str]| check.header(name).all(|value| values.contains(&value));
        let page = if has("sec-fetch-mode") {
            one_of("sec-fetch-mode", &["navigate"]) && one_of("sec-fetch-dest", &["document"])
        } else {
            let accepts = |value: &str| value.to_ascii_lowercase().contains("text/html");
            check.header("accept").any(accepts) && !has("x-requested-with")
        };
        let prefetch = ["purpose", "sec-purpose", "x-moz"].iter().any(|name| has(name));
        // A program that sends a credential, or wants another protocol, cannot use a login page.
        let program = has("authorization") || has("upgrade");
        check.method() == "GET" && page && !prefetch && !program && !self.denies(check)
    }

    fn denies(&self, check: &Check<'_>) -> bool {
        self.0.iter().any(|(name, matcher)| check.header(name.as_str()).any(|value| matcher.matches(value)))
    }
}

impl Matcher {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == text,
            Self::Prefix(text) => value.starts_with(text.as_str()),
            Self::Suffix(text) => value.ends_with(text.as_str()),
            Self::Pattern(pattern) => pattern.is_match(value),
        }
    }
}

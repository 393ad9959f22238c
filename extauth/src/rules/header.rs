//! Conditions on headers, which may stand in a request more than once.

use http::HeaderName;
use proto::extauth::HeaderCondition;
use regex::Regex;

use super::condition::Error;
use crate::check::Check;
use crate::header::alike;
use crate::method::Invalid;
use crate::pattern;

/// A condition on one header.
#[derive(Debug)]
pub(super) struct Header {
    name: HeaderName,
    test: Test,
}

#[derive(Debug)]
enum Test {
    OneOf(Vec<String>),
    Prefix(String),
    Regex(Regex),
    Contains(String),
    Present(bool),
}

impl Header {
    pub(super) fn compile(condition: &HeaderCondition) -> Result<Self, Invalid> {
        let name = condition.name.parse().map_err(|_| Invalid::new("name", "is no header name"))?;
        let tests = [
            condition.exact.clone().map(|value| Test::OneOf(vec![value])),
            (!condition.one_of.is_empty()).then(|| Test::OneOf(condition.one_of.clone())),
            condition.prefix.clone().map(Test::Prefix),
            condition.contains.clone().map(Test::Contains),
            condition.present.map(Test::Present),
            match &condition.regex {
                Some(expression) => {
                    Some(Test::Regex(pattern::whole(expression).map_err(|e| Invalid::new("regex", &e))?))
                }
                None => None,
            },
        ];
        let mut tests = tests.into_iter().flatten();
        let problem = "takes exactly one of `exact`, `in`, `prefix`, `regex`, `contains` and `present`";
        let test = tests.next().ok_or_else(|| Invalid::new("name", problem))?;
        if tests.next().is_some() { Err(Invalid::new("name", problem)) } else { Ok(Self { name, test }) }
    }

    pub(super) fn holds(&self, check: &Check<'_>) -> Result<bool, Error> {
        let name = self.name.as_str();
        // An upstream that folds spellings would see a value that this condition does not.
        let other = |sent: &str| alike(name, sent) && !sent.eq_ignore_ascii_case(name);
        if check.headers().iter().any(|(sent, _)| other(sent)) {
            return Err(Error::Header(self.name.clone()));
        }
        let mut values = check.header(name).flat_map(|value| value.split(',')).map(str::trim);
        match &self.test {
            Test::Present(present) => Ok(*present == values.next().is_some()),
            Test::Contains(text) => Ok(values.any(|value| value == text)),
            Test::OneOf(texts) => self.agreed(values.map(|value| texts.iter().any(|text| text == value))),
            Test::Prefix(prefix) => self.agreed(values.map(|value| value.starts_with(prefix))),
            Test::Regex(regex) => self.agreed(values.map(|value| regex.is_match(value))),
        }
    }

    /// What all values say; nobody knows which of several an upstream reads.
    fn agreed(&self, mut each: impl Iterator<Item = bool>) -> Result<bool, Error> {
        let Some(first) = each.next() else { return Ok(false) };
        if each.all(|next| next == first) { Ok(first) } else { Err(Error::Header(self.name.clone())) }
    }
}

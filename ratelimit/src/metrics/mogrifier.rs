//! Rules that turn parts of a `DogStatsD` name into tags (`DOG_STATSD_MOGRIFIER_…`).

use regex::{Captures, Regex};

/// Rules in the order of `USE_DOG_STATSD_MOGRIFIERS`; the first whose pattern matches names a metric.
#[derive(Clone, Debug, Default)]
pub struct Mogrifiers(Vec<Mogrifier>);

#[derive(Clone, Debug)]
struct Mogrifier {
    pattern: Regex,
    name: String,
    tags: Vec<(String, String)>,
}

/// Which variable of a rule cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("DOG_STATSD_MOGRIFIER_{rule}_{part}: {message}")]
pub struct Error {
    rule: String,
    part: &'static str,
    message: String,
}

impl Mogrifiers {
    /// Reads the rules of these names; `variable` looks an environment variable up.
    pub fn read(names: &[String], variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let rule = |rule: &String| {
            let error = |part, message: String| Error { rule: rule.clone(), part, message };
            let text = |part| {
                let name = format!("DOG_STATSD_MOGRIFIER_{rule}_{part}");
                variable(&name).filter(|text| !text.is_empty()).ok_or_else(|| error(part, "say it".into()))
            };
            let pattern = Regex::new(&text("PATTERN")?).map_err(|source| error("PATTERN", source.to_string()))?;
            let tags = variable(&format!("DOG_STATSD_MOGRIFIER_{rule}_TAGS")).unwrap_or_default();
            let tag = |tag: &str| {
                let (name, value) =
                    tag.split_once(':').ok_or_else(|| error("TAGS", "say NAME:VALUE,NAME:VALUE".into()))?;
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            };
            let tags = tags.split(',').filter(|tag| !tag.is_empty()).map(tag).collect::<Result<_, _>>()?;
            Ok(Mogrifier { pattern, name: text("NAME")?, tags })
        };
        Ok(Self(names.iter().map(rule).collect::<Result<_, _>>()?))
    }

    /// The name and further tags of a metric.
    pub(super) fn apply(&self, name: String) -> (String, Vec<(String, String)>) {
        let found = self.0.iter().find_map(|rule| Some((rule, rule.pattern.captures(&name)?)));
        let Some((rule, captures)) = found else { return (name, vec![]) };
        let tags = rule.tags.iter().map(|(tag, value)| (tag.clone(), fill(value, &captures)));
        (fill(&rule.name, &captures), tags.collect())
    }
}

/// Puts groups in for `$0`, `$1` and so on; digits end where they end, unlike in the templates of the expression library.
fn fill(template: &str, captures: &Captures<'_>) -> String {
    let mut parts = template.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = part.split_at(digits);
        match number.parse::<usize>() {
            Ok(group) => text.extend([captures.get(group).map_or("", |group| group.as_str()), rest]),
            Err(_) => text.extend(["$", part]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(pattern: &str, name: &str, tags: &str) -> Result<Mogrifiers, Error> {
        Mogrifiers::read(&["TAG".to_owned()], |variable| {
            let part = variable.strip_prefix("DOG_STATSD_MOGRIFIER_TAG_")?;
            Some(match part {
                "PATTERN" => pattern.to_owned(),
                "NAME" => name.to_owned(),
                _ => tags.to_owned(),
            })
        })
    }

    #[test]
    fn groups_of_the_pattern_become_name_and_tags() {
        let rules = read(r"^a\.(.*)\.(.*)$", "b.$2_x", "first:$1,all:$0,none:$7,price:$").unwrap();
        let (name, tags) = rules.apply("a.x.y".into());
        let tags: Vec<_> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!((name.as_str(), tags.join(" ").as_str()), ("b.y_x", "first=x all=a.x.y none= price=$"));
        assert_eq!(rules.apply("other".into()), ("other".into(), vec![]));
    }

    #[test]
    fn incomplete_rules_are_refused_by_name() {
        for (pattern, name, tags, part) in
            [("", "n", "", "PATTERN"), ("(", "n", "", "PATTERN"), ("x", "", "", "NAME"), ("x", "n", "t", "TAGS")]
        {
            let error = read(pattern, name, tags).unwrap_err().to_string();
            assert!(error.starts_with(&format!("DOG_STATSD_MOGRIFIER_TAG_{part}: ")), "{error}");
        }
    }
}

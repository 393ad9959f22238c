//! The mapping file of Prometheus' `statsd_exporter`, with which upstream's users name their metrics.

use metrics::{Key, Label};
use regex::Regex;
use serde::Deserialize;

use super::dotted::Dotted;

/// Mappings in the order of the file; the first that matches names a metric.
#[derive(Debug)]
pub struct Mapper(Vec<Mapping>);

/// Why a mapping file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the file's language.
    #[error("{0}")]
    Syntax(String),
    /// A `match` is no expression.
    #[error("match {pattern:?}: {source}")]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong.
        source: Box<regex::Error>,
    },
}

#[derive(Debug)]
struct Mapping {
    pattern: Regex,
    kind: Option<MetricType>,
    action: Action,
    name: String,
    /// By name.
    labels: Vec<(String, String)>,
    scale: f64,
}

/// What becomes of a metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mapped {
    /// It is recorded under this key, its samples multiplied.
    As(Key, f64),
    /// It is not recorded.
    Dropped,
}

/// The file. What it says of buckets, quantiles and lifetimes has no effect, as those are the exporter's own.
#[derive(Deserialize)]
struct File {
    mappings: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    r#match: String,
    #[serde(default)]
    match_type: MatchType,
    match_metric_type: Option<MetricType>,
    #[serde(default)]
    action: Action,
    #[serde(default)]
    name: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    scale: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum MatchType {
    #[default]
    Glob,
    Regex,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Action {
    #[default]
    Map,
    Drop,
}

/// Kinds of metric.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum MetricType {
    Counter,
    Gauge,
    #[serde(alias = "timer", alias = "histogram", alias = "distribution")]
    Observer,
}

impl Mapper {
    /// Reads the YAML text of a mapping file.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| Error::Syntax(error.to_string()))?;
        let mapping = |entry: Entry| {
            let pattern = match entry.match_type {
                MatchType::Glob => format!("^{}$", regex::escape(&entry.r#match).replace(r"\*", "([^.]*)")),
                MatchType::Regex => entry.r#match.clone(),
            };
            let pattern = Regex::new(&pattern)
                .map_err(|source| Error::Pattern { pattern: entry.r#match, source: Box::new(source) })?;
            Ok(Mapping {
                pattern,
                kind: entry.match_metric_type,
                action: entry.action,
                name: entry.name,
                labels: entry.labels.into_iter().collect(),
                scale: entry.scale.unwrap_or(1.0),
            })
        };
        Ok(Self(file.mappings.into_iter().map(mapping).collect::<Result<_, _>>()?))
    }

    /// A metric that no mapping matches has its dots replaced by underscores.
    pub(super) fn map(&self, key: &Key, kind: MetricType) -> Mapped {
        let Dotted { name, tags } = Dotted::of(key);
        let tags = tags.into_iter().map(|(name, value)| Label::new(name, value));
        let mut of_kind = self.0.iter().filter(|mapping| mapping.kind.is_none_or(|wanted| wanted == kind));
        let found = of_kind.find_map(|mapping| Some((mapping, mapping.pattern.captures(&name)?)));
        let Some((mapping, captures)) = found else {
            return Mapped::As(Key::from_parts(name.replace('.', "_"), tags.collect::<Vec<_>>()), 1.0);
        };
        if mapping.action == Action::Drop {
            return Mapped::Dropped;
        }
        let expanded = |template: &str| {
            let mut text = String::new();
            captures.expand(template, &mut text);
            text
        };
        let labels = mapping.labels.iter().map(|(name, value)| Label::new(name.clone(), expanded(value)));
        Mapped::As(Key::from_parts(expanded(&mapping.name), labels.chain(tags).collect::<Vec<_>>()), mapping.scale)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const FILE: &str = r#"
defaults: { ttl: 1m }
mappings:
  - match: "ratelimit.service.rate_limit.*.*.over_limit"
    name: "limits_over"
    timer_type: histogram
    labels: { domain: "$1", rule: "$2" }
  - match: 'ratelimit\.service\.rate_limit\.(.*)\.(.*)\.(.*)\.over_limit'
    match_type: regex
    name: "limits_over_${1}"
    labels: { rule: "$2", deep: "$3" }
  - match: "ratelimit_server.*.response_time"
    match_metric_type: timer
    name: "response_time"
    scale: 0.001
  - match: "ratelimit.service.config_load_*"
    action: drop
"#;

    fn mapped(name: &'static str, labels: &[(&'static str, &'static str)], kind: MetricType) -> String {
        match Mapper::parse(FILE).unwrap().map(&Key::from_parts(name, labels), kind) {
            Mapped::As(key, scale) => format!("{key} * {scale}"),
            Mapped::Dropped => "dropped".into(),
        }
    }

    #[test]
    fn the_first_mapping_that_matches_names_the_metric() {
        let rule = [("domain", "d"), ("key1", "a"), ("key2", "b")];
        let over = "ratelimit_service_rate_limit_over_limit";
        let counter = MetricType::Counter;
        assert_eq!(mapped(over, &rule[..2], counter), "Key(limits_over, [domain = d, rule = a]) * 1");
        assert_eq!(mapped(over, &rule, counter), "Key(limits_over_d, [deep = b, rule = a]) * 1");
        assert_eq!(mapped("ratelimit_service_config_load_error", &[], counter), "dropped");
        let (time, method) = ("ratelimit_service_response_time_seconds", [("grpc_method", "m")]);
        assert_eq!(mapped(time, &method, MetricType::Observer), "Key(response_time) * 0.001");
        assert_eq!(mapped(time, &method, counter), "Key(ratelimit_server_m_response_time) * 1");
        assert_eq!(mapped("own", &[("a", "b")], counter), "Key(own, [a = b]) * 1");
    }

    #[test]
    fn a_bad_file_is_refused() {
        for text in ["mappings: 3", "mappings: [{ name: x }]", "mappings: [{ match: '(', match_type: regex }]"] {
            assert!(Mapper::parse(text).is_err(), "{text}");
        }
    }
}

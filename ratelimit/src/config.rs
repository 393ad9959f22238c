//! What is limited: an immutable tree of descriptors for each domain, read from YAML files or from xDS messages.

use std::collections::hash_map::Entry;

use ahash::HashMap;
use miette::{NamedSource, SourceSpan};

pub(crate) use self::{
    change::Change,
    tree::{Candidate, End, Kind, Reason, Walk},
};
pub use self::{
    limit::{Limit, PerUnit},
    tree::{Domain, Rule},
    unit::Unit,
};

mod change;
mod document;
mod limit;
mod metadata;
mod tree;
mod unit;
mod wildcard;

pub(crate) use self::wildcard::Wildcard;
mod xds;
pub(crate) mod yaml;

/// Every domain's limits. Built whole or not at all.
///
/// Building it resolves the rules' metrics, so install the metrics recorder before.
#[derive(Clone, Debug, Default)]
pub struct Config {
    domains: HashMap<String, Domain>,
}

/// Why a configuration was refused. `Display` is one line; [`miette::Diagnostic`] shows the place in the text.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A YAML file does not hold a valid domain.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(Box<FileError>),
    /// A `RateLimitConfig` message is not valid.
    #[error("RateLimitConfig {name:?}: {message}")]
    Resource {
        /// The message's `name`.
        name: String,
        /// What is wrong, with the path of the descriptor.
        message: String,
    },
    /// Two files or messages describe one domain.
    #[error(
        "domain {domain:?} is defined by {first} and again by {second}; each domain has one file unless MERGE_DOMAIN_CONFIG is set"
    )]
    DuplicateDomain {
        /// The domain.
        domain: String,
        /// Where it was seen first.
        first: String,
        /// Where it was seen again.
        second: String,
    },
    /// Two files or messages of one domain begin with the same descriptor.
    #[error("domain {domain:?}: descriptor {descriptor:?} is defined by {first} and again by {second}; remove one")]
    DuplicateDescriptor {
        /// The domain.
        domain: String,
        /// Key and value, joined by `_`.
        descriptor: String,
        /// Where it was seen first.
        first: String,
        /// Where it was seen again.
        second: String,
    },
}

/// What to do with several files or messages of one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domains {
    /// They are an error.
    Distinct,
    /// Their descriptors are those of the domain, in the order of the files.
    Merged,
}

/// What is wrong in a YAML file, and where.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{file}:{line}:{column}: {message}")]
pub struct FileError {
    /// Name of the file as it was given.
    pub file: String,
    /// Counted from one; 1 when the parser knows no place.
    pub line: u64,
    /// Counted from one.
    pub column: u64,
    /// What is wrong and what to do.
    pub message: String,
    #[source_code]
    text: NamedSource<String>,
    #[label("here")]
    span: SourceSpan,
}

impl Config {
    /// Reads files of envoyproxy/ratelimit's grammar, given as name and text, one domain each.
    pub fn from_yaml<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>, domains: Domains) -> Result<Self, Error> {
        let parsed = files.into_iter().map(|(name, text)| Ok((name, yaml::parse(name, text)?)));
        Self::collect(parsed.collect::<Result<Vec<_>, _>>()?, domains)
    }

    /// All errors of one file, by line; nothing for a good one.
    pub fn errors_of_yaml(name: &str, text: &str) -> Vec<Error> {
        yaml::errors(name, text)
    }

    /// Reads `ratelimit.config.ratelimit.v3.RateLimitConfig` messages, one domain each.
    pub fn from_xds<'m>(
        messages: impl IntoIterator<Item = &'m xds::RateLimitConfig>,
        domains: Domains,
    ) -> Result<Self, Error> {
        let parsed = messages.into_iter().map(|message| Ok((message.name.as_str(), xds::parse(message)?)));
        Self::collect(parsed.collect::<Result<Vec<_>, _>>()?, domains)
    }

    /// The limits of one domain.
    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// Names of all domains, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.domains.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn domain_mut(&mut self, name: &str) -> Option<&mut Domain> {
        self.domains.get_mut(name)
    }

    /// All rules as text, one a line, in upstream's `/rlconfig` format: domains by name, rules in file order.
    pub fn dump(&self) -> String {
        let mut domains: Vec<_> = self.domains.iter().collect();
        domains.sort_by_key(|(name, _)| *name);
        domains.into_iter().flat_map(|(_, domain)| domain.rules()).map(|rule| rule.to_string() + "\n").collect()
    }

    fn collect(parsed: Vec<(&str, Domain)>, domains: Domains) -> Result<Self, Error> {
        let mut config = Self::default();
        let mut files: HashMap<String, usize> = HashMap::default();
        for (_, domain) in &parsed {
            *files.entry(domain.name().to_owned()).or_default() += 1;
        }
        // The parts of each domain with their descriptors, for errors that name both.
        let mut seen: HashMap<String, Vec<(&str, Vec<String>)>> = HashMap::default();
        for (source, domain) in parsed {
            let parts = seen.entry(domain.name().to_owned()).or_default();
            let in_parts = files.get(domain.name()).is_some_and(|count| *count > 1);
            let descriptors = if in_parts { domain.root_texts() } else { vec![] };
            for (first, known) in &*parts {
                let (domain, first, second) = (domain.name().to_owned(), (*first).to_owned(), source.to_owned());
                if domains == Domains::Distinct {
                    return Err(Error::DuplicateDomain { domain, first, second });
                }
                if let Some(descriptor) = descriptors.iter().find(|text| known.contains(text)).cloned() {
                    return Err(Error::DuplicateDescriptor { domain, descriptor, first, second });
                }
            }
            parts.push((source, descriptors));
            match config.domains.entry(domain.name().to_owned()) {
                Entry::Occupied(mut first) => first.get_mut().append(domain),
                Entry::Vacant(vacant) => drop(vacant.insert(domain)),
            }
        }
        Ok(config)
    }
}

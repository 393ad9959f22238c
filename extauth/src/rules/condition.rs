//! Conditions of a rule, which must all hold.

use std::net::IpAddr;

use http::HeaderName;
use ipnet::IpNet;
use proto::extauth::PathMatch;
use regex::Regex;

use super::cel::{self, Cel};
use super::claim::{self, Claim};
use super::header::Header;
use super::{Names, Subject};
use crate::host::Pattern;
use crate::method::Invalid;
use crate::path::{self, Ambiguous};
use crate::pattern;

/// Why it cannot be said whether a condition holds; the request is then denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Servers read the path differently.
    #[error("{0}")]
    Path(#[from] Ambiguous),
    /// Two hosts, or something that is neither a name nor an address.
    #[error("the host is neither a name nor an address")]
    Host,
    /// The header has several values, or spellings, that do not agree.
    #[error("the values of the header `{0}` do not agree")]
    Header(HeaderName),
    /// Neither Envoy nor the trusted proxies say where the request comes from.
    #[error("the client's address is not known")]
    Address,
    /// The expression says neither yes nor no.
    #[error("{0}")]
    Cel(#[from] cel::Error),
}

/// Conditions in the order in which they are looked at.
#[derive(Debug)]
pub(super) struct Conditions(Vec<Condition>);

/// What must be known of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    pub(super) path: bool,
    pub(super) host: bool,
    pub(super) address: bool,
}

#[derive(Debug)]
enum Condition {
    AuthenticatedBy(Vec<String>),
    Metadata(&'static str, &'static str, Vec<String>),
    Scopes(Vec<String>),
    Roles(Vec<String>),
    Groups(Vec<String>),
    Claim(Claim),
    Methods(Vec<String>),
    Hosts(Vec<Pattern>),
    Paths(Vec<Path>),
    Header(Header),
    ClientIps(Vec<IpNet>),
    Cel(Cel),
}

/// A field with texts, and the condition that they make.
type List<'a> = (&'static str, &'a [String], fn(Vec<String>) -> Condition);

#[derive(Debug)]
enum Path {
    Exact(String),
    Prefix(String),
    Regex(Regex),
}

impl Needs {
    pub(super) fn and(self, other: Self) -> Self {
        Self { path: self.path || other.path, host: self.host || other.host, address: self.address || other.address }
    }
}

impl Conditions {
    pub(super) fn compile(config: &proto::extauth::Conditions, names: Names<'_>) -> Result<Self, Invalid> {
        let mut conditions = Vec::new();
        let lists: [List<'_>; 8] = [
            ("authenticatedBy", &config.authenticated_by, Condition::AuthenticatedBy),
            ("clients", &config.clients, |values| Condition::Metadata("clients", "client", values)),
            ("tiers", &config.tiers, |values| Condition::Metadata("tiers", "tier", values)),
            ("tenants", &config.tenants, |values| Condition::Metadata("tenants", "tenant", values)),
            ("methods", &config.methods, Condition::Methods),
            ("scopes", &config.scopes, Condition::Scopes),
            ("roles", &config.roles, Condition::Roles),
            ("groups", &config.groups, Condition::Groups),
        ];
        for (field, values, condition) in lists.into_iter().filter(|(_, values, _)| !values.is_empty()) {
            for (index, value) in values.iter().enumerate() {
                text(field, value, names).map_err(|problem| Invalid::new(format!("{field}[{index}]"), &problem))?;
            }
            conditions.push(condition(values.to_vec()));
        }
        push(
            &mut conditions,
            Condition::Hosts,
            each("hosts", &config.hosts, |host| {
                Pattern::parse(host).ok_or_else(|| "is no host name, no `*.` before one, and no `*`".to_owned())
            })?,
        );
        push(&mut conditions, Condition::Paths, each("paths", &config.paths, Path::compile)?);
        push(&mut conditions, Condition::ClientIps, each("clientIps", &config.client_ips, |text| network(text))?);
        for (index, claim) in config.claims.iter().enumerate() {
            let claim = Claim::compile(claim, names.providers).map_err(|e| within("claims", index, e))?;
            conditions.push(Condition::Claim(claim));
        }
        for (index, header) in config.headers.iter().enumerate() {
            conditions.push(Condition::Header(Header::compile(header).map_err(|e| within("headers", index, e))?));
        }
        if let Some(source) = &config.cel {
            conditions.push(Condition::Cel(Cel::compile(source).map_err(|e| Invalid::new("cel", &e))?));
        }
        Ok(Self(conditions))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn needs(&self) -> Needs {
        self.0.iter().fold(Needs::default(), |needs, condition| needs.and(condition.needs()))
    }

    /// The first that does not hold, by its field's name.
    pub(super) fn failing(&self, subject: &Subject<'_>) -> Result<Option<&'static str>, Error> {
        for condition in &self.0 {
            if !condition.holds(subject)? {
                return Ok(Some(condition.kind()));
            }
        }
        Ok(None)
    }
}

impl Condition {
    fn kind(&self) -> &'static str {
        match self {
            Self::AuthenticatedBy(_) => "authenticatedBy",
            Self::Metadata(kind, ..) => kind,
            Self::Scopes(_) => "scopes",
            Self::Roles(_) => "roles",
            Self::Groups(_) => "groups",
            Self::Claim(_) => "claims",
            Self::Methods(_) => "methods",
            Self::Hosts(_) => "hosts",
            Self::Paths(_) => "paths",
            Self::Header(_) => "headers",
            Self::ClientIps(_) => "clientIps",
            Self::Cel(_) => "cel",
        }
    }

    fn needs(&self) -> Needs {
        match self {
            Self::Paths(_) => Needs { path: true, ..Needs::default() },
            Self::Hosts(_) => Needs { host: true, ..Needs::default() },
            Self::ClientIps(_) => Needs { address: true, ..Needs::default() },
            Self::Cel(cel) => cel.needs(),
            _ => Needs::default(),
        }
    }

    fn holds(&self, subject: &Subject<'_>) -> Result<bool, Error> {
        let among =
            |values: &[String], value: Option<&str>| value.is_some_and(|value| values.iter().any(|one| one == value));
        Ok(match self {
            Self::AuthenticatedBy(methods) => among(methods, Some(subject.method)),
            Self::Metadata(_, name, values) => among(values, claim::text(subject.metadata, name)),
            Self::Scopes(scopes) => scopes.iter().all(|scope| claim::has_scope(subject.metadata, scope)),
            Self::Roles(roles) => {
                let has = |role: &String| claim::has(subject.metadata, &["roles", "realm_access.roles"], role);
                roles.iter().any(has)
            }
            Self::Groups(groups) => groups.iter().any(|group| claim::has(subject.metadata, &["groups"], group)),
            Self::Claim(claim) => claim.holds(subject.metadata),
            Self::Methods(methods) => among(methods, Some(subject.check.method())),
            Self::Hosts(hosts) => {
                subject.host.as_ref().is_some_and(|host| hosts.iter().any(|pattern| pattern.fits(host)))
            }
            Self::Paths(paths) => {
                subject.path.as_ref().is_some_and(|path| paths.iter().any(|pattern| pattern.fits(path)))
            }
            Self::Header(header) => header.holds(subject.check)?,
            Self::Cel(cel) => cel.holds(subject)?,
            Self::ClientIps(networks) => {
                let address = subject.address.ok_or(Error::Address)?;
                networks.iter().any(|network| network.contains(&address))
            }
        })
    }
}

impl Path {
    fn compile(config: &PathMatch) -> Result<Self, String> {
        let clear = |path: &str| match path::canonical(path) {
            Ok(clear) if clear == path => Ok(clear),
            Ok(_) => Err("must be written decoded and without query".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match config {
            PathMatch::Exact(path) => clear(path).map(Self::Exact),
            PathMatch::Prefix(path) => clear(path).map(Self::Prefix),
            PathMatch::Regex(expression) => pattern::whole(expression).map(Self::Regex),
        }
    }

    fn fits(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path::below(path, prefix),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

/// A value that could never be met would make a rule that never fits.
fn text(field: &str, value: &str, names: Names<'_>) -> Result<(), String> {
    match field {
        _ if value.is_empty() => Err("is empty".to_owned()),
        "authenticatedBy" if !names.methods.contains(&value) => {
            Err(format!("is none of {}, which this policy has", names.methods.join(", ")))
        }
        "methods" if !value.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') => {
            Err("is no HTTP method; they are written in capitals".to_owned())
        }
        "scopes" if value.contains(' ') => Err("is more than one scope".to_owned()),
        _ => Ok(()),
    }
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "is no IP address, and no network such as 10.0.0.0/8".to_owned())
}

fn each<T, U>(field: &str, values: &[T], compile: impl Fn(&T) -> Result<U, String>) -> Result<Vec<U>, Invalid> {
    let compile = |(index, value)| compile(value).map_err(|e| Invalid::new(format!("{field}[{index}]"), &e));
    values.iter().enumerate().map(compile).collect()
}

fn push<T>(conditions: &mut Vec<Condition>, condition: fn(Vec<T>) -> Condition, values: Vec<T>) {
    if !values.is_empty() {
        conditions.push(condition(values));
    }
}

fn within(list: &str, index: usize, Invalid { field, problem }: Invalid) -> Invalid {
    Invalid { field: format!("{list}[{index}].{field}"), problem }
}

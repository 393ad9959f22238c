//! What somebody may do who is known: rules in order, of which the first that fits decides.

pub mod cel;
pub(crate) mod claim;
mod condition;
mod header;

use std::collections::HashMap;
use std::net::IpAddr;

use envoy_types::pb::google::protobuf::Value;
use proto::extauth::Action;

pub use self::condition::Error;
use self::condition::{Conditions, Needs};
use crate::check::Check;
use crate::method::Invalid;
use crate::{host, path};

/// The rules of one policy.
#[derive(Debug)]
pub struct Rules {
    in_order: Vec<Rule>,
    default: Action,
    needs: Needs,
    trusted_hops: u8,
}

#[derive(Debug)]
struct Rule {
    name: String,
    action: Action,
    when: Conditions,
    unless: Conditions,
}

/// What rules look at.
#[derive(Debug)]
pub struct Subject<'a> {
    check: &'a Check<'a>,
    method: &'a str,
    metadata: &'a HashMap<String, Value>,
    path: Option<String>,
    host: Option<String>,
    /// The client's, behind the trusted proxies.
    address: Option<IpAddr>,
}

/// What the rules say of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling<'r> {
    /// What becomes of it.
    pub action: Action,
    /// The rule that decided; none when the default did.
    pub rule: Option<&'r str>,
}

/// Whether a rule fits a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It decides.
    Fits,
    /// A condition of this kind does not hold.
    Fails(&'static str),
    /// All that stands under `unless` holds.
    Excepted,
}

/// The names that rules of a policy may use.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Of the methods that may decide.
    pub methods: &'a [&'a str],
    /// Of the providers whose claims there may be.
    pub providers: &'a [&'a str],
}

impl Rules {
    /// Checks a policy's rules. Without any, everything is allowed.
    pub fn compile(policy: &proto::extauth::Policy, names: Names<'_>) -> Result<Option<Self>, Invalid> {
        if policy.rules.is_empty() {
            return match policy.default {
                Some(_) => Err(Invalid::new("default", "has no effect without `rules`")),
                None if policy.trusted_hops > 0 => Err(Invalid::new("trustedHops", "has no effect without `rules`")),
                None => Ok(None),
            };
        }
        let mut rules: Vec<Rule> = Vec::new();
        let mut needs = Needs::default();
        for (index, rule) in policy.rules.iter().enumerate() {
            let field = |Invalid { field, problem }| Invalid { field: format!("rules[{index}].{field}"), problem };
            if rule.name.is_empty() || rules.iter().any(|other| other.name == rule.name) {
                return Err(field(Invalid::new("name", "must be set, and be no other rule's")));
            }
            let compiled = Rule::compile(rule, names).map_err(field)?;
            needs = needs.and(compiled.when.needs()).and(compiled.unless.needs());
            rules.push(compiled);
        }
        let (default, trusted_hops) = (policy.default.unwrap_or(Action::Deny), policy.trusted_hops);
        Ok(Some(Self { in_order: rules, default, needs, trusted_hops }))
    }

    /// What these rules look at, if it can be told from what others may take it for.
    pub fn subject<'a>(
        &self,
        check: &'a Check<'a>,
        method: &'a str,
        metadata: &'a HashMap<String, Value>,
    ) -> Result<Subject<'a>, Error> {
        let path = if self.needs.path { Some(path::canonical(check.target())?) } else { None };
        let host = if self.needs.host { Some(host::normal(check.host()).ok_or(Error::Host)?) } else { None };
        let address = if self.needs.address { check.client(self.trusted_hops) } else { None };
        Ok(Subject { check, method, metadata, path, host, address })
    }

    /// The first rule that fits decides, else the default. Who cannot say whether a rule fits denies.
    pub fn decide(&self, subject: &Subject<'_>) -> Result<Ruling<'_>, (&str, Error)> {
        for rule in &self.in_order {
            if rule.fit(subject).map_err(|error| (rule.name.as_str(), error))? == Fit::Fits {
                return Ok(Ruling { action: rule.action, rule: Some(&rule.name) });
            }
        }
        Ok(Ruling { action: self.default, rule: None })
    }

    /// Every rule by itself, for explanations.
    pub fn fits<'s>(&'s self, subject: &'s Subject<'_>) -> impl Iterator<Item = (&'s str, Action, Result<Fit, Error>)> {
        self.in_order.iter().map(|rule| (rule.name.as_str(), rule.action, rule.fit(subject)))
    }
}

impl Rule {
    fn compile(rule: &proto::extauth::Rule, names: Names<'_>) -> Result<Self, Invalid> {
        let below = |place: &'static str| {
            move |Invalid { field, problem }| Invalid { field: format!("{place}.{field}"), problem }
        };
        Ok(Self {
            name: rule.name.clone(),
            action: rule.action,
            when: Conditions::compile(&rule.when, names).map_err(below("when"))?,
            unless: Conditions::compile(&rule.unless, names).map_err(below("unless"))?,
        })
    }

    fn fit(&self, subject: &Subject<'_>) -> Result<Fit, Error> {
        if let Some(kind) = self.when.failing(subject)? {
            return Ok(Fit::Fails(kind));
        }
        let excepted = !self.unless.is_empty() && self.unless.failing(subject)?.is_none();
        Ok(if excepted { Fit::Excepted } else { Fit::Fits })
    }
}

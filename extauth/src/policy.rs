//! Policies: for one route, which methods are tried and what becomes of the request. The one place where errors become
//! denials.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderName, StatusCode};
use proto::extauth::Action;

use crate::check::Check;
use crate::method::{Invalid, Method};
use crate::metrics::{self, Answers};
use crate::resources::Resources;
use crate::rules::{Decision, Names, Rules};
use crate::verdict::{Denial, Grant, Verdict, text};

/// A policy that cannot be enforced as it is written.
#[derive(Debug, thiserror::Error)]
#[error("policy `{policy}`: {source}")]
pub struct Error {
    /// The policy's name.
    pub policy: String,
    /// Its position in the list that was to be compiled.
    pub index: usize,
    /// Which field is wrong, below the policy, and how.
    pub source: Invalid,
}

/// All policies in force, by name.
#[derive(Debug)]
pub struct Policies {
    by_name: HashMap<Arc<str>, Policy, ahash::RandomState>,
    /// Answers to routes that name none of them.
    unknown: Answers,
}

#[derive(Debug)]
struct Policy {
    name: Arc<str>,
    rule: Rule,
    answers: Answers,
}

#[derive(Debug)]
enum Rule {
    /// Methods in the order in which they are tried.
    Methods { methods: Vec<Method>, optional: bool, rules: Option<Rules>, identity: Vec<HeaderName> },
    /// It did not compile: nothing passes until it does.
    Broken(String),
}

impl Default for Policies {
    fn default() -> Self {
        Self { by_name: HashMap::default(), unknown: Answers::new(&metrics::NONE.into(), []) }
    }
}

impl Policies {
    /// Compiles all policies or none; the error names the first that is wrong.
    pub fn compile(policies: &[proto::extauth::Policy], resources: &Resources) -> Result<Self, Error> {
        let mut compiled = Self::default();
        for (index, policy) in policies.iter().enumerate() {
            let rule = compiled.rule(policy, resources);
            let rule = rule.map_err(|source| Error { policy: policy.name.clone(), index, source })?;
            compiled.insert(&policy.name, rule);
        }
        Ok(compiled)
    }

    /// Compiles every policy by itself: one that is wrong denies each request of its routes, says why in the log, and is
    /// named in the errors; the others are not concerned.
    pub fn compile_each(policies: &[proto::extauth::Policy], resources: &Resources) -> (Self, Vec<Error>) {
        let mut compiled = Self::default();
        let mut errors = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            let rule = compiled.rule(policy, resources).unwrap_or_else(|source| {
                let reason = source.to_string();
                errors.push(Error { policy: policy.name.clone(), index, source });
                Rule::Broken(reason)
            });
            compiled.insert(&policy.name, rule);
        }
        (compiled, errors)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none, so that everything is denied.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Answers one question. What no policy allows is denied.
    pub async fn check(&self, check: &Check<'_>) -> Verdict {
        let policy = check.policy().and_then(|name| self.by_name.get(name));
        let (method, verdict) = match policy {
            Some(policy) => policy.check(check).await,
            None => (metrics::NONE, Verdict::Deny(forbidden("the route names no known policy"))),
        };
        policy.map_or(&self.unknown, |policy| &policy.answers).count(method, &verdict);
        if let Verdict::Deny(denial) = &verdict {
            tracing::debug!(
                policy = policy.map(|policy| &*policy.name),
                method,
                status = denial.status.as_u16(),
                reason = denial.reason,
                "denied"
            );
        }
        verdict
    }

    fn rule(&self, policy: &proto::extauth::Policy, resources: &Resources) -> Result<Rule, Invalid> {
        if policy.name.is_empty() {
            return Err(Invalid::new("name", "is empty"));
        }
        if self.by_name.contains_key(policy.name.as_str()) {
            return Err(Invalid::new("name", "another policy has the same name"));
        }
        if policy.methods.is_empty() {
            return Err(Invalid::new("methods", "is empty: a policy needs at least one method"));
        }
        let compile = |(index, method): (usize, &proto::extauth::Method)| {
            let kind = match method {
                proto::extauth::Method::ApiKey(_) => "apiKey",
                proto::extauth::Method::Jwt(_) => "jwt",
            };
            Method::compile(method, resources).map_err(|Invalid { field, problem }| Invalid {
                field: format!("methods[{index}].{kind}.{field}"),
                problem,
            })
        };
        let methods = policy.methods.iter().enumerate().map(compile).collect::<Result<Vec<_>, _>>()?;
        let identity = methods.iter().flat_map(Method::identity).collect();
        let providers = methods.iter().flat_map(Method::providers).collect::<Vec<_>>();
        let names = Names { methods: &deciding(&methods, policy.optional), providers: &providers };
        let rules = Rules::compile(policy, names)?;
        Ok(Rule::Methods { methods, optional: policy.optional, rules, identity })
    }

    fn insert(&mut self, name: &str, rule: Rule) {
        let name: Arc<str> = name.into();
        let answers = Answers::new(&name, rule.deciding());
        self.by_name.insert(Arc::clone(&name), Policy { name, rule, answers });
    }
}

impl Rule {
    /// Names of all that may decide.
    fn deciding(&self) -> Vec<&'static str> {
        match self {
            Self::Methods { methods, optional, .. } => deciding(methods, *optional),
            Self::Broken(_) => Vec::new(),
        }
    }
}

impl Policy {
    /// The verdict, and the method that reached it.
    async fn check(&self, check: &Check<'_>) -> (&'static str, Verdict) {
        let (methods, optional, rules, identity) = match &self.rule {
            Rule::Methods { methods, optional, rules, identity } => (methods, *optional, rules, identity),
            Rule::Broken(reason) => return (metrics::NONE, Verdict::Deny(broken(reason))),
        };
        let (method, mut grant) = match decide(methods, optional, check).await {
            Ok(allowed) => allowed,
            Err((method, denial)) => return (method, Verdict::Deny(denial)),
        };
        if let Some(rules) = rules
            && let Err(reason) = authorize(rules, check, method, &grant)
        {
            return (method, Verdict::Deny(refusal(methods, check, method, reason)));
        }
        for method in methods {
            method.strip(check, &mut grant.removal);
        }
        grant.metadata.insert("method".to_owned(), text(method));
        grant.guard(check, identity.iter());
        grant.settle(check);
        (method, Verdict::Allow(grant))
    }
}

/// The first method whose credential is there decides; a credential that is another method's business is left to it, but
/// never makes a request anonymous.
async fn decide(
    methods: &[Method],
    optional: bool,
    check: &Check<'_>,
) -> Result<(&'static str, Grant), (&'static str, Denial)> {
    let mut left = None;
    for method in methods {
        match method.check(check).await {
            Ok(Some(grant)) => return Ok((method.name(), grant)),
            Ok(None) => {}
            Err(error) => {
                let denial = (method.name(), error.denial(check));
                if !error.foreign() {
                    return Err(denial);
                }
                left.get_or_insert(denial);
            }
        }
    }
    match left {
        Some(denial) => Err(denial),
        None if optional => Ok((metrics::ANONYMOUS, Grant::default())),
        None => Err((metrics::NONE, missing(methods, check))),
    }
}

/// No credential at all: the first method speaks, and every method says how it wants to be asked.
fn missing(methods: &[Method], check: &Check<'_>) -> Denial {
    let denials = methods.iter().map(|method| method.missing(check));
    let joined = denials.reduce(|mut first, next| {
        let new =
            next.challenges.into_iter().filter(|challenge| !first.challenges.contains(challenge)).collect::<Vec<_>>();
        first.challenges.extend(new);
        first
    });
    joined.unwrap_or_else(|| forbidden("the policy has no method"))
}

/// Whether the rules let somebody pass whom a method let in; else why not.
fn authorize(rules: &Rules, check: &Check<'_>, method: &str, grant: &Grant) -> Result<(), String> {
    let subject = rules.subject(check, method, &grant.metadata).map_err(|error| error.to_string())?;
    match rules.decide(&subject) {
        Ok(Decision { action: Action::Allow, .. }) => Ok(()),
        Ok(Decision { rule: Some(rule), .. }) => Err(format!("the rule `{rule}` denies it")),
        Ok(Decision { rule: None, .. }) => Err("no rule allows it".to_owned()),
        Err((rule, error)) => Err(format!("the rule `{rule}` cannot be decided: {error}")),
    }
}

/// Whoever said who they are is told that it does not help here, and whoever did not, how to.
fn refusal(methods: &[Method], check: &Check<'_>, method: &str, reason: String) -> Denial {
    if method == metrics::ANONYMOUS { Denial { reason, ..missing(methods, check) } } else { forbidden(&reason) }
}

/// Names of all that may decide.
fn deciding(methods: &[Method], optional: bool) -> Vec<&'static str> {
    methods.iter().map(Method::name).chain(optional.then_some(metrics::ANONYMOUS)).collect()
}

/// The answer when it cannot even be said what would be asked for.
pub fn forbidden(reason: &str) -> Denial {
    Denial {
        status: StatusCode::FORBIDDEN,
        challenges: Vec::new(),
        body: "Forbidden".to_owned(),
        reason: reason.to_owned(),
    }
}

fn broken(reason: &str) -> Denial {
    Denial {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        challenges: Vec::new(),
        body: "Internal Server Error".to_owned(),
        reason: format!("the policy is not valid: {reason}"),
    }
}

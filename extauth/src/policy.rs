//! Policies: for one route, which methods are tried and what becomes of the request. The one place where errors become
//! denials.

mod explain;

use std::collections::HashMap;
use std::sync::Arc;

use http::header::{AUTHORIZATION, SET_COOKIE};
use http::{HeaderName, StatusCode};
use proto::extauth::Action;

use crate::check::Check;
use crate::decision::{self, Decision};
use crate::denied;
use crate::method::{Invalid, Method};
use crate::metrics::{self, Answers};
use crate::resources::Resources;
use crate::results::Results;
use crate::routes::Routes;
use crate::rules::{Names, Rules};
use crate::verdict::{Denial, Grant, Verdict};

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
    /// For requests to which Envoy names none.
    routes: Routes,
    decisions: decision::Options,
    /// Answers to routes that name none of them.
    unknown: Answers,
}

#[derive(Debug)]
struct Policy {
    name: Arc<str>,
    rule: Rule,
    denied: denied::Answers,
    shadow: bool,
    answers: Answers,
}

#[derive(Debug)]
enum Rule {
    /// What it says is enforced.
    Guard(Box<Guard>),
    /// It did not compile: nothing passes until it does.
    Broken(String),
}

#[derive(Debug)]
struct Guard {
    /// In the order in which they are tried.
    methods: Vec<Method>,
    optional: bool,
    rules: Option<Rules>,
    results: Option<Results>,
    /// Every header that may tell the upstream who a client is.
    identity: Vec<HeaderName>,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            by_name: HashMap::default(),
            routes: Routes::default(),
            decisions: decision::Options::default(),
            unknown: Answers::new(&metrics::NONE.into(), []),
        }
    }
}

impl Policies {
    /// Compiles all policies or none; the error names the first that is wrong.
    pub fn compile(policies: &[proto::extauth::Policy], resources: &Resources) -> Result<Self, Error> {
        let mut compiled = Self { decisions: resources.decisions.clone(), ..Self::default() };
        for (index, policy) in policies.iter().enumerate() {
            let error = |source| Error { policy: policy.name.clone(), index, source };
            let rule = compiled.rule(policy, resources).map_err(error)?;
            compiled.insert(policy, rule).map_err(error)?;
        }
        Ok(compiled)
    }

    /// Compiles every policy by itself: one that is wrong denies each request of its routes, says why in the log, and is
    /// named in the errors; the others are not concerned.
    pub fn compile_each(policies: &[proto::extauth::Policy], resources: &Resources) -> (Self, Vec<Error>) {
        let mut compiled = Self { decisions: resources.decisions.clone(), ..Self::default() };
        let mut errors = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            let error = |source| Error { policy: policy.name.clone(), index, source };
            let rule = compiled.rule(policy, resources).unwrap_or_else(|source| {
                let reason = source.to_string();
                errors.push(error(source));
                Rule::Broken(reason)
            });
            errors.extend(compiled.insert(policy, rule).err().map(error));
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
        let policy = self.find(check);
        let mut decision = match policy {
            Some(policy) => policy.decide(check).await,
            None => unknown(check),
        };
        policy.map_or(&self.unknown, |policy| &policy.answers).count(
            decision.method,
            &decision.verdict,
            decision.shadow,
        );
        self.decisions.note(&mut decision, check);
        match policy {
            Some(policy) if decision.shadow => policy.spare(decision.verdict, check),
            _ => decision.verdict,
        }
    }

    /// The policy that Envoy names; where it names none, that of the host and the path.
    fn find(&self, check: &Check<'_>) -> Option<&Policy> {
        match check.policy() {
            Some(name) => self.by_name.get(name),
            None => self.routes.find(check).and_then(|name| self.by_name.get(name)),
        }
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
                proto::extauth::Method::Basic(_) => "basic",
                proto::extauth::Method::Jwt(_) => "jwt",
                proto::extauth::Method::Oidc(_) => "oidc",
                proto::extauth::Method::Introspection(_) => "introspection",
                proto::extauth::Method::ClientCertificate(_) => "clientCertificate",
                proto::extauth::Method::Kubernetes(_) => "kubernetes",
            };
            Method::compile(method, resources).map_err(|Invalid { field, problem }| Invalid {
                field: format!("methods[{index}].{kind}.{field}"),
                problem,
            })
        };
        let methods = policy.methods.iter().enumerate().map(compile).collect::<Result<Vec<_>, _>>()?;
        let results = policy.results.as_ref().map(Results::compile).transpose()?;
        let results_identity = results.iter().flat_map(Results::identity);
        let identity = methods.iter().flat_map(Method::identity).chain(results_identity).collect();
        let providers = methods.iter().flat_map(Method::providers).collect::<Vec<_>>();
        let names = Names { methods: &deciding(&methods, policy.optional), providers: &providers };
        let rules = Rules::compile(policy, names)?;
        policy.denied.as_ref().map(denied::Answers::compile).transpose()?;
        Ok(Rule::Guard(Box::new(Guard { methods, optional: policy.optional, rules, results, identity })))
    }

    /// Puts a policy into its places, whatever is wrong with it: no other may take them over.
    fn insert(&mut self, policy: &proto::extauth::Policy, rule: Rule) -> Result<(), Invalid> {
        let name: Arc<str> = policy.name.as_str().into();
        let answers = Answers::new(&name, rule.deciding());
        let denied =
            policy.denied.as_ref().and_then(|denied| denied::Answers::compile(denied).ok()).unwrap_or_default();
        let shadow = policy.shadow && matches!(rule, Rule::Guard(_));
        self.by_name.insert(Arc::clone(&name), Policy { name: Arc::clone(&name), rule, denied, shadow, answers });
        self.routes.add(&name, &policy.matches)
    }
}

impl Rule {
    /// Names of all that may decide.
    fn deciding(&self) -> Vec<&'static str> {
        match self {
            Self::Guard(guard) => deciding(&guard.methods, guard.optional),
            Self::Broken(_) => Vec::new(),
        }
    }
}

impl Policy {
    async fn decide(&self, check: &Check<'_>) -> Decision<'_> {
        let (method, rule, verdict) = match &self.rule {
            Rule::Guard(guard) => guard.check(check).await,
            Rule::Broken(reason) => (metrics::NONE, None, Verdict::Deny(broken(reason))),
        };
        let verdict = match verdict {
            Verdict::Deny(denial) => Verdict::Deny(self.denied.word(denial, check)),
            other => other,
        };
        let shadow = self.shadow && !matches!(verdict, Verdict::Allow(_));
        Decision { policy: Some(&self.name), method, rule, shadow, verdict }
    }

    /// What becomes of a request that would be denied, and is not: it passes as nobody's.
    fn spare(&self, verdict: Verdict, check: &Check<'_>) -> Verdict {
        match &self.rule {
            Rule::Guard(guard) => {
                let mut grant = Grant::default();
                if let Verdict::Deny(Denial { headers, .. }) = verdict {
                    // The browser's own: a session that was renewed, though it would let nobody in.
                    grant.response_headers.extend(headers.into_iter().filter(|(name, _)| name == SET_COOKIE));
                }
                Verdict::Allow(guard.finish(metrics::ANONYMOUS, grant, check))
            }
            Rule::Broken(_) => verdict,
        }
    }
}

impl Guard {
    /// The verdict, with the method and the rule that reached it.
    async fn check(&self, check: &Check<'_>) -> (&'static str, Option<&str>, Verdict) {
        let (method, mut grant) = match decide(&self.methods, self.optional, check).await {
            Ok(allowed) => allowed,
            Err((method, verdict)) => return (method, None, verdict),
        };
        if self.rules.is_some() || self.results.is_some() {
            grant.unshare();
        }
        let rule = match self.rules.as_ref().map_or(Ok(None), |rules| authorize(rules, check, method, &grant)) {
            Ok(rule) => rule,
            Err((rule, reason)) => {
                let mut verdict = refusal(&self.methods, check, method, reason).await;
                // A session that was renewed was so for the requests that will be allowed, too.
                grant.response_headers.drain(..).for_each(|(name, value)| verdict.tell(name, value));
                return (method, rule, verdict);
            }
        };
        if let Some(results) = &self.results {
            let told = grant.response_headers.len();
            if let Err(error) = results.apply(check, method, &mut grant) {
                let mut verdict = Verdict::Deny(forbidden(&error.to_string()));
                grant.response_headers.drain(..told).for_each(|(name, value)| verdict.tell(name, value));
                return (method, rule, verdict);
            }
        }
        (method, rule, Verdict::Allow(self.finish(method, grant, check)))
    }

    /// Takes out of the request what the upstream must not see, or must not take for ours.
    fn finish(&self, method: &'static str, mut grant: Grant, check: &Check<'_>) -> Grant {
        let vouched = self.methods.iter().any(|known| known.name() == method && known.vouches_for_authorization());
        for method in &self.methods {
            method.strip(check, &mut grant.removal);
        }
        grant.method = Some(method);
        // A token that a method has verified is no less than one that another method would have put there.
        grant.guard(check, self.identity.iter().filter(|name| !(vouched && **name == AUTHORIZATION)));
        grant.settle(check);
        grant
    }
}

/// The first method whose credential is there decides; a credential that is another method's business is left to it, but
/// never makes a request anonymous. Without any, a person's browser is sent where there is one.
async fn decide(
    methods: &[Method],
    optional: bool,
    check: &Check<'_>,
) -> Result<(&'static str, Grant), (&'static str, Verdict)> {
    for method in methods {
        if let Some(response) = method.respond(check).await {
            return Err((method.name(), Verdict::Respond(response)));
        }
    }
    let mut left = None;
    for method in methods {
        match method.check(check).await {
            Ok(Some(grant)) => return Ok((method.name(), grant)),
            Ok(None) => {}
            Err(error) => {
                let denial = (method.name(), error.denial(check));
                if !error.foreign() {
                    return Err((denial.0, Verdict::Deny(denial.1)));
                }
                left.get_or_insert(denial);
            }
        }
    }
    if optional && left.is_none() {
        return Ok((metrics::ANONYMOUS, Grant::default()));
    }
    if let Some(answer) = login(methods, check).await {
        return Err(answer);
    }
    let (method, denial) = left.unwrap_or_else(|| (metrics::NONE, missing(methods, check)));
    Err((method, Verdict::Deny(denial)))
}

/// The way to a credential, if the client can be sent there and a method has one.
async fn login(methods: &[Method], check: &Check<'_>) -> Option<(&'static str, Verdict)> {
    for method in methods {
        if let Some(response) = method.login(check).await {
            return Some((method.name(), Verdict::Respond(response)));
        }
    }
    None
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

/// The rule by which somebody may pass whom a method let in; else which one denies, and why.
fn authorize<'r>(
    rules: &'r Rules,
    check: &Check<'_>,
    method: &str,
    grant: &Grant,
) -> Result<Option<&'r str>, (Option<&'r str>, String)> {
    let subject = rules.subject(check, method, &grant.metadata).map_err(|error| (None, error.to_string()))?;
    let ruling = rules.decide(&subject);
    let ruling =
        ruling.map_err(|(rule, error)| (Some(rule), format!("the rule `{rule}` cannot be decided: {error}")))?;
    match (ruling.action, ruling.rule) {
        (Action::Allow, rule) => Ok(rule),
        (Action::Deny, Some(rule)) => Err((Some(rule), format!("the rule `{rule}` denies it"))),
        (Action::Deny, None) => Err((None, "no rule allows it".to_owned())),
    }
}

/// Whoever said who they are is told that it does not help here, and whoever did not, how to.
async fn refusal(methods: &[Method], check: &Check<'_>, method: &str, reason: String) -> Verdict {
    if method != metrics::ANONYMOUS {
        return Verdict::Deny(forbidden(&reason));
    }
    let login = login(methods, check).await;
    login.map_or_else(|| Verdict::Deny(Denial { reason, ..missing(methods, check) }), |(_, answer)| answer)
}

/// Names of all that may decide.
fn deciding(methods: &[Method], optional: bool) -> Vec<&'static str> {
    methods.iter().map(Method::name).chain(optional.then_some(metrics::ANONYMOUS)).collect()
}

fn unknown(check: &Check<'_>) -> Decision<'static> {
    let denial = denied::Answers::default().word(forbidden("no policy is known for the request"), check);
    Decision { policy: None, method: metrics::NONE, rule: None, shadow: false, verdict: Verdict::Deny(denial) }
}

/// The answer when it cannot even be said what would be asked for.
pub fn forbidden(reason: &str) -> Denial {
    Denial {
        status: StatusCode::FORBIDDEN,
        challenges: Vec::new(),
        headers: Vec::new(),
        body: "Forbidden".to_owned(),
        reason: reason.to_owned(),
    }
}

fn broken(reason: &str) -> Denial {
    Denial {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        challenges: Vec::new(),
        headers: Vec::new(),
        body: "Internal Server Error".to_owned(),
        reason: format!("the policy is not valid: {reason}"),
    }
}

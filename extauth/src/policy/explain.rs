//! The same decision with all that led to it, and without anything that comes of it.

use envoy_types::pb::google::protobuf::value::Kind;
use http::StatusCode;

use super::{Guard, Policies, Rule, authorize, missing};
use crate::check::Check;
use crate::explain::{Answer, Explanation, Step};
use crate::metrics;
use crate::rules::{Fit, Rules};
use crate::verdict::{Denial, Grant};

impl Policies {
    /// Says what becomes of a request and why. Every method and every rule is asked, also those that would not be reached.
    pub async fn explain(&self, check: Check<'_>) -> Explanation {
        let check = &check.rehearse();
        let policy = self.find(check);
        let found_by = match (check.policy(), policy) {
            (_, None) => "nothing",
            (Some(_), _) => "the context extension `policy`",
            (None, _) => "host and path",
        };
        let mut explanation = Explanation {
            policy: policy.map(|policy| policy.name.to_string()),
            found_by,
            shadow: policy.is_some_and(|policy| policy.shadow),
            methods: Vec::new(),
            rules: Vec::new(),
            answer: Answer::denied(StatusCode::FORBIDDEN, "no policy is known for the request"),
        };
        match policy.map(|policy| &policy.rule) {
            Some(Rule::Guard(guard)) => guard.explain(check, &mut explanation).await,
            Some(Rule::Broken(reason)) => {
                explanation.answer = Answer::denied(StatusCode::INTERNAL_SERVER_ERROR, &format!("not valid: {reason}"));
            }
            None => {}
        }
        explanation
    }
}

impl Guard {
    async fn explain(&self, check: &Check<'_>, explanation: &mut Explanation) {
        let (method, mut grant) = match self.identify(check, &mut explanation.methods).await {
            Ok(identified) => identified,
            Err(denial) => return explanation.answer = Answer::denied(denial.status, &denial.reason),
        };
        grant.unshare();
        if let Some(rules) = &self.rules {
            explain_rules(rules, check, method, &grant, &mut explanation.rules);
            if let Err((_, reason)) = authorize(rules, check, method, &grant) {
                let anonymous = method == metrics::ANONYMOUS;
                let status = if anonymous { missing(&self.methods, check).status } else { StatusCode::FORBIDDEN };
                return explanation.answer = Answer::denied(status, &reason);
            }
        }
        if let Some(results) = &self.results
            && let Err(error) = results.apply(check, method, &mut grant)
        {
            return explanation.answer = Answer::denied(StatusCode::FORBIDDEN, &error.to_string());
        }
        explanation.answer = Answer::allowed(&self.finish(method, grant, check));
    }

    /// What each method says, and whom they let in.
    async fn identify(&self, check: &Check<'_>, steps: &mut Vec<Step>) -> Result<(&'static str, Grant), Denial> {
        let (mut decided, mut left) = (None, None);
        for method in &self.methods {
            let outcome = match method.check(check).await {
                Ok(None) => "the request has no such credential".to_owned(),
                Ok(Some(grant)) => {
                    let says = client(&grant)
                        .map_or_else(|| "lets it in".to_owned(), |name| format!("lets it in as `{name}`"));
                    decided.get_or_insert(Ok((method.name(), grant)));
                    says
                }
                Err(error) => {
                    let denial = error.denial(check);
                    let says = format!(
                        "{}: {}",
                        if error.foreign() { "leaves it to others" } else { "denies" },
                        denial.reason
                    );
                    if error.foreign() {
                        left.get_or_insert(denial);
                    } else {
                        decided.get_or_insert(Err(denial));
                    }
                    says
                }
            };
            steps.push(Step { name: method.name().to_owned(), outcome });
        }
        match (decided, left) {
            (Some(decided), _) => decided,
            (None, Some(denial)) => Err(denial),
            (None, None) if self.optional => {
                steps.push(Step { name: metrics::ANONYMOUS.to_owned(), outcome: "lets it in".to_owned() });
                Ok((metrics::ANONYMOUS, Grant::default()))
            }
            (None, None) => Err(missing(&self.methods, check)),
        }
    }
}

fn explain_rules(rules: &Rules, check: &Check<'_>, method: &str, grant: &Grant, steps: &mut Vec<Step>) {
    let subject = match rules.subject(check, method, &grant.metadata) {
        Ok(subject) => subject,
        Err(error) => {
            return steps.push(Step { name: "all".to_owned(), outcome: format!("cannot be decided: {error}") });
        }
    };
    for (name, action, fit) in rules.fits(&subject) {
        let outcome = match fit {
            Ok(Fit::Fits) => format!("fits, and would {action:?} it").to_lowercase(),
            Ok(Fit::Fails(kind)) => format!("does not fit: `{kind}` does not hold"),
            Ok(Fit::Excepted) => "does not fit: what stands under `unless` holds".to_owned(),
            Err(error) => format!("cannot be decided: {error}"),
        };
        steps.push(Step { name: name.to_owned(), outcome });
    }
}

fn client(grant: &Grant) -> Option<&str> {
    match grant.metadata.get("client")?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

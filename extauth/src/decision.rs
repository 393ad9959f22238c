//! One line for each decision: who may do what, and why. For auditors, and for those who look for what went wrong.

use envoy_types::pb::google::protobuf::Value;
use envoy_types::pb::google::protobuf::value::Kind;
use http::HeaderName;

use crate::check::Check;
use crate::verdict::Verdict;

/// Bytes of a host or a path that go into a line.
const LONGEST: usize = 512;

/// Which decisions are logged, and how a client can refer to one.
#[derive(Clone, Debug)]
pub struct Options {
    /// Share of the allowed requests whose decision is logged, from 0 to 1.
    pub sample_allow: f64,
    /// Share of all others.
    pub sample_deny: f64,
    /// Header of the answer that carries the decision's id.
    pub header: Option<HeaderName>,
}

impl Default for Options {
    fn default() -> Self {
        Self { sample_allow: 0.0, sample_deny: 1.0, header: None }
    }
}

/// A decision that was made.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    /// The policy's name, if there is one.
    pub policy: Option<&'a str>,
    /// The method that decided.
    pub method: &'static str,
    /// The rule that decided.
    pub rule: Option<&'a str>,
    /// Whether the policy only says what it would deny.
    pub shadow: bool,
    /// What Envoy is told, or would be.
    pub verdict: Verdict,
}

impl Options {
    /// Logs the decision, if it is its turn, and puts its id where the client can read it.
    pub fn note(&self, decision: &mut Decision<'_>, check: &Check<'_>) {
        let share = if matches!(decision.verdict, Verdict::Allow(_)) { self.sample_allow } else { self.sample_deny };
        let sampled = share > 0.0 && (share >= 1.0 || rand::random::<f64>() < share);
        if !sampled && self.header.is_none() {
            return;
        }
        let id = format!("{:032x}", rand::random::<u128>());
        if sampled {
            decision.log(&id, check);
        }
        if let Some(header) = &self.header {
            decision.verdict.tell(header.clone(), id);
        }
    }
}

impl Decision<'_> {
    /// All that comes from outside is written as a quoted text, in which line breaks and escapes are no such any more.
    fn log(&self, id: &str, check: &Check<'_>) {
        let (verdict, status, reason) = match &self.verdict {
            Verdict::Allow(_) => ("allow", 200, ""),
            Verdict::Deny(denial) if self.shadow => ("shadow_deny", denial.status.as_u16(), denial.reason.as_str()),
            Verdict::Deny(denial) => ("deny", denial.status.as_u16(), denial.reason.as_str()),
            Verdict::Respond(response) => ("respond", response.status.as_u16(), response.reason.as_str()),
        };
        let client = match &self.verdict {
            Verdict::Allow(grant) => grant.metadata.get("client").and_then(text),
            Verdict::Deny(_) | Verdict::Respond(_) => None,
        };
        let source = check.source().map(|address| address.to_string());
        tracing::info!(
            target: "extauth::decision",
            id,
            verdict,
            policy = self.policy,
            method = self.method,
            rule = self.rule,
            status,
            reason,
            client,
            source,
            request_method = cut(check.method()),
            host = cut(check.host()),
            // Queries may hold keys.
            path = cut(check.target().split(['?', '#']).next().unwrap_or_default()),
            request_id = cut(check.request_id()),
            "decision"
        );
    }
}

fn text(value: &Value) -> Option<&str> {
    match value.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

//! Names and labels of what is counted. Label values come from the configuration only, never from a request.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram, SharedString, counter, gauge, histogram};

use crate::verdict::Verdict;

/// Answers by policy, deciding method and verdict (`allow`, `deny`, `respond`, or `shadow_deny` for what is only counted).
pub const CHECKS: &str = "extauth_checks_total";
/// Attempts to load a configuration by result (`success` or `failure`).
pub const RELOADS: &str = "extauth_config_reloads_total";
/// Policies in force.
pub const POLICIES: &str = "extauth_policies";

/// Fetches of a published key set by its address and result (`success` or `failure`).
pub const KEY_SET_FETCHES: &str = "extauth_jwks_fetches_total";
/// Seconds since 1970 at which a published key set was fetched last, by its address.
pub const KEY_SET_FETCHED: &str = "extauth_jwks_last_fetched_seconds";
/// Usable keys of a published key set, by its address; 0 until it was fetched once.
pub const KEY_SET_KEYS: &str = "extauth_jwks_keys";

/// API keys of a set in the store that this replica knows, by set.
pub const KEYS: &str = "extauth_keys";
/// Attempts with wrong credentials that counted, and attempts that were refused for too many of them, by result (`failed` or
/// `refused`).
pub const ATTEMPTS: &str = "extauth_attempts_total";
/// Logins by event: `started`, and how they ended: `succeeded`, `over` (not known, any more), `refused`, `unavailable`, or
/// `too_many` before they started.
pub const LOGINS: &str = "extauth_logins_total";
/// What became of sessions, by event: `started`, `renewed`, `not_renewed` (the provider said no), `unavailable` (it did not
/// answer), `logged_out` or `revoked`.
pub const SESSIONS: &str = "extauth_sessions_total";
/// Tokens that somebody else was asked about, by method (`introspection` or `kubernetes`), provider and result: `active`,
/// `inactive`, `failed`, or `refused` without a question.
pub const QUESTIONS: &str = "extauth_questions_total";
/// How long the answers took, in seconds, by method and provider.
pub const QUESTION_SECONDS: &str = "extauth_question_seconds";
/// 1 while nobody is asked, because too many questions failed, by method and provider.
pub const BREAKER: &str = "extauth_question_breaker_open";
/// Calls of the store that failed, by operation.
pub const STORE_ERRORS: &str = "extauth_store_errors_total";

/// Label value where there is no policy or method to name.
pub const NONE: &str = "none";
/// Label value, and method in the metadata, of requests without a credential that may pass.
pub const ANONYMOUS: &str = "anonymous";

/// The counters of one policy's answers, looked up when it is compiled and not at each check.
#[derive(Debug)]
pub(crate) struct Answers(Vec<Deciding>);

#[derive(Debug)]
struct Deciding {
    method: &'static str,
    allowed: Counter,
    denied: Counter,
    shadow: Counter,
    responded: Counter,
}

impl Answers {
    /// Starts to count for a policy; `methods` are all that may decide besides [`NONE`].
    pub(crate) fn new(policy: &Arc<str>, methods: impl IntoIterator<Item = &'static str>) -> Self {
        let counter = |method, verdict| {
            let policy = SharedString::from_shared(Arc::clone(policy));
            counter!(CHECKS, "policy" => policy, "method" => method, "verdict" => verdict)
        };
        let deciding = |method| Deciding {
            method,
            allowed: counter(method, "allow"),
            denied: counter(method, "deny"),
            shadow: counter(method, "shadow_deny"),
            responded: counter(method, "respond"),
        };
        Self(methods.into_iter().chain([NONE]).map(deciding).collect())
    }

    /// Counts an answer that `method` decided.
    pub(crate) fn count(&self, method: &str, verdict: &Verdict, shadow: bool) {
        let Some(deciding) = self.0.iter().find(|deciding| deciding.method == method) else { return };
        match verdict {
            _ if shadow => deciding.shadow.increment(1),
            Verdict::Allow(_) => deciding.allowed.increment(1),
            Verdict::Deny(_) => deciding.denied.increment(1),
            Verdict::Respond(_) => deciding.responded.increment(1),
        }
    }
}

/// The status of one published key set.
#[derive(Debug)]
pub(crate) struct KeySet {
    succeeded: Counter,
    failed: Counter,
    fetched: Gauge,
    keys: Gauge,
}

impl KeySet {
    pub(crate) fn new(address: &str) -> Self {
        let address = SharedString::from_shared(address.into());
        let counter = |result| counter!(KEY_SET_FETCHES, "uri" => address.clone(), "result" => result);
        Self {
            succeeded: counter("success"),
            failed: counter("failure"),
            fetched: gauge!(KEY_SET_FETCHED, "uri" => address.clone()),
            keys: gauge!(KEY_SET_KEYS, "uri" => address.clone()),
        }
    }

    pub(crate) fn fetched(&self, keys: usize) {
        self.succeeded.increment(1);
        self.fetched.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        // There are a hundred at most.
        self.keys.set(u32::try_from(keys).unwrap_or(u32::MAX));
    }

    pub(crate) fn failed(&self) {
        self.failed.increment(1);
    }
}

/// Attempts with wrong credentials.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    pub(crate) failed: Counter,
    pub(crate) refused: Counter,
}

impl Default for Attempts {
    fn default() -> Self {
        let counter = |result| counter!(ATTEMPTS, "result" => result);
        Self { failed: counter("failed"), refused: counter("refused") }
    }
}

/// Questions to one authority.
pub(crate) struct Questions {
    pub(crate) active: Counter,
    pub(crate) inactive: Counter,
    pub(crate) failed: Counter,
    pub(crate) refused: Counter,
    pub(crate) seconds: Histogram,
    pub(crate) breaker: Gauge,
}

impl Questions {
    pub(crate) fn new(method: &'static str, provider: &str) -> Self {
        let provider = SharedString::from_shared(provider.into());
        let counter =
            |result| counter!(QUESTIONS, "method" => method, "provider" => provider.clone(), "result" => result);
        Self {
            active: counter("active"),
            inactive: counter("inactive"),
            failed: counter("failed"),
            refused: counter("refused"),
            seconds: histogram!(QUESTION_SECONDS, "method" => method, "provider" => provider.clone()),
            breaker: gauge!(BREAKER, "method" => method, "provider" => provider.clone()),
        }
    }
}

/// The keys of a set in the store.
pub(crate) fn keys(set: &str) -> Gauge {
    gauge!(KEYS, "set" => set.to_owned())
}

/// Counts an event of a login.
pub(crate) fn login(event: &'static str) {
    counter!(LOGINS, "event" => event).increment(1);
}

/// Counts an event of a session.
pub(crate) fn session(event: &'static str) {
    counter!(SESSIONS, "event" => event).increment(1);
}

/// Counts a call of the store that failed.
pub(crate) fn store_failed(operation: &'static str) {
    counter!(STORE_ERRORS, "operation" => operation).increment(1);
}

/// Counts an attempt to load a configuration.
pub(crate) fn reloaded(success: bool) {
    counter!(RELOADS, "result" => if success { "success" } else { "failure" }).increment(1);
}

/// Says how many policies are in force.
pub(crate) fn in_force(policies: usize) {
    // Nobody has more policies than a double can count.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
    gauge!(POLICIES).set(policies as f64);
}
